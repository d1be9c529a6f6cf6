"""Intervals, tests and comparisons, against scipy and statsmodels called directly, against counting and simulation."""

from __future__ import annotations

import math
from itertools import product
from math import comb
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate
from scipy import stats as scipy_stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from mtlbench.stats.estimates import (
    Comparison,
    Estimate,
    compare,
    delta_m,
    detectable,
    gained,
    holm,
    mean_over_seeds,
    means_over_seeds,
    median_over_rounds,
    sign_flip_p,
    smallest_p,
    verdict,
)

TEN = [0.9790, 0.9801, 0.9786, 0.9811, 0.9795, 0.9803, 0.9788, 0.9799, 0.9807, 0.9781]
samples = st.lists(st.integers(-1000, 1000).map(lambda i: i / 64), min_size=6, max_size=12)


def is_nan(estimate: Estimate) -> bool:
    return math.isnan(estimate.value) and math.isnan(estimate.low) and math.isnan(estimate.high)


def test_the_interval_is_scipys_bca_with_expanded_percentiles_from_a_fixed_generator() -> None:
    # Hesterberg: t of 97.5% at nine degrees of freedom is 2.262157, and each tail Phi(-2.262157 sqrt(10 / 9)).
    level = 1 - 2 * float(scipy_stats.norm.cdf(-2.262157163 * math.sqrt(10 / 9)))
    rng = np.random.default_rng(0)
    expected = scipy_stats.bootstrap((np.array(TEN),), np.mean, n_resamples=9_999, confidence_level=level, rng=rng)
    found = mean_over_seeds(TEN)
    assert found.value == float(np.mean(TEN))
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval), rel=1e-9)
    assert found == mean_over_seeds(TEN)


def test_many_rows_give_what_each_gives_alone() -> None:
    # Rounded, so that resampled means tie with the mean; more rows than one chunk of the bootstrap holds.
    rows = np.random.default_rng(2).normal(size=(60, 10)).round(1)
    rows[3], rows[4, 2] = 0.5, math.nan
    for found, row in zip(means_over_seeds(rows), rows, strict=True):
        alone = mean_over_seeds(row.tolist())
        assert found == alone or (is_nan(found) and is_nan(alone))


def test_no_rows_have_no_estimates() -> None:
    assert means_over_seeds(np.empty((0, 10))) == []
    with pytest.raises(ValueError, match="matrix"):
        means_over_seeds([1.0, 2.0])


@pytest.mark.parametrize(("seeds", "shape"), [(10, None), (10, 4.0), (16, 4.0)])
def test_the_interval_covers_the_mean_in_93_to_97_of_100_simulations(seeds: int, shape: float | None) -> None:
    # Normal, and gamma of shape 4 with skewness 1. 2,000 simulations have a standard error of 0.5 in 100.
    rng = np.random.default_rng(7)
    size = (2_000, seeds)
    rows = rng.normal(4, 2, size) if shape is None else rng.gamma(shape, 1, size)
    covered = np.mean([found.low <= 4 <= found.high for found in means_over_seeds(rows)])
    assert 0.93 <= covered <= 0.97


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
    assert is_nan(compare([1.0, bad], [1.0, 2.0]).difference)


def test_no_values_have_no_mean() -> None:
    assert is_nan(mean_over_seeds([]))


def test_differences_are_paired_by_position() -> None:
    better = [value + 0.001 for value in TEN]
    found = compare(better, TEN).difference
    assert found.value == pytest.approx(0.001)
    assert found.high - found.low < 1e-9
    shuffled = compare(better[::-1], TEN).difference
    assert shuffled.value == pytest.approx(0.001)
    assert shuffled.high - shuffled.low > 1e-4


def test_values_of_unequal_length_are_not_paired() -> None:
    with pytest.raises(ValueError, match="shorter"):
        compare([1.0, 2.0], [1.0])


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


differences = st.lists(st.integers(-64, 64).map(lambda i: i / 16), min_size=1, max_size=10)


@settings(max_examples=60)
@given(differences)
def test_the_sign_flip_p_is_the_share_of_all_flips(values: list[float]) -> None:
    # Sixteenths add without rounding, so that ties are exact.
    means = [sum(s * v for s, v in zip(signs, values, strict=True)) for signs in product((1, -1), repeat=len(values))]
    assert sign_flip_p(values) == np.mean([abs(mean) >= abs(sum(values)) for mean in means])


