"""Pictures of relations: what is drawn, that nothing is said so, and any skeleton."""

import json
import re

import numpy as np
import pytest

from graphpose.errors import GraphposeError
from graphpose.graphs.statistics import shipped_statistics
from graphpose.nn.relation_pictures import arrows, bodies, body_positions, evolution_page, heat_maps
from graphpose.nn.relation_statistics import Standing, between, over_seeds, relative_shares
from graphpose.skeleton import COCO, Skeleton

KITE = Skeleton("kite", ("top", "left", "right", "</script>"), ((0, 1), (2, 3)), (0.1,) * 4)


def standings(skeleton: Skeleton, seeds: int, edge: float = 0.0) -> dict[str, Standing]:
    return over_seeds({"layer": shares(skeleton, seeds, edge)})


def shares(skeleton: Skeleton, seeds: int, edge: float) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    K = skeleton.num_keypoints
    made = []
    for _ in range(seeds):
        W = rng.normal(0, 0.05, (K, K))
        W[0, 2] += edge
        made.append(relative_shares(np.exp(W)))
    return made


def texts(figure) -> str:
    return "\n".join(text.get_text() for axes in figure.axes for text in (*axes.texts, axes.title))


def test_arrows_are_what_stands_out_of_seeds_or_the_furthest_of_one():
    found = arrows(standings(COCO, 3, edge=1.0)["layer"])
    assert [(i, j) for i, j, _ in found] == [(0, 2)]
    assert found[0][2] == pytest.approx(np.e, rel=0.1)
    one = arrows(standings(COCO, 1, edge=1.0)["layer"])
    assert len(one) == 12
    assert one[0][:2] == (0, 2)


def test_a_figure_says_where_nothing_stands_out():
    position = body_positions(COCO, shipped_statistics(COCO))
    figure = bodies(standings(COCO, 3), COCO, position, "three seeds")
    assert "none stands out" in texts(figure)
    assert "none of 272 beyond noise" in texts(figure)
    figure = bodies(standings(COCO, 3, edge=1.0), COCO, position, "three seeds")
    assert "none stands out" not in texts(figure)
    assert "1 of 272 beyond noise" in texts(figure)
    assert "one seed: noise unknown" in texts(heat_maps(standings(COCO, 1), COCO, "one"))


def test_every_skeleton_is_drawn_also_without_statistics(tmp_path):
    position = body_positions(KITE, None)
    assert position.shape == (4, 2)
    assert len(np.unique(position.round(6), axis=0)) == 4
    bodies(standings(KITE, 2), KITE, position, "kite").savefig(tmp_path / "body.png")
    heat_maps(standings(KITE, 2), KITE, "kite").savefig(tmp_path / "heat.png")
    apart = between({"layer": shares(KITE, 2, 1.0)}, {"layer": shares(KITE, 2, 0.0)})
    heat_maps(apart, KITE, "kite", difference=True).savefig(tmp_path / "difference.png")
    assert {path.stat().st_size > 5000 for path in tmp_path.iterdir()} == {True}
    with pytest.raises(GraphposeError, match="no graph layer with a W_d to draw"):
        heat_maps({}, KITE, "kite")


def test_masked_edges_and_equal_shares_are_drawn(tmp_path):
    masked = relative_shares(np.array([[0.5, 0.5, 0, 0], [0, 1, 0, 0], [0.1, 0.2, 0.3, 0.4], [0.25] * 4]))
    one = over_seeds({"a": [masked], "b": [relative_shares(np.ones((4, 4)))]})
    heat_maps(one, KITE, "kite").savefig(tmp_path / "heat.png")
    assert arrows(one["b"]) == []


def test_the_page_over_epochs_holds_every_epoch_and_no_name_ends_its_script():
    history = {"PIF F16 layer 1": {epoch: shares(KITE, 1, float(epoch))[0] for epoch in (2, 0, 1)}}
    page = evolution_page(history, KITE, "a <b> & c")
    assert "a &lt;b&gt; &amp; c" in page
    assert page.count("</script>") == 1
    content = json.loads(re.search(r"const D = (\{.*?\}), K = ", page, re.S).group(1))
    assert content["epochs"] == [0, 1, 2]
    assert content["names"][3] == "</script>"
    first = content["shares"]["PIF F16 layer 1"][2]
    assert first[0][0] is None
    assert first[0][2] == pytest.approx(history["PIF F16 layer 1"][2][0, 2], abs=1e-3)
    with pytest.raises(GraphposeError, match="not finished an epoch"):
        evolution_page({"a": {}}, KITE, "")
