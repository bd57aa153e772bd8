"""What the arguments of predict mean, and the order, names and ids of what is read."""

import io
import os

import cv2
import numpy as np
import pytest
from PIL import Image

from graphpose.errors import GraphposeError
from graphpose.inference.frames import read_frames
from graphpose.inference.sources import Video, find_sources
from tests.inference.films import number_image, write_film


@pytest.fixture
def folder(tmp_path):
    """Two images of one name, others, and what is no image."""
    root = tmp_path / "photos"
    for name in ("a/x.jpg", "b/x.jpg", "b/deep/y.PNG", "z.png", ".hidden/h.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / name), number_image(1))
    (root / "notes.md").write_text("no image")
    (root / "b" / "table.csv").write_text("no image")
    (root / "b" / "table2.csv").write_text("no image")
    write_film(root / "film.mp4", [number_image(i) for i in range(5)])
    return root


def names(sources):
    return [item.name for item in sources.items]


def frames(sources, **options):
    return list(read_frames(sources.items, lambda image: image.shape, **options))


def test_a_folder_is_taken_with_all_below_it_and_says_what_it_skipped(folder):
    sources = find_sources([folder])
    assert names(sources) == ["a/x.jpg", "b/deep/y.PNG", "b/x.jpg", "film.mp4", "z.png"]
    assert sources.skipped == {".csv": 2, ".md": 1}
    assert sources.lines() == ["4 images and 1 video", "skipped in folders, neither image nor video: 2 .csv, 1 .md"]


def test_files_of_one_name_keep_their_folders_and_a_file_named_twice_counts_once(folder):
    sources = find_sources([folder / "a" / "x.jpg", folder / "b" / "x.jpg", folder / "a" / ".." / "a" / "x.jpg"])
    assert names(sources) == ["a/x.jpg", "b/x.jpg"]
    assert sources.repeated == 1
    assert names(find_sources([folder / "a" / "x.jpg"])) == ["x.jpg"]


def test_patterns_lists_urls_and_cameras(folder, tmp_path, monkeypatch):
    assert names(find_sources([f"{folder}/**/*.jpg"])) == ["a/x.jpg", "b/x.jpg"]
    (folder / "list.txt").write_text("# a comment\n\nb/x.jpg\nz.png\nmissing.jpg\n")
    monkeypatch.chdir(tmp_path)
    listed = find_sources([folder / "list.txt"])
    assert names(listed)[:2] == ["photos/b/x.jpg", "photos/z.png"]  # below the folder that holds all three
    assert find_sources(["0", "rtsp://host:8554/door?x=1"]).items == [
        Video(0, "camera0"),
        Video("rtsp://host:8554/door?x=1", "host_8554_door_x_1"),
    ]


def test_standard_input_is_an_image_or_a_list(folder):
    data = (folder / "a" / "x.jpg").read_bytes()
    [item] = find_sources(["-"], standard_input=io.BytesIO(data)).items
    assert item.name == "stdin"
    assert item.read().shape == (48, 64, 3)
    paths = f"{folder}/a/x.jpg\n{folder}/b/x.jpg\n".encode()
    assert names(find_sources(["-"], standard_input=io.BytesIO(paths))) == ["a/x.jpg", "b/x.jpg"]


def test_the_folder_of_predictions_is_no_source(folder):
    (folder / "out").mkdir()
    cv2.imwrite(str(folder / "out" / "x.jpg.poses.png"), number_image(1))
    assert "out/x.jpg.poses.png" in names(find_sources([folder]))
    assert "out/x.jpg.poses.png" not in names(find_sources([folder], without=folder / "out"))


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("nothing.jpg", "neither an image nor a folder"),
        ("empty", "holds no image or video"),
        ("empty/*.jpg", "matches no image or video"),
        ("empty.txt", "names no image or video"),
        ("binary.txt", "is not a text with a path in each line"),
    ],
)
def test_what_means_nothing_is_named(tmp_path, monkeypatch, argument, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.txt").write_text("# nobody\n")
    (tmp_path / "binary.txt").write_bytes(b"\0\1\2")
    with pytest.raises(GraphposeError, match=message) as error:
        find_sources([argument])
    assert os.path.basename(argument) in str(error.value)


@pytest.mark.parametrize("threads", [1, 3])
def test_frames_come_in_order_with_ids_that_count_what_cannot_be_read(folder, threads):
    (folder / "b" / "x.jpg").write_bytes((folder / "b" / "x.jpg").read_bytes()[:200])
    found = frames(find_sources([folder]), threads=threads, ahead=2)
    assert [(f.image_id, f.name, f.index) for f in found] == [
        (1, "a/x.jpg", None),
        (2, "b/deep/y.PNG", None),
        (3, "b/x.jpg", None),
        *((4 + i, "film.mp4", i) for i in range(5)),
        (9, "z.png", None),
    ]
    assert "x.jpg cannot be decoded" in str(found[2].error)
    assert all((f.error is None) == (f.prepared == (48, 64, 3)) for f in found)


def test_a_film_keeps_its_rate_its_colours_and_its_order(tmp_path):
    film = write_film(tmp_path / "film.avi", [number_image(i) for i in range(20)], rate=12.0)
    found = frames(find_sources([film]))
    assert {frame.rate for frame in found} == {12.0}
    for i, frame in enumerate(found):
        assert np.abs(frame.image[-8:, -8:].astype(int) - (20 + 10 * i)).mean() < 3
        assert frame.image[5, 5, 0] > frame.image[5, 5, 2] + 15  # red first


def test_a_gif_is_a_film_of_its_frames(tmp_path):
    pictures = [Image.fromarray(number_image(i)) for i in (1, 5, 9)]
    pictures[0].save(tmp_path / "g.gif", save_all=True, append_images=pictures[1:], duration=100)
    found = frames(find_sources([tmp_path / "g.gif"]))
    assert [frame.index for frame in found] == [0, 1, 2]
    assert find_sources([tmp_path / "g.gif"]).items[0].open().rate == pytest.approx(10)


def test_pictures_of_sixteen_bits_and_turned_ones_are_read_as_viewers_show_them(tmp_path):
    cv2.imwrite(str(tmp_path / "deep.png"), (number_image(3).astype(np.uint16) * 257)[..., ::-1])
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(number_image(3)).save(tmp_path / "turned.jpg", exif=exif)
    deep, turned = frames(find_sources([tmp_path]))
    assert np.array_equal(deep.image, number_image(3))
    assert turned.image.shape == (64, 48, 3)


def test_a_film_without_frames_and_one_that_breaks_off_are_named_and_the_others_go_on(tmp_path):
    film = write_film(tmp_path / "b_broken.avi", [number_image(i) for i in range(40)])
    whole = film.read_bytes()
    index = whole.index(b"idx1")
    film.write_bytes(whole[: index // 2])  # MJPG in AVI: frames one after the other
    (tmp_path / "a_empty.mp4").write_bytes(b"no film")
    write_film(tmp_path / "c.avi", [number_image(1)])
    found = frames(find_sources([tmp_path]))
    assert found[0].error is not None
    assert "a_empty.mp4 has no frame that can be read" in str(found[0].error)
    assert [frame.image_id for frame in found] == list(range(1, len(found) + 1))
    assert found[-1].name == "c.avi"
    broken = [frame for frame in found if frame.name == "b_broken.avi"]
    assert 5 < len(broken) < 40
    assert "breaks off after" in str(broken[-1].error)


def test_known_frames_are_passed_over_and_counted(folder):
    sources = find_sources([folder])
    known = {("a/x.jpg", None), ("film.mp4", 0), ("film.mp4", 1)}
    for read_known in (False, True):
        found = frames(sources, known=lambda *key: key in known, read_known=read_known)
        assert [f.image_id for f in found] == list(range(1, 10))
        assert {(f.name, f.index) for f in found if f.known} == known
        assert all(f.prepared is None for f in found if f.known)
        assert [f.image is not None for f in found if f.name == "film.mp4"] == [read_known] * 2 + [True] * 3


def test_the_number_of_frames_is_known_beforehand_where_there_is_an_end(folder):
    assert find_sources([folder]).number_of_frames() == 9
    assert find_sources(["7"]).number_of_frames() is None


@pytest.mark.parametrize("address", [99, "no_video.mp4"])
def test_what_cannot_be_opened_is_one_error_without_lines_of_opencv(tmp_path, monkeypatch, capfd, address):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "no_video.mp4").write_bytes(b"a text")
    before = cv2.utils.logging.getLogLevel()
    with pytest.raises(GraphposeError, match=rf"{address} has no frame that can be read"):
        Video(address, "name").open()
    assert capfd.readouterr() == ("", "")
    assert cv2.utils.logging.getLogLevel() == before
