"""DeepLabCut's CSVs as COCO files: projects made by hand after its documentation and its files."""

import re
from pathlib import Path

import numpy as np
import pytest

from graphpose.cli import main
from graphpose.data.annotations.read import read_annotations
from graphpose.data.check import check_dataset
from graphpose.data.convert.deeplabcut import read_csv
from graphpose.errors import GraphposeError
from graphpose.visualize import save_image

SINGLE = """scorer,ana,ana,ana,ana,ana,ana
bodyparts,snout,snout,leftear,leftear,rightear,rightear
coords,x,y,x,y,x,y
labeled-data/mouse1/img01.png,50.5,20,30,40,70,40
labeled-data/mouse1/img02.png,,,30.25,60,,
"""
MULTI = """scorer,,,ana,ana,ana,ana,ana,ana,ana,ana,ana,ana
individuals,,,m1,m1,m1,m1,m2,m2,m2,m2,single,single
bodyparts,,,snout,snout,tail,tail,snout,snout,tail,tail,corner,corner
coords,,,x,y,x,y,x,y,x,y,x,y
labeled-data,mouse1,img01.png,10,20,40,20,60,30,,,1,1
labeled-data,mouse1,img02.png,,,,,,,,,1,1
"""


def project(folder: Path, content: str, videos: tuple[str, ...] = ("mouse1",)) -> Path:
    """The CSV of each video, with two images of 120 × 80 px."""
    for video in videos:
        place = folder / "labeled-data" / video
        for name in ("img01.png", "img02.png"):
            save_image(place / name, np.zeros((80, 120, 3), np.uint8))
        (place / "CollectedData_ana.csv").write_text(content.replace("mouse1", video))
    return folder / "labeled-data" / videos[0] / "CollectedData_ana.csv"


def convert(folder: Path, source: Path, *options: str) -> int:
    return main(["convert", str(source), "--out", str(folder / "coco"), *options])


def test_every_number_of_a_single_animal_project(tmp_path, capsys):
    path = project(tmp_path, SINGLE)
    assert convert(tmp_path, path) == 0
    out = capsys.readouterr().out
    assert f"{tmp_path / 'coco/annotations.json'}: 2 images, 2 persons, 4 labelled keypoints" in out
    assert f"next: graphpose check {tmp_path / 'coco/annotations.json'} --images {tmp_path}" in out
    table = read_annotations(tmp_path / "coco/annotations.json")
    assert table.images.file_names == ["labeled-data/mouse1/img01.png", "labeled-data/mouse1/img02.png"]
    assert table.images.sizes.tolist() == [[80, 120], [80, 120]]
    assert table.keypoints.tolist() == [
        [[50.5, 20, 2], [30, 40, 2], [70, 40, 2]],
        [[0, 0, 0], [30.25, 60, 2], [0, 0, 0]],
    ]
    # labels' box (30, 20, 40, 20) and a tenth of 40 around it; the one label's is a square of the other's area
    np.testing.assert_allclose(table.bbox[0], [26, 16, 48, 28])
    np.testing.assert_allclose(table.area, [0.53 * 48 * 28] * 2)
    assert table.skeleton.flip == (0, 2, 1)
    report = check_dataset(tmp_path / "coco/annotations.json", tmp_path)
    assert report.by_kind() == {"extent_from_labels": 1, "no_limbs_stated": 1}


def test_animals_of_a_multi_animal_project_without_its_unique_parts(tmp_path, capsys):
    assert convert(tmp_path, project(tmp_path, MULTI), "--limbs", "snout:tail") == 0
    assert "unique body parts belong to no animal and are left out: corner" in capsys.readouterr().out
    table = read_annotations(tmp_path / "coco/annotations.json")
    assert table.skeleton.keypoints == ("snout", "tail")
    assert table.skeleton.limbs == ((0, 1),)
    assert len(table.images) == 2
    assert table.keypoints.tolist() == [[[10, 20, 2], [40, 20, 2]], [[60, 30, 2], [0, 0, 0]]]


def test_a_project_of_two_videos_is_one_file(tmp_path):
    project(tmp_path, SINGLE, ("mouse1", "mouse2"))
    (tmp_path / "labeled-data/mouse1/CollectedData_ana.csv").write_text(SINGLE.rpartition("labeled-data")[0])
    assert convert(tmp_path, tmp_path, "--limbs", "1:2", "1:3") == 0
    table = read_annotations(tmp_path / "coco/annotations.json")
    assert [name.partition("/")[2] for name in table.images.file_names] == [
        "mouse1/img01.png", "mouse2/img01.png", "mouse2/img02.png"
    ]  # fmt: skip
    assert table.image_index.tolist() == [0, 1, 2]


