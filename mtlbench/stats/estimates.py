"""Estimates with confidence intervals over seeds and timing rounds, and paired comparisons of two strategies."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Literal, cast

import numpy as np
import numpy.typing as npt
from scipy import optimize, stats

CONFIDENCE = 0.95
LEVEL = 0.05
RESAMPLES = 9_999
ENOUGH_SEEDS = 6
"""Fewest values that get an interval. A bootstrap interval never leaves the range of the sample, and the range of n
values covers the median with probability 1 - 2^(1 - n), which reaches 95% at six."""
EXACT_SEEDS = 16
"""Largest number of values for which the sign-flip test enumerates all flips."""
_CHUNK = 1_000_000
"""Resampled values that a bootstrap of many rows holds at once: 8 MB, which a processor caches."""

Floats = npt.NDArray[np.float64]
Verdict = Literal["more", "less", "none shown", "too few seeds"]


@dataclass(frozen=True)
class Estimate:
    """A value with its 95% interval; the bounds are NaN if there is too little data for an interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """A strategy compared with a reference over paired seeds, of which there are `seeds`.

    `difference` is strategy minus reference, `p` the two-sided sign-flip p value, not corrected for multiple
    comparisons, `gained` the share of seeds on which the strategy scored more; a tie counts one half.
    """

    difference: Estimate
    p: float
    gained: float
    seeds: int


def mean_over_seeds(values: Sequence[float]) -> Estimate:
    """Mean of `values` [K] with its 95% interval; see `means_over_seeds`."""
    return means_over_seeds(np.asarray(values, dtype=float)[None, :])[0]


