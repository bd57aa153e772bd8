"""Learned relations in pictures: heat maps with names, arrows on a body, and a page with a slider over epochs.

All show relative shares (:mod:`graphpose.nn.relation_statistics`): 1 is an even share of what a keypoint takes from the
others. Colours are symmetric around 1 in logarithms, red above and blue below.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from graphpose.errors import GraphposeError
from graphpose.graphs.layout import multidimensional_scaling
from graphpose.graphs.statistics import PoseStatistics
from graphpose.nn.relation_statistics import Standing
from graphpose.skeleton import Skeleton

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_ARROWS = 30
FEW_ARROWS = 12  # where one seed leaves open which of them mean something


def heat_maps(standings: Mapping[str, Standing], skeleton: Skeleton, title: str, *, difference: bool = False) -> Figure:
    """One heat map for each layer, with names and one colour bar; what stands out has a dot.

    Args:
        standings: by layer.
        skeleton: gives names.
        title: of the figure.
        difference: the standings are differences around 0, of :func:`~graphpose.nn.relation_statistics.between`.
    """
    from matplotlib.colors import LogNorm, Normalize
    from matplotlib.figure import Figure

    _require_layers(standings)
    means = {layer: own.mean for layer, own in standings.items()}
    if difference:
        limit = max(max(float(np.nanmax(np.abs(mean), initial=0)) for mean in means.values()), 0.01)
        norm: Normalize = Normalize(-limit, limit)
    else:
        positive = np.concatenate([mean[mean > 0] for mean in means.values()])
        limit = max(float(np.exp(np.abs(np.log(positive)).max(initial=0))), 1.01)
        norm = LogNorm(1 / limit, limit)
    K, columns = skeleton.num_keypoints, len(means)
    side = 1.2 + 0.17 * K
    figure = Figure(figsize=(1.6 + side * columns, side + 1.6), layout="constrained")
    names = [name.replace("_", " ") for name in skeleton.keypoints]
    panels = figure.subplots(1, columns, squeeze=False)[0]
    for number, (axes, (layer, mean)) in enumerate(zip(panels, means.items(), strict=True)):
        shown = mean if difference else np.where(mean <= 0, 1 / limit, mean)
        image = axes.imshow(shown, cmap="RdBu_r", norm=norm)
        rows, cells = np.nonzero(standings[layer].stands_out())
        axes.plot(cells, rows, "k.", markersize=4)
        axes.set_title(f"{layer}\n{_found(standings[layer])}", fontsize=9)
        axes.set_xticks(range(K), names, rotation=90, fontsize=6)
        axes.set_yticks(range(K), names if number == 0 else [], fontsize=6)
    label = "difference of relative shares" if difference else "multiple of an even share"
    bar = figure.colorbar(image, ax=list(panels), shrink=0.7, label=label)
    if not difference:
        ticks = [1 / limit, limit**-0.5, 1, limit**0.5, limit]
        bar.set_ticks(ticks, labels=[f"{tick:.2f}" for tick in ticks])
        bar.minorticks_off()
    figure.suptitle(f"{title}: rows take, columns give", fontsize=10)
    return figure


def body_positions(skeleton: Skeleton, statistics: PoseStatistics | None) -> np.ndarray:
    """(K, 2) where to draw keypoints, y down: by M_d where it places them all, on a circle otherwise."""
    if statistics is not None:
        try:
            return multidimensional_scaling(statistics.require(skeleton))
        except GraphposeError:
            pass
    angle = 2 * np.pi * np.arange(skeleton.num_keypoints) / skeleton.num_keypoints
    return np.stack((np.sin(angle), -np.cos(angle)), axis=1)


def arrows(standing: Standing) -> list[tuple[int, int, float]]:
    """(i, j, relative share) of the relations to draw, the furthest from 1 first.

    Over several seeds what stands out of their noise, of one seed the furthest few.
    """
    distance = np.abs(np.log(np.where(standing.mean > 0, standing.mean, np.nan)))
    chosen = standing.stands_out() if standing.seeds > 1 else np.isfinite(distance) & (distance > 0)
    edges = sorted(np.argwhere(chosen).tolist(), key=lambda edge: -distance[tuple(edge)])
    count = MOST_ARROWS if standing.seeds > 1 else FEW_ARROWS
    return [(i, j, float(standing.mean[i, j])) for i, j in edges[:count]]


def draw_body(axes: Axes, standing: Standing, skeleton: Skeleton, position: np.ndarray, title: str) -> None:
    """Arrows from who gives to who takes over the limbs; where nothing stands out, words that say so.

    Args:
        axes: to draw on.
        standing: of one layer.
        skeleton: gives names and limbs.
        position: (K, 2), y down.
        title: of the panel.
    """
    from matplotlib.patches import FancyArrowPatch

    x, y = position[:, 0], -position[:, 1]
    for a, b in skeleton.limbs:
        axes.plot(x[[a, b]], y[[a, b]], color="0.8", linewidth=3, zorder=1, solid_capstyle="round")
    axes.scatter(x, y, s=14, color="0.3", zorder=3)
    _name(axes, x, y, skeleton)
    drawn = arrows(standing)
    for i, j, share in drawn:
        axes.add_patch(
            FancyArrowPatch(
                (x[j], y[j]),
                (x[i], y[i]),
                connectionstyle="arc3,rad=0.15",
                arrowstyle="-|>",
                mutation_scale=8,
                shrinkA=4,
                shrinkB=4,
                linewidth=_width(share),
                color="tab:red" if share > 1 else "tab:blue",
                alpha=0.8,
                zorder=2,
            )
        )
    axes.set_title(f"{title}\n{_found(standing)}", fontsize=9)
    if not drawn:
        axes.text(0.5, 0.5, "none stands out", transform=axes.transAxes, ha="center", va="center", color="tab:red",
                  fontsize=12, bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "none"})  # fmt: skip
    margin = 0.15 * float(np.ptp(position, axis=0).max())
    axes.set_xlim(x.min() - margin, x.max() + margin)
    axes.set_ylim(y.min() - margin, y.max() + 2 * margin)
    axes.set_aspect("equal")
    axes.axis("off")


def _name(axes: Axes, x: np.ndarray, y: np.ndarray, skeleton: Skeleton) -> None:
    """Names beside the keypoints; of a crowd, as a face, above each other with a line to each."""
    extent = float(max(np.ptp(x), np.ptp(y)))
    crowded = (np.hypot(x[:, None] - x, y[:, None] - y) < 0.1 * extent).sum(1) > 2
    heights = {k: n for n, k in enumerate(sorted(np.flatnonzero(crowded).tolist(), key=lambda k: -x[k]))}
    for k, name in enumerate(skeleton.keypoints):
        words = name.replace("_", " ")
        if k in heights:
            place = (x[crowded].max() + 0.05 * extent, y[crowded].max() + 0.03 * extent * (heights[k] - 0.5))
            line = {"arrowstyle": "-", "linewidth": 0.3, "color": "0.5"}
            axes.annotate(words, (x[k], y[k]), place, textcoords="data", fontsize=5, arrowprops=line)
        else:
            axes.annotate(words, (x[k], y[k]), (3, 3), textcoords="offset points", fontsize=5)


def bodies(standings: Mapping[str, Standing], skeleton: Skeleton, position: np.ndarray, title: str) -> Figure:
    """:func:`draw_body` of every layer, with a legend."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    _require_layers(standings)
    figure = Figure(figsize=(3.4 * len(standings), 4.8), layout="constrained")
    for axes, (layer, standing) in zip(figure.subplots(1, len(standings), squeeze=False)[0], standings.items(),
                                       strict=True):  # fmt: skip
        draw_body(axes, standing, skeleton, position, layer)
    lines = [Line2D([], [], color="0.8", linewidth=3, label="limb")]
    for share in (2.0, 1.25, 0.8, 0.5):
        colour = "tab:red" if share > 1 else "tab:blue"
        lines.append(Line2D([], [], color=colour, linewidth=_width(share), label=f"{share:g} × an even share"))
    figure.legend(handles=lines, loc="outside lower center", ncols=len(lines), fontsize=7)
    figure.suptitle(f"{title}: arrows lead from who gives to who takes", fontsize=10)
    return figure


