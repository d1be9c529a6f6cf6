"""Ranks against scipy, a published table and brute force."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from mtlbench.stats.ranks import cliques, critical_difference, rank_test

DEMSAR = {2: 1.960, 3: 2.343, 4: 2.569, 5: 2.728, 6: 2.850, 7: 2.949, 8: 3.031, 9: 3.102, 10: 3.164}
tables = st.integers(3, 6).flatmap(
    lambda k: st.lists(st.lists(st.integers(0, 5).map(float), min_size=k, max_size=k), min_size=2, max_size=8)
)


@pytest.mark.parametrize(("strategies", "q"), DEMSAR.items())
def test_the_critical_difference_is_that_of_demsars_table(strategies: int, q: float) -> None:
    expected = q * math.sqrt(strategies * (strategies + 1) / (6 * 14))
    assert critical_difference(strategies, 14) == pytest.approx(expected, rel=6e-4)


def test_ranks_by_hand() -> None:
    found = rank_test([[0.9, 0.8, 0.8, 0.7], [0.5, 0.6, 0.7, 0.8]], higher_is_better=True)
    assert found.mean_ranks == (2.5, 2.75, 2.25, 2.5)
    assert found.blocks == 2
    assert found.critical_difference == critical_difference(4, 2)


def test_blocks_may_differ_in_direction() -> None:
    scores = np.random.default_rng(0).normal(size=(5, 4))
    mixed = scores * np.array([1, -1, 1, -1, 1])[:, None]
    assert rank_test(mixed, [True, False, True, False, True]) == rank_test(scores, higher_is_better=True)


@settings(max_examples=60)
@given(tables)
def test_p_is_scipys_and_ignores_order_and_scale(table: list[list[float]]) -> None:
    scores = np.array(table)
    found = rank_test(scores, higher_is_better=True)
    assert sum(found.mean_ranks) == pytest.approx(scores.shape[1] * (scores.shape[1] + 1) / 2)
    if (np.ptp(scores, axis=1) > 0).any():
        assert found.p == pytest.approx(float(scipy_stats.friedmanchisquare(*scores.T).pvalue))
    else:
        assert found.p == 1
    moved = rank_test(-3 * scores[::-1] + 1, higher_is_better=False)
    assert moved.mean_ranks == pytest.approx(found.mean_ranks)
    assert moved.p == pytest.approx(found.p)


@pytest.mark.parametrize("shape", [(5, 2), (1, 4), (3, 1)])
def test_too_few_strategies_or_blocks_have_no_p(shape: tuple[int, int]) -> None:
    assert math.isnan(rank_test(np.random.default_rng(0).normal(size=shape), higher_is_better=True).p)


def test_one_strategy_has_no_critical_difference() -> None:
    assert math.isnan(critical_difference(1, 5))
    assert math.isnan(critical_difference(3, 0))


def test_ranks_need_complete_blocks() -> None:
    with pytest.raises(ValueError, match="finite"):
        rank_test([[1.0, math.nan]], higher_is_better=True)
    with pytest.raises(ValueError, match="scores"):
        rank_test([1.0, 2.0], higher_is_better=True)
    with pytest.raises(ValueError, match="higher_is_better"):
        rank_test([[1.0, 2.0]], [True, False])


def test_cliques_by_hand() -> None:
    assert cliques([4.0, 1.0, 1.5, 2.5, 9.0], 1.6) == [(0, 2), (2, 3)]
    assert cliques([1.0, 2.0, 3.0], 1.0) == []
    assert cliques([1.0, 2.0], math.nan) == []
    assert cliques([], 1.0) == []


@settings(max_examples=100)
@given(st.lists(st.integers(4, 40).map(lambda i: i / 4), max_size=8), st.integers(1, 20).map(lambda i: i / 4))
def test_cliques_are_all_largest_ranges_within_the_difference(ranks: list[float], difference: float) -> None:
    ordered = sorted(ranks)
    close = [(i, j) for i, j in combinations(range(len(ordered)), 2) if ordered[j] - ordered[i] < difference]
    largest = [(i, j) for i, j in close if not any(a <= i and j <= b and (a, b) != (i, j) for a, b in close)]
    assert cliques(ranks, difference) == largest
