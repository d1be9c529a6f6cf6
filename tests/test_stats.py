"""Intervals over seeds and rounds, against scipy called directly and against counting."""

from __future__ import annotations

import math
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from mtlbench.stats import Estimate, mean_over_seeds, median_over_rounds, paired_difference

TEN = [0.9790, 0.9801, 0.9786, 0.9811, 0.9795, 0.9803, 0.9788, 0.9799, 0.9807, 0.9781]
samples = st.lists(st.integers(-1000, 1000).map(lambda i: i / 64), min_size=6, max_size=12)


def is_nan(estimate: Estimate) -> bool:
    return math.isnan(estimate.value) and math.isnan(estimate.low) and math.isnan(estimate.high)


def test_the_interval_is_scipys_bca_from_a_fixed_generator() -> None:
    rng = np.random.default_rng(0)
    expected = scipy_stats.bootstrap((np.array(TEN),), np.mean, n_resamples=9_999, rng=rng).confidence_interval
    found = mean_over_seeds(TEN)
    assert found == Estimate(float(np.mean(TEN)), float(expected.low), float(expected.high))
    assert found == mean_over_seeds(TEN)


def test_the_interval_is_near_students_for_ordinary_data() -> None:
    values = np.random.default_rng(1).normal(5, 2, 200)
    found = mean_over_seeds(values.tolist())
    half = 1.972 * values.std(ddof=1) / math.sqrt(200)
    assert found.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.1 * half)


@settings(max_examples=50)
@given(samples)
def test_the_interval_holds_the_mean_and_lies_within_the_data(values: list[float]) -> None:
    found = mean_over_seeds(values)
    assert min(values) <= found.low <= found.value <= found.high <= max(values)


@settings(max_examples=30)
@given(samples, st.sampled_from([0.25, 2.0, 8.0]), st.integers(-100, 100))
def test_scaling_and_shifting_the_values_does_so_to_the_estimate(values: list[float], scale: float, shift: int) -> None:
    plain, moved = mean_over_seeds(values), mean_over_seeds([scale * value + shift for value in values])
    for name in ("value", "low", "high"):
        assert getattr(moved, name) == pytest.approx(scale * getattr(plain, name) + shift, abs=1e-6)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_too_few_values_have_no_interval(count: int) -> None:
    found = mean_over_seeds([0.5 + i for i in range(count)])
    assert found.value == 0.5 + (count - 1) / 2
    assert math.isnan(found.low)
    assert math.isnan(found.high)


@pytest.mark.parametrize("value", [0.0, 0.1, -3.0, 1e300])
def test_equal_values_have_an_interval_of_width_zero(value: float) -> None:
    found = mean_over_seeds([value] * 7)
    assert found.low == found.value == found.high == pytest.approx(value)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_makes_all_nan(bad: float) -> None:
    assert is_nan(mean_over_seeds([1.0, bad, 2.0]))
    assert is_nan(paired_difference([1.0, bad], [1.0, 2.0]))


def test_no_values_have_no_mean() -> None:
    assert is_nan(mean_over_seeds([]))


def test_differences_are_paired_by_position() -> None:
    better = [value + 0.001 for value in TEN]
    found = paired_difference(better, TEN)
    assert found.value == pytest.approx(0.001)
    assert found.high - found.low < 1e-9
    shuffled = paired_difference(better[::-1], TEN)
    assert shuffled.value == pytest.approx(0.001)
    assert shuffled.high - shuffled.low > 1e-4


def test_values_of_unequal_length_are_not_paired() -> None:
    with pytest.raises(ValueError, match="shorter"):
        paired_difference([1.0, 2.0], [1.0])


def between_order_statistics(values: list[float]) -> tuple[float, float]:
    """The narrowest symmetric pair of order statistics that holds the median with at least 95%."""
    n, ordered = len(values), sorted(values)
    tails = [r for r in range(n // 2) if 2 * sum(comb(n, i) for i in range(r + 1)) / 2**n <= 0.05]
    return (ordered[max(tails)], ordered[n - 1 - max(tails)]) if tails else (math.nan, math.nan)


@settings(max_examples=100)
@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=40, unique=True))
def test_the_interval_of_the_median_is_the_exact_binomial_one(values: list[float]) -> None:
    found = median_over_rounds(values)
    low, high = between_order_statistics(values)
    assert found.value == pytest.approx(float(np.median(values)))
    assert (found.low, found.high) == pytest.approx((low, high), nan_ok=True)


@pytest.mark.parametrize(("rounds", "has_interval"), [(5, False), (6, True)])
def test_a_median_needs_six_rounds_for_an_interval(rounds: int, has_interval: bool) -> None:
    found = median_over_rounds([float(i) for i in range(rounds)])
    assert math.isnan(found.low) is math.isnan(found.high) is not has_interval