def evolution_page(history: Mapping[str, Mapping[int, np.ndarray]], skeleton: Skeleton, title: str) -> str:
    """A page of its own with a slider over epochs and a choice of layers.

    Args:
        history: layer → epoch → relative shares (K, K).
        skeleton: gives names.
        title: of the page.

    Returns:
        HTML that needs nothing else, about 2 kB an epoch and layer of 17 keypoints.

    Raises:
        GraphposeError: there is no layer, or no epoch.
    """
    _require_layers(history)
    epochs = sorted(next(iter(history.values())))
    if not epochs:
        raise GraphposeError("there are no relations over training: the run has not finished an epoch")
    shares = {
        layer: [[[None if np.isnan(v) else round(float(v), 3) for v in row] for row in of_layer[at]] for at in epochs]
        for layer, of_layer in history.items()
    }
    content = {"names": [name.replace("_", " ") for name in skeleton.keypoints], "epochs": epochs, "shares": shares}
    data = json.dumps(content, separators=(",", ":")).replace("<", "\\u003c")  # a name must not end the script
    return _PAGE.replace("TITLE", escape(title)).replace("DATA", data)


def _width(share: float) -> float:
    return 0.5 + 2.5 * min(abs(np.log2(max(share, 1e-3))), 2.0)


def _found(standing: Standing) -> str:
    if np.isnan(standing.p).all():
        return "one seed: noise unknown"
    tested = int((~np.isnan(standing.p)).sum())
    return f"{int(standing.stands_out().sum()) or 'none'} of {tested} beyond noise"