def means_over_seeds(matrix: npt.ArrayLike) -> list[Estimate]:
    """Mean of each row of `matrix` [n, K] with its 95% expanded BCa bootstrap interval, from a fixed random generator.

    BCa (Efron, JASA 1987) with percentiles expanded for small samples (Hesterberg, The American Statistician 2015,
    section 5.3): each tail is Phi(-sqrt(K / (K - 1)) t), with t Student's 97.5% quantile at K - 1 degrees of freedom.
    This restores the width that the bootstrap loses through its divisor K and the normal quantile: plain BCa covers
    only 90% for ten seeds of normal data.

    Fewer than `ENOUGH_SEEDS` values get no interval; equal values get one of width zero; a value that is not finite
    makes the mean and both bounds NaN. The estimate of a row does not depend on the other rows.

    Raises:
        ValueError: `matrix` does not have two dimensions.
    """
    rows = np.asarray(matrix, dtype=float)
    if rows.ndim != 2:
        raise ValueError(f"`matrix` must have shape [n, K]; found {rows.ndim} dimension(s)")
    seeds = rows.shape[1]
    if seeds == 0:
        return [Estimate(math.nan, math.nan, math.nan)] * len(rows)
    finite = np.asarray(np.isfinite(rows).all(axis=1))
    means = np.full(len(rows), math.nan)
    means[finite] = rows[finite].mean(axis=1)
    low, high = np.full_like(means, math.nan), np.full_like(means, math.nan)
    if seeds >= ENOUGH_SEEDS:
        flat = finite & np.array([_equal(row) for row in np.where(finite[:, None], rows, 0.0)], dtype=bool)
        low[flat] = high[flat] = means[flat]
        spread = np.flatnonzero(finite & ~flat)
        step = max(1, _CHUNK // (RESAMPLES * seeds))
        for start in range(0, len(spread), step):
            chosen = spread[start : start + step]
            low[chosen], high[chosen] = _expanded_bca(rows[chosen])
    return [Estimate(float(m), float(a), float(b)) for m, a, b in zip(means, low, high, strict=True)]


def _expanded_bca(rows: Floats) -> tuple[Floats, Floats]:
    seeds = rows.shape[1]
    student = stats.t.ppf((1 + CONFIDENCE) / 2, seeds - 1)
    tail = float(stats.norm.cdf(-math.sqrt(seeds / (seeds - 1)) * student))
    interval = stats.bootstrap(
        (rows,),
        _mean,
        axis=-1,
        n_resamples=RESAMPLES,
        confidence_level=1 - 2 * tail,
        method="BCa",
        rng=np.random.default_rng(0),  # a new one for each chunk: every row gets the same resamples
    ).confidence_interval
    return np.asarray(interval.low), np.asarray(interval.high)


def _mean(resamples: Floats, axis: int) -> Floats:
    # scipy lays out the resamples of many rows in memory differently from those of one row. That would change the
    # order of summation, hence which resampled means tie with the mean, hence BCa's bias correction for rounded data.
    return np.ascontiguousarray(resamples).mean(axis=axis, dtype=np.float64)


def _equal(sample: Floats) -> bool:
    return bool(np.ptp(sample) <= 1e-12 * np.abs(sample).max())


def median_over_rounds(values: Sequence[float]) -> Estimate:
    """Median with its exact 95% interval between order statistics; fewer than six values get no interval."""
    sample = np.asarray(values, dtype=float)
    low, high = cast("tuple[float, float]", stats.quantile_test(sample, p=0.5).confidence_interval(CONFIDENCE))
    return Estimate(float(np.median(sample)), float(low), float(high))


@cache
def _signs(seeds: int) -> Floats:
    """Sign flips [flips, seeds]: all that keep the first sign, or `RESAMPLES` random ones and the identity."""
    if seeds <= EXACT_SEEDS:
        # A flip and its mirror image have the same |mean|, so half of the 2^K flips give the same share.
        flips = np.arange(2 ** (seeds - 1))[:, None] >> np.arange(seeds) & 1
    else:
        flips = np.random.default_rng(0).integers(0, 2, (1 + RESAMPLES, seeds))
        flips[0] = 0
    return np.asarray(1 - 2 * flips, dtype=np.float64)


def sign_flip_p(differences: Sequence[float] | Floats) -> float:
    """Two-sided p value of the sign-flip test that paired `differences` [K] are symmetric about zero (Fisher, 1935).

    The share of flips whose |mean| is at least the observed one: among all 2^K flips for up to `EXACT_SEEDS` values,
    else among the observed one and `RESAMPLES` random flips from a fixed generator. NaN if there are no values or one
    is not finite.
    """
    return float(sign_flip_ps(np.asarray(differences, dtype=float)[None, :])[0])


def sign_flip_ps(matrix: npt.ArrayLike) -> Floats:
    """`sign_flip_p` of each row of `matrix` [n, K], as [n]."""
    rows = np.asarray(matrix, dtype=float)
    if rows.shape[1] == 0:
        return np.full(len(rows), math.nan)
    largest = np.abs(rows).max(axis=1)
    ps = np.where(largest == 0, 1.0, math.nan)
    tried = np.isfinite(rows).all(axis=1) & (largest > 0)
    samples = rows[tried] / largest[tried, None]
    # scipy's permutation_test takes 0.3 s for 16 values, five minutes per report; one matrix product takes 1 ms.
    sums = np.abs(_signs(rows.shape[1]) @ samples.T)  # [flips, n]
    # The tolerance is relative to the summands: they, not the sum, set the size of the rounding error.
    ps[tried] = np.mean(sums >= np.abs(samples.sum(axis=1)) - 1e-12 * np.abs(samples).sum(axis=1), axis=0)
    return ps


def smallest_p(seeds: int) -> float:
    """Smallest p value that `sign_flip_p` can attain: 2 / 2^K for K seeds, 1 / (RESAMPLES + 1) above `EXACT_SEEDS`.

    Raises:
        ValueError: `seeds` is less than 1.
    """
    if seeds < 1:
        raise ValueError(f"`seeds` must be at least 1; found {seeds}")
    return 2.0 ** (1 - seeds) if seeds <= EXACT_SEEDS else 1 / (RESAMPLES + 1)


def holm(p_values: Iterable[float]) -> list[float]:
    """Step-down adjusted p values (Holm, Scandinavian Journal of Statistics 1979), in the order of the input.

    A NaN stays NaN and does not count as a comparison.
    """
    p = np.array(list(p_values), dtype=float)
    order = [i for i in np.argsort(p, kind="stable") if not math.isnan(p[i])]
    factors = np.arange(len(order), 0, -1)
    p[order] = np.minimum(np.maximum.accumulate(p[order] * factors), 1)
    return [float(value) for value in p]


def detectable(
    differences: Sequence[float] | Floats, comparisons: int, power: float = 0.8, level: float = LEVEL
) -> float:
    """Smallest mean paired difference that a comparison would declare with probability `power`.

    It is in the unit of `differences` [K], and assumes the only effect among `comparisons` Holm-corrected ones, that
    is, a two-sided test at level / comparisons. Computed from the noncentral t distribution (Cohen, Statistical Power
    Analysis, 1988) with the sample standard deviation of `differences`; the t-test stands in for the sign-flip test,
    which has nearly the same power. Infinite if the smallest attainable p of the sign-flip test is above
    level / comparisons; NaN for fewer than two values or one that is not finite; zero for equal differences.

    Raises:
        ValueError: `comparisons` is below 1, or not 0 < level / comparisons < power < 1.
    """
    if comparisons < 1 or not 0 < level / comparisons < power < 1:
        raise ValueError(
            "`comparisons`, `level` and `power` must satisfy comparisons >= 1 and 0 < level / comparisons < power < 1; "
            f"found {comparisons}, {level} and {power}"
        )
    sample = np.asarray(differences, dtype=float)
    seeds = len(sample)
    if seeds < 2 or not np.isfinite(sample).all():
        return math.nan
    if smallest_p(seeds) * comparisons > level:
        return math.inf
    if _equal(sample):
        return 0.0
    return float(sample.std(ddof=1)) * _detectable_deviations(seeds, level / comparisons, power)


@lru_cache(maxsize=4096)
def _detectable_deviations(seeds: int, level: float, power: float) -> float:
    """The detectable mean in standard deviations; cached, since a report asks for few distinct values many times."""
    freedom = seeds - 1
    critical = float(stats.t.ppf(1 - level / 2, freedom))

    def lacking(noncentrality: float) -> float:
        above = stats.nct.sf(critical, freedom, noncentrality)
        # Equal to cdf(-critical, ...), which is NaN for some large noncentralities.
        below = stats.nct.sf(critical, freedom, -noncentrality)
        return float(above + below) - power

    high = critical
    while lacking(high) < 0:
        high *= 2
    return optimize.brentq(lacking, 0.0, high) / math.sqrt(seeds)


def gained(differences: Sequence[float] | Floats) -> float:
    """Share of `differences` [K] above zero; a tie counts one half. NaN if there are none or one is not finite."""
    sample = np.asarray(differences, dtype=float)
    if len(sample) == 0 or not np.isfinite(sample).all():
        return math.nan
    return float(np.mean(0.5 * (np.sign(sample) + 1)))


def delta_m(scores: npt.ArrayLike, alone: npt.ArrayLike, higher_is_better: Sequence[bool]) -> list[float]:
    """Delta-m of each seed, as a share: mean over tasks of the signed relative change against training alone.

    For seed k: mean over t of sign_t (scores[k, t] - alone[k, t]) / mean over seeds of alone[:, t], with sign_t = 1
    where higher is better, else -1. Because the divisor is the mean over seeds, the mean over seeds of the result is
    Delta-m of the mean scores (Maninis, Radosavovic & Kokkinos, CVPR 2019), and seeds stay paired for an interval.

    Args:
        scores: [K, T], of the strategy.
        alone: [K, T], of each task trained alone, for the same seeds; the mean of each task must be above zero.
        higher_is_better: [T].

    Raises:
        ValueError: the shapes differ, or the mean of a task trained alone is not above zero.
    """
    together, single = np.asarray(scores, dtype=float), np.asarray(alone, dtype=float)
    if together.ndim != 2 or together.shape != single.shape or together.shape[1] != len(higher_is_better):
        raise ValueError(
            f"`scores` and `alone` must have shape [K, {len(higher_is_better)}]; found {together.shape}, {single.shape}"
        )
    divisors = single.mean(axis=0)  # [T]
    if (divisors <= 0).any():
        raise ValueError(f"the mean of `alone` must be above zero for each task; found {divisors.tolist()}")
    signs = np.where(higher_is_better, 1.0, -1.0)  # [T]
    return [float(value) for value in (signs * (together - single) / divisors).mean(axis=1)]


def compare(values: Sequence[float], reference: Sequence[float]) -> Comparison:
    """Compare `values` [K] with `reference` [K], paired by position (the same seed).

    Raises:
        ValueError: the two differ in length.
    """
    differences = [value - other for value, other in zip(values, reference, strict=True)]
    return Comparison(mean_over_seeds(differences), sign_flip_p(differences), gained(differences), len(differences))


def verdict(comparison: Comparison, p_holm: float, comparisons: int) -> Verdict:
    """Outcome of a comparison at the 5% level; `p_holm` is its p value after Holm's correction for `comparisons`.

    "too few seeds" means that even the smallest attainable p value would not be significant as the only effect.
    """
    if comparison.seeds < 1 or smallest_p(comparison.seeds) * comparisons > LEVEL:
        return "too few seeds"
    if not p_holm <= LEVEL:
        return "none shown"
    return "more" if comparison.difference.value > 0 else "less"