def test_body_parts_in_another_order_are_told_by_their_names(tmp_path):
    project(tmp_path, SINGLE, ("mouse1", "mouse2"))
    swapped = SINGLE.replace("leftear", "?").replace("rightear", "leftear").replace("?", "rightear")
    (tmp_path / "labeled-data/mouse2/CollectedData_ana.csv").write_text(swapped.replace("mouse1", "mouse2"))
    assert convert(tmp_path, tmp_path) == 0
    table = read_annotations(tmp_path / "coco/annotations.json")
    assert table.keypoints[2].tolist() == [[50.5, 20, 2], [70, 40, 2], [30, 40, 2]]


def test_windows_paths_and_images_beside_the_csv(tmp_path):
    path = project(tmp_path, SINGLE)
    (path.parent.parent.parent / "flat").mkdir()
    flat = tmp_path / "flat" / "labels.csv"
    flat.write_text(SINGLE.replace("/", "\\"))
    for name in ("img01.png", "img02.png"):
        (path.parent / name).rename(tmp_path / "flat" / name)
    assert convert(tmp_path, flat) == 0
    assert read_annotations(tmp_path / "coco/annotations.json").images.file_names == ["img01.png", "img02.png"]


def test_images_elsewhere_are_named_by_an_option(tmp_path, capsys):
    project(tmp_path / "images", SINGLE)
    alone = tmp_path / "labels.csv"
    alone.write_text(SINGLE)
    assert convert(tmp_path, alone) == 2
    assert "labels.csv, line 4: image labeled-data/mouse1/img01.png is not in" in capsys.readouterr().err
    assert convert(tmp_path, alone, "--images", str(tmp_path / "images")) == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "line 1: nothing stands where the header's row 'scorer' should"),
        ("a,b\n1,2\n", "line 1: 'a' stands where the header's row 'scorer' should; rows scorer, bodyparts, coords are"),
        (SINGLE.replace("bodyparts", "parts"), "line 2: 'parts' stands where the header's row 'bodyparts' should"),
        (SINGLE.replace("x,y\nlab", "x,likelihood\nlab", 1), "line 3: coords has 'likelihood': these are predictions"),
        (SINGLE.replace("x,y\nlab", "x,z\nlab", 1), "line 3: coords has 'z'; x and y are needed"),
        (SINGLE.replace("x,y\nlab", "x,x\nlab", 1), "line 3: rightear needs one column x and one column y"),
        (MULTI.replace("m2,m2,m2,m2", "m1,m1,m2,m2"), "line 4: m1 snout needs one column x and one column y"),
        (SINGLE.replace("bodyparts,snout,", "bodyparts,"), "line 3: the header's rows need a cell for each column"),
        (SINGLE.replace(",40\n", "\n", 1), "line 4: 6 cells; the header has 7"),
        (SINGLE.replace("50.5", "fifty"), "line 4: x of snout is 'fifty'; a number of pixels or nothing is needed"),
        (SINGLE.replace("50.5", "inf"), "line 4: x of snout is 'inf'"),
        (SINGLE.replace("30.25", ""), "line 5: leftear has y alone; both or none are needed"),
        (SINGLE.replace("img02", "img01"), "line 5: image labeled-data/mouse1/img01.png stands in .* line 4 already"),
        (SINGLE.replace("img02", "img03"), "line 5: image labeled-data/mouse1/img03.png is not in .*--images"),
    ],
)
def test_a_wrong_csv_is_named_with_its_line(tmp_path, capsys, content, message):
    path = project(tmp_path, SINGLE)
    path.write_text(content)
    assert convert(tmp_path, path) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert str(path) in error
    assert re.search(message, error), error


def test_other_body_parts_and_other_options_are_refused(tmp_path, capsys):
    project(tmp_path, SINGLE, ("mouse1", "mouse2"))
    (tmp_path / "labeled-data/mouse2/CollectedData_ana.csv").write_text(SINGLE.replace("snout", "nose"))
    assert convert(tmp_path, tmp_path) == 2
    assert "have other body parts (nose, snout); convert each alone" in capsys.readouterr().err
    assert convert(tmp_path, tmp_path, "--keypoints", "a") == 2
    assert "DeepLabCut's name their body parts themselves" in capsys.readouterr().err


def test_a_file_that_is_missing_or_no_text_is_named(tmp_path):
    with pytest.raises(GraphposeError, match=r"gone\.csv does not exist"):
        read_csv(tmp_path / "gone.csv")
    (tmp_path / "image.csv").write_bytes(b"\x89PNG\xff\xfe\x00")
    with pytest.raises(GraphposeError, match=r"image\.csv cannot be read"):
        read_csv(tmp_path / "image.csv")
