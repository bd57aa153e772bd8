"""Sphinx: the pages of this folder and the docstrings as a site that opens without a network (make docs)."""

from __future__ import annotations

import pkgutil
from pathlib import Path

from sphinx.application import Sphinx

import graphpose

project = "graphpose"
author = project_copyright = "the authors of graphpose"
version = release = graphpose.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"  # brings its scripts and takes the system's fonts
html_title = "graphpose"
html_copy_source = False

myst_heading_anchors = 3
suppress_warnings = ["myst.header"]  # pages that experiments write begin with sections
autodoc_default_options = {"members": True, "member-order": "bysource", "show-inheritance": True}
napoleon_numpy_docstring = False
napoleon_custom_sections = [("Attributes", "params_style")]

ROOMS = (
    "skeleton", "visualize", "data", "graphs", "fields", "nn", "metrics", "packed", "checkpoint", "training",
    "inference", "openpifpaf", "device", "distributed", "errors",
)  # fmt: skip


def write_reference(app: Sphinx) -> None:
    """A page for each room of the package, with all its modules, into the folder api/ of the sources."""
    folder = Path(app.srcdir) / "api"
    folder.mkdir(exist_ok=True)
    pages = {f"{room}.md": _reference_of(room) for room in ROOMS}
    for page in folder.glob("*.md"):
        if page.name not in pages:
            page.unlink()
    for name, text in pages.items():
        page = folder / name
        if not page.exists() or page.read_text() != text:  # what is new is built again
            page.write_text(text)


def _reference_of(room: str) -> str:
    places = [f"{place}/{room}" for place in graphpose.__path__]
    found = pkgutil.walk_packages(places, f"graphpose.{room}.")
    lines = [f"# graphpose.{room}", *_module(f"graphpose.{room}")]
    for name in sorted(module.name for module in found if not module.ispkg):
        lines += ["", f"## {name.removeprefix('graphpose.')}", *_module(name)]
    return "\n".join(lines) + "\n"


def _module(name: str) -> list[str]:
    return ["", "```{eval-rst}", f".. automodule:: {name}", "```"]


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("builder-inited", write_reference)
    # Napoleon takes what stands before a colon in a property's docstring for its type; ours say it in the signature
    docstrings: dict[str, list[str]] = {}

    def keep(app: Sphinx, what: str, name: str, value: object, options: object, lines: list[str]) -> None:
        docstrings[name] = list(lines)

    def restore(app: Sphinx, what: str, name: str, value: object, options: object, lines: list[str]) -> None:
        if what == "property":
            lines[:] = docstrings[name]

    app.connect("autodoc-process-docstring", keep, priority=400)
    app.connect("autodoc-process-docstring", restore, priority=600)
