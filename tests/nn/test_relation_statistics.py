"""Relative shares, what stands out of the noise of seeds, and the null of relabelled keypoints."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from graphpose.errors import GraphposeError
from graphpose.nn.relation_statistics import (
    between,
    holm,
    over_seeds,
    permutation_test,
    relative_shares,
    row_share_of_variance,
)


def softmax(W: np.ndarray) -> np.ndarray:
    e = np.exp(W)
    return e / e.sum(-1, keepdims=True)


def test_shares_are_multiples_of_an_even_share_whatever_the_diagonal_is():
    beta = np.array([[0.4, 0.3, 0.2, 0.1], [0.7, 0.1, 0.1, 0.1], [0, 0, 1, 0], [0.25, 0.25, 0.25, 0.25]])
    shares = relative_shares(beta)
    assert np.isnan(np.diag(shares)).all()
    np.testing.assert_allclose(shares[0, 1:], [1.5, 1, 0.5])  # 3 · 0.3 / 0.6, …
    np.testing.assert_allclose(shares[1, [0, 2, 3]], [7 / 3, 1 / 3, 1 / 3])
    assert np.isnan(shares[2]).all()  # takes nothing from anybody
    rng = np.random.default_rng(0)
    W = rng.normal(size=(3, 7, 7))
    moved = W + np.eye(7) * rng.normal(size=7)
    np.testing.assert_allclose(relative_shares(softmax(W)), relative_shares(softmax(moved)))
    np.testing.assert_allclose(np.nanmean(relative_shares(softmax(W)), -1), 1)


def test_raw_relations_of_rows_that_differ_in_their_diagonal_alone_are_all_row():
    beta = softmax(np.diag([0.0, 1, 2, 3, 4]))
    assert row_share_of_variance(beta) == pytest.approx(1)
    assert row_share_of_variance(np.arange(25.0).reshape(5, 5) % 5) < 0.5
    assert np.isnan(row_share_of_variance(np.ones((3, 3))))


def test_only_what_is_beyond_the_noise_of_seeds_stands_out():
    rng = np.random.default_rng(1)
    seeds = [np.zeros((17, 17)) + rng.normal(0, 0.1, (17, 17)) for _ in range(3)]
    for W in seeds:
        W[3, 5] += 1.0
    standing = over_seeds({"layer": [relative_shares(softmax(W)) for W in seeds]})["layer"]
    assert [tuple(edge) for edge in np.argwhere(standing.stands_out())] == [(3, 5)]
    assert standing.mean[3, 5] == pytest.approx(np.e, rel=0.2)
    assert standing.mean[3, 6] < 0.95  # less is left for the row's others, which do not stand out by that
    assert standing.seeds == 3
    noise = {f"layer {n}": [relative_shares(softmax(rng.normal(0, 0.1, (17, 17)))) for _ in range(3)] for n in range(4)}
    assert not any(own.stands_out().any() for own in over_seeds(noise).values())


def test_noise_alone_stands_out_in_five_of_a_hundred_tables_at_most():
    rng = np.random.default_rng(2)
    found = 0
    for _ in range(200):
        shares = [relative_shares(softmax(rng.normal(0, 0.2, (8, 8)))) for _ in range(3)]
        found += over_seeds({"layer": shares})["layer"].stands_out().any()
    assert found <= 20


def test_of_one_seed_and_of_nothing_learned_nothing_stands_out():
    one = over_seeds({"a": [relative_shares(softmax(np.diag([1.0, 2, 3])))]})["a"]
    assert np.isnan(one.p).all()
    assert not one.stands_out().any()
    same = over_seeds({"a": [relative_shares(np.ones((4, 4)))] * 3})["a"]
    assert not same.stands_out().any()
    masked = relative_shares(np.array([[0.5, 0.5, 0], [0, 1, 0], [0.1, 0.2, 0.7]]))  # row 1 has no edge
    assert np.isnan(over_seeds({"a": [masked, masked]})["a"].p[1]).all()
    with pytest.raises(GraphposeError, match=r"\[1, 2\] seeds"):
        over_seeds({"a": [masked], "b": [masked, masked]})


def test_holm_by_hand():
    # sorted 0.01 0.03 0.04 times 3 2 1, never falling: 0.03 0.06 0.06
    np.testing.assert_allclose(holm(np.array([0.03, np.nan, 0.01, 0.04])), [0.06, np.nan, 0.03, 0.06])


def test_correlations_are_spearmans_and_their_null_is_relabelled_keypoints():
    rng = np.random.default_rng(0)
    a, b = rng.random((9, 9)), rng.random((9, 9))
    off = ~np.eye(9, dtype=bool)
    rho, p = permutation_test(a, b)
    assert rho == pytest.approx(spearmanr(a[off], b[off]).statistic)
    assert p > 0.05
    rho, p = permutation_test(a, a + 0.1 * b, permutations=499)
    assert rho > 0.9
    assert p == 1 / 500
    assert np.isnan(permutation_test(a, np.ones((9, 9)))).all()
    assert permutation_test(a, b) == permutation_test(a, b)


def test_the_null_is_honest_where_the_usual_one_is_not():
    """Two matrices of row effects alone: 72 entries, but 9 independent numbers."""
    rng = np.random.default_rng(3)
    usual, relabelled = [], []
    off = ~np.eye(9, dtype=bool)
    for _ in range(100):
        a, b = (np.repeat(rng.normal(size=(9, 1)), 9, 1) + 0.1 * rng.normal(size=(9, 9)) for _ in range(2))
        usual.append(spearmanr(a[off], b[off]).pvalue)
        relabelled.append(permutation_test(a, b, 199)[1])
    assert np.mean(np.array(usual) < 0.05) > 0.3
    assert np.mean(np.array(relabelled) <= 0.05) <= 0.1


def test_two_settings_differ_where_they_were_made_to():
    rng = np.random.default_rng(4)

    def seeds(count: int, extra: float) -> dict[str, list[np.ndarray]]:
        made = []
        for _ in range(count):
            W = rng.normal(0, 0.1, (9, 9))
            W[2, 7] += extra
            made.append(relative_shares(softmax(W)))
        return {"layer": made}

    plain, other = seeds(3, 0.0), seeds(3, 1.0)
    standing = between(other, plain)["layer"]
    assert [tuple(edge) for edge in np.argwhere(standing.stands_out())] == [(2, 7)]
    expected = np.mean(other["layer"], 0) - np.mean(plain["layer"], 0)
    np.testing.assert_allclose(standing.mean, expected)
    assert not between(seeds(3, 0.0), plain)["layer"].stands_out().any()
    one = between(seeds(1, 1.0), seeds(1, 0.0))["layer"]
    assert np.isnan(one.p).all()
    assert one.mean.shape == (9, 9)
    assert between(seeds(1, 1.5), plain)["layer"].stands_out()[2, 7]  # the noise is known from three seeds
    with pytest.raises(GraphposeError, match="no graph layer in common: a; layer"):
        between({"a": plain["layer"]}, plain)
