"""One HTML page of predictions that opens anywhere: nothing in it is loaded from elsewhere."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from graphpose.inference.writers import write_whole
from graphpose.skeleton import Skeleton
from graphpose.visualize import DRAWN_CONFIDENCE, keypoint_colours, limb_colours

LONG_EDGE = 480  # pixels of a picture in the page
QUALITY = 80  # of its JPEG


class Report:
    """Pictures with their poses as vector drawings, a slider over the score, and what is found at it.

    Args:
        skeleton: of the poses.
        most: pictures in the page; those after are counted and left out.
    """

    def __init__(self, skeleton: Skeleton, most: int = 200) -> None:
        self.skeleton = skeleton
        self.most = most
        self._figures: list[str] = []
        self._poses: list[list[dict[str, Any]]] = []
        self._left_out = self._earlier = 0
        self._unread: list[str] = []
        self._limbs = [_hex(colour) for colour in limb_colours(skeleton)]
        self._points = [_hex(colour) for colour in keypoint_colours(skeleton)]

    def add(self, label: str, image: np.ndarray, results: Sequence[Mapping[str, Any]]) -> None:
        """One more picture.

        Args:
            label: what stands below it.
            image: (H, W, 3) uint8 RGB.
            results: its COCO results; "track_id" is shown where it is there.
        """
        if len(self._figures) == self.most:
            self._left_out += 1
            return
        height, width = image.shape[:2]
        scale = min(1.0, LONG_EDGE / max(height, width))
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA) if scale < 1 else image
        _, data = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        picture = base64.b64encode(data.tobytes()).decode()
        persons = "".join(self._person(result, max(height, width) / 160) for result in results)
        self._figures.append(
            f'<figure><svg viewBox="-0.5 -0.5 {width} {height}"><image x="-0.5" y="-0.5" width="{width}" '
            f'height="{height}" href="data:image/jpeg;base64,{picture}"/>{persons}</svg>'
            f"<figcaption>{html.escape(label)}: <b></b></figcaption></figure>"
        )
        self._poses.append([{"score": r["score"], "confidences": r["keypoints"][2::3]} for r in results])

    def add_unread(self, label: str, reason: str) -> None:
        """One picture that could not be read.

        Args:
            label: what it is called.
            reason: for people.
        """
        self._unread.append(f"<li>{html.escape(label)}: {html.escape(reason)}")

    def pass_earlier(self) -> None:
        """One picture of an earlier run, which is not read again."""
        self._earlier += 1

    def _notes(self) -> str:
        """What is not in the page, and why."""
        notes = []
        for number, why in (
            (self._earlier, "of the run before this one was resumed"),
            (self._left_out, f"beyond the first {self.most}"),
        ):
            if number:
                notes.append(f"<p>Not in this page: {number} picture{'' if number == 1 else 's'} {why}.</p>")
        if self._unread:
            notes.append(f"<details open><summary>{len(self._unread)} not read</summary><ul>")
            notes += [*self._unread[: self.most], "</ul></details>"]
        return "\n".join(notes)

    def _person(self, result: Mapping[str, Any], width: float) -> str:
        points = np.array(result["keypoints"], np.float64).reshape(-1, 3)
        title = f"score {result['score']:.2f}"
        if "track_id" in result:
            title = f"track {result['track_id']}, {title}"
        parts = [f'<g data-score="{result["score"]:.9g}"><title>{title}</title>']
        for (a, b), colour in zip(self.skeleton.limbs, self._limbs, strict=True):
            if min(points[a, 2], points[b, 2]) > DRAWN_CONFIDENCE:
                (x1, y1), (x2, y2) = points[a, :2], points[b, :2]
                parts.append(
                    f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" '
                    f'stroke-width="{width:.1f}"/>'
                )
        for (x, y, confidence), colour in zip(points, self._points, strict=True):
            if confidence > DRAWN_CONFIDENCE:
                parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{0.8 * width:.1f}" fill="{colour}"/>')
        return "".join(parts) + "</g>"

    def write(self, path: Path, score: float) -> None:
        """Write the page.

        Args:
            path: the .html file.
            score: where the slider stands at first.
        """
        data = json.dumps({"names": self.skeleton.keypoints, "images": self._poses}).replace("<", "\\u003c")
        parts = {"score": f"{score:g}", "notes": self._notes(), "data": data, "figures": "\n".join(self._figures)}
        page = re.sub(r"\{(score|notes|data|figures)\}", lambda match: parts[match[1]], _PAGE)
        write_whole(path, page.encode())


def _hex(colour: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>graphpose: predictions</title>
<style>
body { font: 15px/1.4 system-ui, sans-serif; margin: 0 1.5em 3em; color: #222; background: #fafafa; }
header { position: sticky; top: 0; padding: .7em 0; background: #fafafae8; border-bottom: 1px solid #ccc; z-index: 1; }
input { width: 20em; vertical-align: middle; }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(19em, 1fr)); gap: 1em; margin-top: 1em; }
main { align-items: start; }
figure { margin: 0; background: #fff; border: 1px solid #ddd; } svg { width: 100%; display: block; }
figcaption, li { padding: .3em .6em; overflow-wrap: anywhere; } .bars { display: flex; gap: 3em; flex-wrap: wrap; }
td { padding: 0 .6em 0 0; } td i { display: inline-block; height: .8em; background: #4a7ebb; vertical-align: middle; }
line { stroke-linecap: round; }
</style></head><body>
<header><label>score of <output></output> or more <input type="range" min="0" max="1" step="0.01" value="{score}">
</label> <b id="total"></b></header>
<section class="bars"><div><h3>Persons in an image</h3><table id="persons"></table></div>
<div><h3>Keypoints: share of persons, mean confidence</h3><table id="keypoints"></table></div></section>
{notes}<main>
{figures}
</main>
<script type="application/json" id="data">{data}</script>
<script>
"use strict";
function statistics(data, score) {
  const kept = data.images.map(persons => persons.filter(person => person.score >= score));
  const all = kept.flat(), histogram = [];
  for (const persons of kept) histogram[persons.length] = (histogram[persons.length] || 0) + 1;
  const keypoints = data.names.map((name, k) => {
    const found = all.map(person => person.confidences[k]).filter(c => c > 0);
    const mean = found.length ? found.reduce((a, b) => a + b) / found.length : 0;
    return { name, share: all.length ? found.length / all.length : 0, mean };
  });
  return { counts: kept.map(persons => persons.length), total: all.length, histogram, keypoints };
}
function count(number, noun) { return `${number} ${noun}${number === 1 ? "" : "s"}`; }
function show() {
  const score = Number(slider.value), found = statistics(data, score);
  document.querySelector("output").value = score.toFixed(2);
  document.querySelectorAll("g[data-score]").forEach(g => {
    g.style.display = Number(g.dataset.score) >= score ? "" : "none";
  });
  document.querySelectorAll("figcaption b").forEach((b, n) => { b.textContent = found.counts[n]; });
  const pictures = count(data.images.length, "picture");
  document.getElementById("total").textContent = `${count(found.total, "person")} in ${pictures}`;
  const most = Math.max(1, ...Array.from(found.histogram, n => n || 0));
  document.getElementById("persons").innerHTML = Array.from(found.histogram, (n, persons) =>
    `<tr><td>${persons}<td><i style="width:${12 * (n || 0) / most}em"></i> ${n || 0}`).join("");
  document.getElementById("keypoints").innerHTML = found.keypoints.map(k =>
    `<tr><td>${k.name.replace(/[&<]/g, " ")}<td><i style="width:${8 * k.share}em"></i> ` +
    `${(100 * k.share).toFixed(0)} %<td>${k.mean.toFixed(2)}`).join("");
}
const data = JSON.parse(document.getElementById("data").textContent);
const slider = document.querySelector("input");
slider.addEventListener("input", show);
show();
</script></body></html>
"""