def _require_layers(layers: Mapping[str, object]) -> None:
    if not layers:
        raise GraphposeError("there is no graph layer with a W_d to draw; train with adjacency=dynamic")


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>TITLE</title>
<style>body{font:14px sans-serif;margin:1em}canvas{max-width:100%}output{font-weight:bold}
#tip{color:#555;height:1.4em}</style></head><body>
<h1 style="font-size:1.2em">TITLE</h1>
<p>Relations as multiples of an even share of what a keypoint (row) takes from the others (columns).
<span style="color:#b2182b">Red</span> is more, <span style="color:#2166ac">blue</span> less than even.</p>
<label>layer <select id="layer"></select></label>
<label>epoch <input id="epoch" type="range" min="0" value="0" style="width:40%"></label> <output id="at"></output>
<button id="play">play</button>
<div id="tip"></div><canvas id="map" width="720" height="720"></canvas>
<script>
const D = DATA, K = D.names.length, $ = id => document.getElementById(id);
const canvas = $("map"), g = canvas.getContext("2d");
const left = 120, size = (720 - left) / K;
let most = 1.01;
for (const layer in D.shares) for (const m of D.shares[layer]) for (const row of m) for (const v of row)
  if (v > 0) most = Math.max(most, v, 1 / v);
for (const layer in D.shares) $("layer").add(new Option(layer));
$("epoch").max = D.epochs.length - 1;
$("epoch").value = D.epochs.length - 1;
function colour(v) {
  if (v === null) return "#ddd";
  const t = Math.max(-1, Math.min(1, Math.log(Math.max(v, 1e-9)) / Math.log(most))), a = Math.abs(t);
  const end = t > 0 ? [178, 24, 43] : [33, 102, 172];
  return `rgb(${end.map(c => Math.round(247 + (c - 247) * a)).join(",")})`;
}
function draw() {
  const n = +$("epoch").value, m = D.shares[$("layer").value][n];
  $("at").value = D.epochs[n];
  g.fillStyle = "#fff"; g.fillRect(0, 0, 720, 720); g.font = "11px sans-serif";
  for (let i = 0; i < K; i++) {
    for (let j = 0; j < K; j++) {
      g.fillStyle = colour(m[i][j]);
      g.fillRect(left + j * size, left + i * size, size - 1, size - 1);
    }
    g.fillStyle = "#000"; g.textAlign = "right"; g.textBaseline = "middle";
    g.fillText(D.names[i], left - 4, left + (i + 0.5) * size);
    g.save(); g.translate(left + (i + 0.5) * size, left - 4); g.rotate(-Math.PI / 2); g.textAlign = "left";
    g.fillText(D.names[i], 0, 0); g.restore();
  }
}
canvas.onmousemove = e => {
  const scale = 720 / canvas.clientWidth, j = Math.floor((e.offsetX * scale - left) / size);
  const i = Math.floor((e.offsetY * scale - left) / size);
  const m = D.shares[$("layer").value][+$("epoch").value];
  $("tip").textContent = i >= 0 && j >= 0 && i < K && j < K && m[i][j] !== null
    ? `${D.names[i]} takes ${m[i][j].toFixed(2)} even shares from ${D.names[j]}` : "";
};
let timer = null;
$("play").onclick = () => {
  if (timer) { clearInterval(timer); timer = null; $("play").textContent = "play"; return; }
  $("play").textContent = "stop";
  timer = setInterval(() => { $("epoch").value = (+$("epoch").value + 1) % D.epochs.length; draw(); }, 250);
};
$("epoch").oninput = $("layer").onchange = draw;
draw();
</script></body></html>
"""
