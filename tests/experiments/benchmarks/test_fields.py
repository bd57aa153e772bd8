"""The benchmark of the fields prints one JSON object that can be compared."""

from __future__ import annotations

import json

import pytest

from experiments.benchmark import build_parser, measure
from experiments.benchmarks import fields as benchmark_fields
from graphpose.errors import GraphposeError
from graphpose.graphs.statistics import shipped_statistics
from graphpose.skeleton import COCO


def run(*arguments):
    return json.loads(json.dumps(measure(build_parser().parse_args([str(a) for a in arguments]))))


@pytest.fixture
def scenes(tmp_path):
    """Two images with two mean persons each; the second person of each lacks shoulders and arms."""
    mean = shipped_statistics(COCO).offset_mean[0]
    annotations = []
    for image in (1, 2):
        for person, (x, y, size) in enumerate(((80, 60, 70), (220, 70, 90))):
            keypoints = [[x + size * dx, y + size * dy, 2] for dx, dy in mean]
            if person:
                keypoints[5:11] = [[0, 0, 0]] * 6
            annotations.append(
                {
                    "id": 10 * image + person,
                    "image_id": image,
                    "category_id": 1,
                    "iscrowd": 0,
                    "keypoints": [value for keypoint in keypoints for value in keypoint],
                    "num_keypoints": sum(k[2] > 0 for k in keypoints),
                    "bbox": [0, 0, 320, 320],
                    "area": size**2,
                }
            )
    path = tmp_path / "scenes.json"
    category = {"id": 1, "name": "person", "keypoints": list(COCO.keypoints)}
    images = [{"id": i, "width": 321, "height": 321, "file_name": f"{i}.jpg"} for i in (1, 2)]
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": [category]}))
    return path


def test_encode_reports_persons_and_time(scenes):
    result = run("encode", "--scenes", scenes, "--batch", 2)
    assert result["persons"] == 4
    assert result["ms_per_image"] > 0
    assert result["ms_one_at_a_time"] > 0
    assert "ms_one_at_a_time" not in run("encode", "--scenes", scenes)


def test_limbs_alone_reach_their_bound_and_joining_passes_it(scenes):
    apart = run("decode", "--scenes", scenes, "--no-join")
    joined = run("decode", "--scenes", scenes, "--batch", 2, "--threads", 2)
    assert apart["ar"] == apart["limb_bound"] < 1
    assert joined["ap"] > apart["ap"]


def test_with_threads_the_scaling_stands_beside_that_of_the_machine(scenes, monkeypatch):
    monkeypatch.setattr(benchmark_fields, "SCALING_REPETITIONS", 2)
    monkeypatch.setattr(benchmark_fields, "SPIN_STEPS", 200_000)  # far more than starting a thread takes
    scaling = run("decode", "--scenes", scenes, "--batch", 2, "--threads", 2)["thread_scaling"]
    assert scaling["decode"] > 0
    assert scaling["machine"] > 0
    assert "thread_scaling" not in run("decode", "--scenes", scenes, "--batch", 2)


@pytest.mark.slow
def test_the_first_use_compiles_and_the_second_takes_the_cache(monkeypatch):
    code = 'import json; print(json.dumps({"seconds": 0.5, "compiled_by_import": False}))'
    monkeypatch.setattr(benchmark_fields, "FIRST_DECODING", code)  # the true one compiles for half a minute
    assert run("compile") == {"first_use_seconds": 0.5, "cached_seconds": 0.5, "import_compiles": False}


def test_noise_is_the_same_for_the_same_seed(scenes):
    first = run("decode", "--scenes", scenes, "--noise", 0.3)
    again = run("decode", "--scenes", scenes, "--noise", 0.3)
    assert first["poses"] == again["poses"]
    assert first["ap"] == again["ap"] > 0.5


def test_a_file_that_is_no_annotation_file_is_refused_by_name(tmp_path):
    path = tmp_path / "broken.json"
    path.write_text("{}")
    with pytest.raises(GraphposeError, match=r"broken\.json"):
        run("decode", "--scenes", path)
