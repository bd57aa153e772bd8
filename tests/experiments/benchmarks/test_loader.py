"""experiments/benchmark.py load and read: they run and report what they promise."""

from pathlib import Path

from experiments.benchmark import build_parser, measure


def run(*arguments: str) -> dict:
    return measure(build_parser().parse_args(arguments))


def test_load_reports_every_step_and_both_rates(data_root: Path) -> None:
    report = run(
        "load",
        "--annotations",
        str(data_root / "coco/annotations/person_keypoints_val2017_local.json"),
        "--images",
        str(data_root / "coco/val2017"),
        "--count",
        "6",
    )
    assert report["images"] == 6
    assert set(report["training"]["milliseconds"]) == {"decode", "warp", "colour", "tensors"}
    for name in ("training", "evaluation"):
        assert report[name]["images_per_core_second"] > 5  # 80 to 120 measured at 641 px


def test_read_reports_the_ratio_to_json_load(data_root: Path) -> None:
    path = data_root / "coco/annotations/person_keypoints_val2017.json.gz"
    report = run("read", "--annotations", str(path), "--repeats", "1")
    assert (report["images"], report["annotations"]) == (2346, 6352)
    assert report["ratio"] > 0
    assert report["kept_megabytes"] < report["peak_megabytes"]
