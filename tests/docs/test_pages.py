"""Every command and every piece of Python in README and docs/ is executed on made data, or says why it is not.

A block of commands is fenced as ``console`` (or as nothing), Python as ``python``, output as ``text``. What cannot be
run stands below a comment ``<!-- not run: the reason -->``. Commands of a page are run in their order, in a folder of
its own.
"""

import dataclasses
import gzip
import importlib.util
import re
import runpy
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from graphpose.checkpoint import save_checkpoint
from graphpose.cli import main
from graphpose.data.demo.dataset import DemoDataset
from graphpose.data.demo.files import write_demo
from graphpose.nn.config import PoseNetworkConfig
from graphpose.nn.network import PoseNetwork
from graphpose.visualize import save_image
from tests.experiments.in_process import import_run, launch
from tests.inference.films import write_film

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
LANGUAGES = {"console", "python", "text", "bibtex", "{toctree}", "{include}"}
COMMAND = re.compile(r"\s*\$?\s*(graphpose|python3?|make|pip|conda|torchrun) [a-z./-]")
NOT_RUN = re.compile(r"<!-- not run: (.*\S) -->")
# Added to each training, so that it takes seconds.
SMALLEST = (
    "backbone=test_resnet", "pretrained=False", "epochs=1", "image_size=65", "augment.long_edge=65", "long_edge=65",
    "batch_size=2", "workers=0", "evaluate_every=1", "upsample=2", "test_flip=False",
)  # fmt: skip
TRAINING_PAGES = {"own-data.md"}  # these make runs/1 themselves


@dataclasses.dataclass(frozen=True)
class Block:
    """A fenced block: language, text, its first line in the page, and why it is not run (None: it is)."""

    language: str
    text: str
    line: int
    reason: str | None


def blocks(page: Path) -> Iterator[Block]:
    lines = page.read_text(encoding="utf-8").splitlines()
    start: int | None = None
    for n, line in enumerate(lines):
        if not line.startswith("```"):
            continue
        if start is None:
            start = n
            continue
        above = NOT_RUN.fullmatch(lines[start - 1]) if start else None
        text = "\n".join(lines[start + 1 : n])
        language = lines[start].removeprefix("```").strip().partition(" ")[0]
        yield Block(language or ("console" if COMMAND.match(text) else ""), text, start + 2, above and above[1])
        start = None
    assert start is None, f"{page}: the block of line {start} does not end"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_blocks_say_what_they_are(page: Path) -> None:
    found = list(blocks(page))
    for block in found:
        assert block.language in LANGUAGES, f"{page.name}:{block.line}: no block of a known language"
        if block.language == "text":
            assert not COMMAND.match(block.text), f"{page.name}:{block.line}: commands are fenced as console"
        assert block.reason is None or len(block.reason.split()) >= 2
    outside = page.read_text(encoding="utf-8")
    for block in found:
        outside = outside.replace(block.text, "")
    indented = [line for line in outside.splitlines() if line.startswith("    ") and COMMAND.match(line)]
    assert indented == [], f"{page.name}: commands stand in fenced blocks"


def command_lines(text: str) -> Iterator[list[str]]:
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words:
            yield words