@settings(max_examples=60)
@given(differences, st.randoms(use_true_random=False), st.floats(1e-6, 1e6))
def test_the_sign_flip_p_ignores_order_sign_and_scale(values: list[float], random: Random, scale: float) -> None:
    shuffled = list(values)
    random.shuffle(shuffled)
    expected = sign_flip_p(values)
    assert sign_flip_p(shuffled) == sign_flip_p([-value for value in values]) == expected
    assert sign_flip_p([scale * value for value in values]) == expected


@pytest.mark.parametrize("seeds", [2, 7, 12, 16])
def test_the_sign_flip_p_is_that_of_scipys_permutation_test(seeds: int) -> None:
    values = np.random.default_rng(seeds).normal(0.4, 1, seeds)
    oracle = scipy_stats.permutation_test(
        (values,), np.mean, permutation_type="samples", n_resamples=2**seeds, vectorized=True
    )
    assert sign_flip_p(values) == pytest.approx(oracle.pvalue, rel=1e-12)


def test_above_sixteen_seeds_random_flips_come_near_the_exact_p() -> None:
    values = np.random.default_rng(5).normal(0.4, 1, 18)
    signs = np.array(list(product((1, -1), repeat=18)))
    exact = np.mean(np.abs(signs @ values) >= abs(values.sum()) - 1e-9)
    assert sign_flip_p(values) == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 9_999))
    assert sign_flip_p(values) == sign_flip_p(values)


def test_edges_of_the_sign_flip_test() -> None:
    assert sign_flip_p([0.0] * 8) == 1
    assert sign_flip_p([0.1, 0.2, -0.3]) == 1  # the sum is zero but for rounding
    assert sign_flip_p([1e300] * 3) == 0.25
    assert math.isnan(sign_flip_p([]))
    assert math.isnan(sign_flip_p([1.0, math.inf]))


@pytest.mark.parametrize("seeds", [1, 2, 6, 16, 17, 30])
def test_the_smallest_p_is_that_of_differences_of_one_sign(seeds: int) -> None:
    assert smallest_p(seeds) == pytest.approx(sign_flip_p([1.0] * seeds), abs=1.1e-4 * (seeds > 16))
    assert smallest_p(seeds) == (2 / 2**seeds if seeds <= 16 else 1 / 10_000)
    with pytest.raises(ValueError, match="seeds"):
        smallest_p(0)


