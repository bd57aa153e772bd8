"""The house's import rule, read from the rule in graphpose's docstring and from every import statement."""

import ast
import graphlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import graphpose
from tests.new_process import modules_after

ROOT = Path(__file__).parents[1]
FOLDERS = ("graphpose", "experiments", "analysis", "tests")


def levels() -> dict[str, int]:
    """Room → its place in the rule; neighbours in braces share one."""
    rule = re.search(r"errors <.*?cli", graphpose.__doc__, re.S).group()
    return {room: level for level, part in enumerate(rule.split("<")) for room in re.findall(r"\w+", part)}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[str]:
    """Dotted names of all that a file imports, wherever in it, also for type checkers only."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the room that they are from"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def modules_of(folder: str) -> dict[str, Path]:
    return {module_name(path): path for path in sorted((ROOT / folder).rglob("*.py"))}


def imported_modules(path: Path, known: dict[str, Path]) -> set[str]:
    """Those of the ``known`` modules that a file imports, itself or a name of theirs."""
    names = {name if name in known else name.rpartition(".")[0] for name in imports(path)}
    return names & known.keys()


def violations(modules: dict[str, Path]) -> list[str]:
    """Imports that the rule forbids, one sentence each."""
    rule = levels()
    found = []
    for name, path in modules.items():
        own = name.split(".")[1] if "." in name else None
        if own is None or own == "__main__":  # the face of the package hands on names of all rooms
            continue
        for other in sorted(imported_modules(path, modules)):
            room = other.split(".")[1] if "." in other else None
            if room in (None, own):
                continue
            if rule[room] >= rule[own]:
                found.append(f"{name} imports {other}, but {room} is not below {own}")
    return found


def circle(modules: dict[str, Path]) -> list[str]:
    """The modules of a circle; empty where there is none."""
    graph = {name: imported_modules(path, modules) - {name, "graphpose"} for name, path in modules.items()}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def top_level_names(path: Path) -> set[str]:
    """What a module defines, assigns or imports, at its top level and in its if, try and with."""
    names: set[str] = set()
    nodes = list(ast.parse(path.read_text()).body)
    while nodes:
        node = nodes.pop()
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        else:
            names |= {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
            nodes += [part for part in ast.iter_child_nodes(node) if isinstance(part, ast.stmt)]
    return names


def missing_imports(path: Path, known: dict[str, Path]) -> list[str]:
    """Imports of names of this project that are not there, also those that only a function does."""
    found = []
    for name in imports(path):
        module, _, member = name.rpartition(".")
        ours = name.split(".")[0] in ("graphpose", "experiments", "analysis", "tests")
        if not ours or name in known:
            continue
        handed_on = module == "graphpose" and member in graphpose.__all__
        if module not in known or not (handed_on or member in top_level_names(known[module])):
            found.append(name)
    return found


def test_what_is_imported_anywhere_is_there():
    known = {name: path for folder in FOLDERS for name, path in modules_of(folder).items()}
    known |= {folder: ROOT / folder / "__init__.py" for folder in FOLDERS if (ROOT / folder / "__init__.py").exists()}
    assert {str(path): found for path in known.values() if (found := missing_imports(path, known))} == {}


def test_an_import_of_what_is_not_there_is_found(tmp_path):
    known = modules_of("graphpose")
    path = tmp_path / "late.py"
    path.write_text(
        "from graphpose import Predictor\nfrom graphpose.errors import GraphposeError\nimport graphpose.data.mix\n"
        "def f():\n    from graphpose.doctor import examine\n    from graphpose.errors import Nothing\n"
    )
    assert missing_imports(path, known) == ["graphpose.doctor.examine", "graphpose.errors.Nothing"]


def test_every_room_has_its_place_in_the_rule():
    rooms = {
        path.stem for path in (ROOT / "graphpose").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert rooms - {"__init__", "__main__"} == levels().keys()


def test_rooms_import_only_what_is_below_them():
    assert violations(modules_of("graphpose")) == []


def test_no_modules_import_each_other_in_a_circle():
    for folder in ("graphpose", "experiments", "analysis"):
        assert circle(modules_of(folder)) == []


def test_nothing_imports_experiments_or_analysis():
    for path in modules_of("graphpose").values():
        assert not [name for name in imports(path) if name.split(".")[0] in ("experiments", "analysis", "tests")], path
    for path in modules_of("analysis").values():
        assert not [name for name in imports(path) if name.split(".")[0] in ("experiments", "tests")], path


@pytest.mark.parametrize(
    ("module", "line", "reason"),
    [
        ("training.trainer", "from graphpose.inference import evaluate", "inference is not below training"),
        ("metrics.coco", "from graphpose.nn.network import PoseNetwork", "nn is not below metrics"),
        ("data.loader", "import graphpose.fields.encode", "fields is not below data"),
        ("visualize", "def f():\n    from graphpose.data.image import read_image", "data is not below visualize"),
    ],
)
def test_one_line_that_breaks_the_rule_is_found(tmp_path, module, line, reason):
    modules = modules_of("graphpose")
    name = f"graphpose.{module}"
    broken = tmp_path / "broken.py"
    broken.write_text(modules[name].read_text() + f"\n{line}\n")
    assert [text for text in violations(modules | {name: broken}) if reason in text and name in text]


def test_a_circle_is_found(tmp_path):
    for name, other in (("a", "b"), ("b", "c"), ("c", "a")):
        (tmp_path / f"{name}.py").write_text(f"from graphpose.{other} import x\n")
    assert set(circle({f"graphpose.{name}": tmp_path / f"{name}.py" for name in "abc"})) == {
        "graphpose.a", "graphpose.b", "graphpose.c"
    }  # fmt: skip


def test_the_main_names_are_handed_on_from_their_rooms():
    declared = set(imports(ROOT / "graphpose" / "__init__.py"))
    assert {f"graphpose.{home}.{name}" for name, home in graphpose._HOME.items()} <= declared
    for name in graphpose.__all__:
        assert getattr(graphpose, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Predicter'"):
        _ = graphpose.Predicter


@pytest.mark.slow
def test_import_graphpose_imports_nothing_else():
    code = "import sys, typing; before = set(sys.modules); import graphpose; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["graphpose"]


@pytest.mark.slow
def test_configurations_are_known_without_anything_heavy():
    modules = [name for name in modules_of("graphpose") if name.endswith(".config")]
    assert len(modules) == 4
    loaded = modules_after("import " + ", ".join(modules))
    assert set(modules) <= loaded
    assert not {"torch", "numpy", "cv2", "timm", "numba", "scipy", "torch_geometric"} & loaded