def test_commands_are_taken_apart_as_a_shell_does() -> None:
    text = 'graphpose predict "a b.jpg" \\\n    --out x   # somewhere\n\n# nothing\nmake docs'
    assert list(command_lines(text)) == [["graphpose", "predict", "a b.jpg", "--out", "x"], ["make", "docs"]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the pages talk about: photographs, a film, demo scenes, a YOLO-pose and a DeepLabCut data set, a run."""
    folder = tmp_path_factory.mktemp("made")
    scenes = [DemoDataset(4, size=96)[n].image for n in range(4)]
    for name in ("holiday.jpg", "photo.jpg", "photos/a.jpg", "photos/deeper/b.jpg", "more/c.jpg"):
        save_image(folder / name, scenes[len(name) % 4])
    write_film(folder / "film.mp4", scenes[:3])
    write_demo(folder / "demo", DemoDataset(3, seed=5, size=96))
    content = (folder / "demo/annotations.json").read_bytes()
    (folder / "person_keypoints_val2017.json.gz").write_bytes(gzip.compress(content))
    (folder / "faces/data.yaml").parent.mkdir()
    (folder / "faces/data.yaml").write_text(
        "train: images/train\nval: images/val\nkpt_shape: [3, 3]\nflip_idx: [0, 2, 1]\nnames: [face]\n"
        "kpt_names: {0: [nose, left_eye, right_eye]}\n"
    )
    for split, number in (("train", 1), ("train", 2), ("train", 3), ("val", 101), ("val", 102)):
        save_image(folder / f"faces/images/{split}/{number:04}.png", scenes[number % 4])
        label = folder / f"faces/labels/{split}/{number:04}.txt"
        label.parent.mkdir(parents=True, exist_ok=True)
        x = 0.4 + 0.05 * (number % 4)
        label.write_text(f"0 {x} 0.5 0.4 0.5 {x} 0.6 2 {x + 0.15} 0.4 2 {x - 0.15} 0.4 1\n")
    rows = ["scorer" + ",ana" * 8, "bodyparts" + "".join(f",{part},{part}" for part in PARTS), "coords" + ",x,y" * 4]
    for name in ("img01.png", "img02.png"):
        save_image(folder / "mice/labeled-data/mouse1" / name, scenes[0])
        rows.append(f"labeled-data/mouse1/{name},50,20,30,40,70,40,50,80")
    (folder / "mice/labeled-data/mouse1/CollectedData_ana.csv").write_text("\n".join(rows) + "\n")
    torch.manual_seed(0)
    network = PoseNetwork(PoseNetworkConfig(backbone="test_resnet", stem_pool=True, adjacency="dynamic", upsample=2))
    with torch.no_grad():  # finds nobody: fields of noise take long to decode
        network.pif_head.conv.bias.view(17, 5, -1)[:, 0] -= 9
        network.paf_head.conv.bias.view(19, 7, -1)[:, 0] -= 9
    (folder / "runs/1").mkdir(parents=True)
    save_checkpoint(
        folder / "runs/1/checkpoint.pt", network, network.config, training={"configuration": {"long_edge": 97}}
    )
    return folder


PARTS = ("snout", "leftear", "rightear", "tailbase")


def run_command(words: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a shell would do, in this process."""
    try:
        if words[0] == "graphpose":
            assert main(words[1:]) == 0, words
        elif words[:2] == ["python", "experiments/run.py"]:
            launch(import_run(monkeypatch, folder), *words[2:], *(SMALLEST if "with" in words else ()))
        elif words[0] == "python" and words[1].startswith(("analysis/", "experiments/")):
            monkeypatch.setattr(sys, "argv", words[1:])
            runpy.run_path(str(ROOT / words[1]), run_name="__main__")
        else:
            pytest.fail(f"'{' '.join(words)}' is nothing that a test can run; say why above it: <!-- not run: … -->")
    except SystemExit as stop:  # --help, and scripts that end with their status
        if stop.code:
            pytest.fail(f"'{' '.join(words)}' ended with {stop.code}")


@pytest.mark.slow
@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if any(b.language in ("console", "python") and not b.reason for b in blocks(page))],
    ids=lambda page: page.name,
)
def test_what_a_page_says_runs(page: Path, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    if page.name in TRAINING_PAGES:
        shutil.rmtree(tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "page"}
    for block in blocks(page):
        if block.reason or block.language not in ("console", "python"):
            continue
        if block.language == "python":
            exec(compile(block.text, f"{page.name}:{block.line}", "exec"), names)
            continue
        for words in command_lines(block.text):
            run_command(words, tmp_path, monkeypatch)


def test_what_graphpose_commands_in_text_say_is_understood() -> None:
    """Commands within a line, such as those of README's table: their names and options are there."""
    from graphpose.cli import build_parser

    parser = build_parser()
    commands = next(action for action in parser._actions if action.dest == "command").choices
    for page in PAGES:
        for text in re.findall(r"`graphpose ([a-z]+ ?[^`]*)`", page.read_text(encoding="utf-8")):
            name, *words = text.split()
            assert name in commands, f"{page.name}: graphpose {text}"
            known = commands[name]._option_string_actions
            for word in words:
                option = word.partition("=")[0]
                assert not option.startswith("--") or option in known, f"{page.name}: graphpose {text}"


def test_the_packages_of_the_site_are_there() -> None:
    """Where tests are installed, so is what make docs needs: its test skips nowhere but on Python 3.10."""
    assert all(importlib.util.find_spec(name) for name in ("sphinx", "myst_parser", "furo"))