@settings(max_examples=12, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_that_of_statsmodels(p_values: list[float]) -> None:
    expected = np.asarray(multipletests(p_values, method="holm")[1])
    assert holm(p_values) == pytest.approx(expected.tolist(), rel=1e-9)
    with_gaps = [math.nan, *p_values, math.nan]
    assert holm(with_gaps) == pytest.approx([math.nan, *expected.tolist(), math.nan], rel=1e-9, nan_ok=True)


def test_holm_of_nothing() -> None:
    assert holm([]) == []
    assert math.isnan(holm([math.nan])[0])


# Elsewhere statsmodels meets a NaN of the noncentral t and returns a difference of less power than it was asked for.
@pytest.mark.parametrize(("seeds", "comparisons"), [(6, 1), (10, 20)])
@pytest.mark.parametrize("power", [0.5, 0.8])
def test_the_detectable_difference_is_that_of_statsmodels(seeds: int, comparisons: int, power: float) -> None:
    values = np.random.default_rng(seeds).normal(0.1, 3, seeds)
    deviations = TTestPower().solve_power(nobs=seeds, alpha=0.05 / comparisons, power=power, alternative="two-sided")
    assert detectable(values, comparisons, power) == pytest.approx(deviations * values.std(ddof=1), rel=1e-5)


@pytest.mark.parametrize(("seeds", "comparisons"), [(6, 1), (10, 20), (16, 240), (30, 400)])
@pytest.mark.parametrize("power", [0.5, 0.8, 0.95])
def test_the_detectable_difference_has_its_power_by_integration(seeds: int, comparisons: int, power: float) -> None:
    values = np.random.default_rng(seeds).normal(0.1, 3, seeds)
    shift = detectable(values, comparisons, power) / values.std(ddof=1) * math.sqrt(seeds)
    critical = scipy_stats.t.ppf(1 - 0.05 / comparisons / 2, seeds - 1)

    def shown(squares: float) -> float:
        # Given the sum of squares, t is normal about the shift.
        bound = critical * math.sqrt(squares / (seeds - 1))
        above = scipy_stats.norm.cdf(shift - bound) + scipy_stats.norm.cdf(-shift - bound)
        return float(above * scipy_stats.chi2.pdf(squares, seeds - 1))

    assert integrate.quad(shown, 0, np.inf)[0] == pytest.approx(power, abs=1e-6)


def test_edges_of_the_detectable_difference() -> None:
    assert detectable(TEN, 26) == math.inf  # 26 * 2 / 2^10 = 0.0508
    assert detectable(TEN, 25) < math.inf
    assert detectable([0.25] * 6, 1) == 0
    assert detectable([0.25] * 5, 1) == math.inf
    assert math.isnan(detectable([1.0], 1))
    assert math.isnan(detectable([1.0, math.nan], 1))
    for comparisons, power in [(0, 0.8), (1, 0.04), (1, 1.0)]:
        with pytest.raises(ValueError, match="comparisons"):
            detectable(TEN, comparisons, power)


@settings(max_examples=50)
@given(differences)
def test_gained_counts_wins_and_half_the_ties(values: list[float]) -> None:
    expected = sum(1.0 if value > 0 else 0.5 if value == 0 else 0.0 for value in values) / len(values)
    assert gained(values) == pytest.approx(expected)
    assert gained([-value for value in values]) == pytest.approx(1 - expected)


def test_gained_without_values() -> None:
    assert math.isnan(gained([]))
    assert math.isnan(gained([1.0, math.nan]))


def test_delta_m_by_hand() -> None:
    # Means alone 0.5 and 2. Seed 0: (+0.1 / 0.5 - 0.4 / 2) / 2 = 0. Seed 1: (0 + 1 / 2) / 2 = 0.25.
    found = delta_m([[0.5, 1.4], [0.6, 2.0]], [[0.4, 1.0], [0.6, 3.0]], [True, False])
    assert found == pytest.approx([0.0, 0.25])


def test_the_mean_of_delta_m_is_that_of_the_mean_scores() -> None:
    rng = np.random.default_rng(3)
    scores, alone, better = rng.uniform(0.5, 2, (7, 4)), rng.uniform(0.5, 2, (7, 4)), [True, False, True, False]
    signs = [1 if up else -1 for up in better]
    m, b = scores.mean(axis=0), alone.mean(axis=0)
    classical = sum(sign * (m[t] - b[t]) / b[t] for t, sign in enumerate(signs)) / 4
    assert np.mean(delta_m(scores, alone, better)) == pytest.approx(classical)


def test_delta_m_needs_fitting_shapes_and_means_above_zero() -> None:
    with pytest.raises(ValueError, match="alone"):
        delta_m([[1.0, 2.0]], [[1.0]], [True])
    with pytest.raises(ValueError, match="above zero"):
        delta_m([[1.0]], [[0.0]], [True])


def test_a_comparison_holds_what_its_functions_give() -> None:
    reference = [value - 0.001 * i for i, value in enumerate(TEN)]
    pairs = [mine - theirs for mine, theirs in zip(TEN, reference, strict=True)]
    expected = Comparison(mean_over_seeds(pairs), sign_flip_p(pairs), gained(pairs), 10)
    assert compare(TEN, reference) == expected
    with pytest.raises(ValueError, match="shorter"):
        compare(TEN, TEN[1:])


@pytest.mark.parametrize(
    ("difference", "seeds", "p_holm", "comparisons", "expected"),
    [
        (0.1, 10, 0.05, 25, "more"),
        (-0.1, 10, 0.05, 25, "less"),
        (0.1, 10, 0.051, 25, "none shown"),
        (0.1, 10, math.nan, 25, "none shown"),
        (0.1, 10, 0.01, 26, "too few seeds"),
        (0.1, 5, 0.01, 1, "too few seeds"),
        (math.nan, 0, math.nan, 1, "too few seeds"),
    ],
)
def test_verdicts(difference: float, seeds: int, p_holm: float, comparisons: int, expected: str) -> None:
    comparison = Comparison(Estimate(difference, math.nan, math.nan), 0.002, 1.0, seeds)
    assert verdict(comparison, p_holm, comparisons) == expected
