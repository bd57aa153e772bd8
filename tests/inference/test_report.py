"""The HTML page: all in one file, every person once, and the figures that its script computes."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest

from graphpose.inference.report import Report
from graphpose.skeleton import COCO, Skeleton
from graphpose.visualize import DRAWN_CONFIDENCE


def result(score, x, confidence=0.5, **more):
    keypoints = np.zeros((17, 3))
    keypoints[5:7] = [[x, 20, confidence], [x + 8, 20, confidence]]
    keypoints[7] = [x, 40, DRAWN_CONFIDENCE]  # inferred: in the figures, not in the picture
    return {"score": score, "keypoints": keypoints.reshape(-1).tolist(), **more}


@pytest.fixture
def page(tmp_path):
    report = Report(COCO, most=2)
    image = np.full((600, 1200, 3), 90, np.uint8)
    report.add("a <b> & c.jpg", image, [result(0.9, 10), result(0.3, 40, 0.25, track_id=7)])
    report.add("nobody.jpg", image, [])
    report.add("one too many.jpg", image, [result(0.9, 10)])
    report.add_unread("<broken>.jpg", "is truncated & damaged")
    report.pass_earlier()
    report.pass_earlier()
    report.write(tmp_path / "report.html", 0.2)
    return (tmp_path / "report.html").read_text()


def test_nothing_is_loaded_from_elsewhere_and_pictures_are_small(page):
    assert not re.findall(r"(?:src|href)\s*=\s*[\"'](?!data:)", page)
    assert "http" not in page
    assert len(page) < 60_000


def test_every_person_is_drawn_once_with_score_and_track(page):
    tags = []

    class Tags(HTMLParser):
        def handle_starttag(self, tag, attributes):
            tags.append((tag, dict(attributes)))

    Tags().feed(page)
    assert [a["data-score"] for tag, a in tags if tag == "g"] == ["0.9", "0.3"]
    assert sum(tag == "line" for tag, _ in tags) == 2  # the shoulders of both
    assert sum(tag == "circle" for tag, _ in tags) == 4
    assert next(a for tag, a in tags if tag == "svg")["viewbox"] == "-0.5 -0.5 1200 600"
    assert "track 7, score 0.30" in page
    assert "a &lt;b&gt; &amp; c.jpg" in page


def test_what_is_not_in_the_page_is_said(page):
    assert "Not in this page: 1 picture beyond the first 2." in page
    assert "Not in this page: 2 pictures of the run before this one was resumed." in page
    assert "1 not read" in page
    assert "&lt;broken&gt;.jpg: is truncated &amp; damaged" in page


def test_names_of_keypoints_and_files_are_no_markup_and_no_places_to_fill(tmp_path):
    odd = Skeleton("odd", ("<!--<script>", "{figures}"), ((0, 1),), (0.1, 0.1))
    report = Report(odd)
    report.add("{data}.jpg", np.zeros((8, 8, 3), np.uint8), [])
    report.write(tmp_path / "report.html", 0.2)
    page = (tmp_path / "report.html").read_text()
    assert page.count("<figure>") == 1
    assert "<figcaption>{data}.jpg: <b></b>" in page
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.S)[1])
    assert data == {"names": list(odd.keypoints), "images": [[]]}
    assert "<!--" not in page


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("node") is None, reason="the page's script is run by node")
def test_the_script_counts_what_the_slider_leaves(page):
    data = re.search(r'id="data">(.*?)</script>', page, re.S)[1]
    function = re.search(r"function statistics.*?\n}\n", page, re.S)[0]
    script = f"{function} const d = {data}; console.log(JSON.stringify([0, 0.5].map(s => statistics(d, s))))"
    both, strong = json.loads(subprocess.run(["node", "-e", script], capture_output=True, text=True, check=True).stdout)
    assert (both["total"], both["counts"]) == (2, [2, 0])
    assert (strong["total"], strong["counts"]) == (1, [1, 0])
    shoulder = both["keypoints"][5]
    assert shoulder == {"name": "left_shoulder", "share": 1, "mean": 0.375}
    assert both["keypoints"][0] == {"name": "nose", "share": 0, "mean": 0}
