"""The site of make docs: no warning, every page in its navigation, nothing from another host."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    if sys.version_info < (3, 11):
        pytest.skip("Sphinx 9 needs Python 3.11")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--keep-going", "--quiet", "-d"]
    done = subprocess.run(
        [*command, str(folder / "doctrees"), "docs", str(folder / "site")], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return folder / "site"


@pytest.mark.slow
def test_the_site_is_whole_and_opens_without_a_network(site: Path) -> None:
    start = (site / "index.html").read_text()
    pages = [path.stem for path in (ROOT / "docs").glob("*.md")]
    assert len(pages) > 8
    for page in pages:
        assert f'href="{page}.html"' in start or page == "index"
    assert "graphpose.skeleton.Skeleton.from_category" in (site / "api" / "skeleton.html").read_text()
    loaded = re.compile(r'<(?:script|img|iframe)\b[^>]*\bsrc="(?:https?:)?//|<link\b[^>]*\bhref="(?:https?:)?//')
    for path in site.rglob("*.html"):
        assert not loaded.search(path.read_text()), path
    for path in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(?:https?:)?//|@import\s+['\"]?(?:https?:)?//", path.read_text()), path
