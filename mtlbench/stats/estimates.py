"""Estimates with intervals over seeds and over timing rounds, and comparisons of two strategies over paired seeds."""

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
"""Fewer have no interval: a bootstrap interval stays within the sample's range, and the range of n values covers
the median with probability 1 - 2^(1 - n), which reaches 95% at six."""
EXACT_SEEDS = 16
"""Up to so many values the sign-flip test goes through all flips."""
_CHUNK = 4_000_000
"""Resampled values held at once by a bootstrap of many rows: 32 MB, which stays near the processor's cache."""

Floats = npt.NDArray[np.float64]
Verdict = Literal["more", "less", "none shown", "too few seeds"]


@dataclass(frozen=True)
class Estimate:
    """A value with its 95% interval; the bounds are NaN where there is too little data for one."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """A strategy against a reference over paired seeds.

    Attributes:
        difference: mean of strategy minus reference, in the score's unit, with its 95% interval.
        p: two-sided sign-flip p of no difference, not corrected for other comparisons.
        gained: share of the seeds on which the strategy scored more, a tie counting one half.
        seeds: number of pairs.
    """

    difference: Estimate
    p: float
    gained: float
    seeds: int


def mean_over_seeds(values: Sequence[float]) -> Estimate:
    """Mean of `values` with its 95% interval, as `means_over_seeds` computes it for each row."""
    return means_over_seeds(np.asarray(values, dtype=float)[None, :])[0]


def means_over_seeds(matrix: npt.ArrayLike) -> list[Estimate]:
    """Mean of each row of `matrix` [n, K] with its 95% expanded BCa bootstrap interval, from a fixed generator.

    BCa (Efron, JASA 1987) with the percentiles expanded for small samples (Hesterberg, The American Statistician 2015,
    section 5.3): each tail is Phi(-sqrt(K / (K - 1)) t), t being Student's 97.5% quantile at K - 1 degrees of freedom,
    which gives the bootstrap the width that it otherwise lacks by the divisor K and the normal quantile. Plain BCa
    covers 90% at ten seeds of normal data.

    Fewer than `ENOUGH_SEEDS` values have no interval; equal values have one of width zero; a value that is not
    finite makes all three NaN. A row's estimate does not depend on the other rows.

    Raises:
        ValueError: `matrix` does not have two dimensions.
    """
    rows = np.asarray(matrix, dtype=float)
    if rows.ndim != 2:
        raise ValueError(f"matrix must be [n, K], got {rows.ndim} dimension(s)")
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
    found = stats.bootstrap(
        (rows,),
        _mean,
        axis=-1,
        n_resamples=RESAMPLES,
        confidence_level=1 - 2 * tail,
        method="BCa",
        # Anew for each chunk, so that every row sees the same resamples.
        rng=np.random.default_rng(0),
    )
    return np.asarray(found.confidence_interval.low), np.asarray(found.confidence_interval.high)


def _mean(resamples: Floats, axis: int) -> Floats:
    # scipy's resamples of many rows lie in memory otherwise than those of one. The order of summation would follow,
    # and with it which resampled means tie with the mean, which moves BCa's bias correction for rounded data.
    return np.ascontiguousarray(resamples).mean(axis=axis, dtype=np.float64)


def _equal(sample: Floats) -> bool:
    return bool(np.ptp(sample) <= 1e-12 * np.abs(sample).max())


def paired_difference(values: Sequence[float], reference: Sequence[float]) -> Estimate:
    """Mean of `values - reference`, paired by position (the same seed), with its interval.

    Raises:
        ValueError: the two differ in length.
    """
    return mean_over_seeds(_differences(values, reference))


def _differences(values: Sequence[float], reference: Sequence[float]) -> list[float]:
    return [mine - theirs for mine, theirs in zip(values, reference, strict=True)]


def median_over_rounds(values: Sequence[float]) -> Estimate:
    """Median with its exact 95% interval between order statistics; at least six values are needed for one."""
    sample = np.asarray(values, dtype=float)
    low, high = cast("tuple[float, float]", stats.quantile_test(sample, p=0.5).confidence_interval(CONFIDENCE))
    return Estimate(float(np.median(sample)), float(low), float(high))


@cache
def _signs(seeds: int) -> Floats:
    """Flips [flips, seeds]: all with the first sign kept, or `RESAMPLES` random ones and the unflipped."""
    if seeds <= EXACT_SEEDS:
        # The mirror image of a flip has the same |mean|, so half of the 2^K flips give the same share.
        flips = np.arange(2 ** (seeds - 1))[:, None] >> np.arange(seeds) & 1
    else:
        flips = np.random.default_rng(0).integers(0, 2, (1 + RESAMPLES, seeds))
        flips[0] = 0
    return np.asarray(1 - 2 * flips, dtype=np.float64)


def sign_flip_p(differences: Sequence[float] | Floats) -> float:
    """Two-sided p of the sign-flip test that paired `differences` [K] are symmetric about zero (Fisher, 1935).

    The share of flips whose |mean| is at least the observed: of all 2^K up to `EXACT_SEEDS` values, above that of
    `RESAMPLES` random flips from a fixed generator and the observed. NaN for no values or one that is not finite.
    """
    sample = np.asarray(differences, dtype=float)
    if len(sample) == 0 or not np.isfinite(sample).all():
        return math.nan
    largest = np.abs(sample).max()
    if largest == 0:
        return 1.0
    sample = sample / largest
    # scipy's permutation_test takes 0.3 s at 16 values, five minutes a report; one matrix product takes a millisecond.
    # Sums that are equal but for rounding differ by parts of the summands, not of the sum.
    sums = np.abs(_signs(len(sample)) @ sample)
    return float(np.mean(sums >= abs(sample.sum()) - 1e-12 * np.abs(sample).sum()))


def smallest_p(seeds: int) -> float:
    """Smallest p that `sign_flip_p` can give for so many values: 2 / 2^K, above `EXACT_SEEDS` 1 / (RESAMPLES + 1).

    Raises:
        ValueError: fewer than one value.
    """
    if seeds < 1:
        raise ValueError(f"seeds must be at least 1, got {seeds}")
    return 2.0 ** (1 - seeds) if seeds <= EXACT_SEEDS else 1 / (RESAMPLES + 1)


def holm(p_values: Iterable[float]) -> list[float]:
    """Step-down adjusted p values (Holm, Scandinavian Journal of Statistics 1979), in the order given.

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
    """Smallest mean paired difference that so many seeds would show, in the unit of `differences` [K].

    It would be shown with probability `power` if it were the only effect among `comparisons` Holm-corrected ones, thus
    two-sided at level / comparisons. From the noncentral t (Cohen, Statistical Power Analysis, 1988) with the sample
    standard deviation of `differences`; the t-test stands for the sign-flip test, whose power is near it but whose p
    has a smallest value: `inf` where that is above level / comparisons. NaN for fewer than two values or one that is
    not finite, zero for equal differences.

    Raises:
        ValueError: `comparisons` is below one, or not 0 < level / comparisons < power < 1.
    """
    if comparisons < 1 or not 0 < level / comparisons < power < 1:
        raise ValueError(
            f"comparisons >= 1 and 0 < level / comparisons < power < 1 are needed, got {comparisons}, {level}, {power}"
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
    """The detectable mean in standard deviations, which a report asks for far more often than it differs."""
    freedom = seeds - 1
    critical = float(stats.t.ppf(1 - level / 2, freedom))

    def lacking(noncentrality: float) -> float:
        above = stats.nct.sf(critical, freedom, noncentrality)
        # The mirror image of cdf(-critical, ...), which is NaN for some large noncentralities.
        below = stats.nct.sf(critical, freedom, -noncentrality)
        return float(above + below) - power

    high = critical
    while lacking(high) < 0:
        high *= 2
    return optimize.brentq(lacking, 0.0, high) / math.sqrt(seeds)


def gained(differences: Sequence[float] | Floats) -> float:
    """Share of `differences` [K] above zero, a tie counting one half; NaN for none or one that is not finite."""
    sample = np.asarray(differences, dtype=float)
    if len(sample) == 0 or not np.isfinite(sample).all():
        return math.nan
    return float(np.mean(0.5 * (np.sign(sample) + 1)))


def delta_m(scores: npt.ArrayLike, alone: npt.ArrayLike, higher_is_better: Sequence[bool]) -> list[float]:
    """Delta-m of each seed, as a share: mean over tasks of the signed relative change against training alone.

    For seed k: mean over t of sign_t (scores[k, t] - alone[k, t]) / mean over seeds of alone[:, t], with sign_t = 1
    where higher is better and else -1. As the divisor is the seeds' mean, the mean over seeds is Delta-m of the mean
    scores (Maninis, Radosavovic & Kokkinos, CVPR 2019), and the seeds stay paired for an interval.

    Args:
        scores: [K, T] of the strategy.
        alone: [K, T] of each task trained alone, of the same seeds; above zero in the mean.
        higher_is_better: [T].

    Raises:
        ValueError: the shapes do not fit, or a task's mean alone is not above zero, which leaves no relative change.
    """
    mine, theirs = np.asarray(scores, dtype=float), np.asarray(alone, dtype=float)
    if mine.ndim != 2 or mine.shape != theirs.shape or mine.shape[1] != len(higher_is_better):
        raise ValueError(
            f"scores and alone must be [K, T] with T = {len(higher_is_better)}, got {mine.shape}, {theirs.shape}"
        )
    divisors = theirs.mean(axis=0)  # [T]
    if (divisors <= 0).any():
        raise ValueError(f"the mean of alone must be above zero for each task, got {divisors.tolist()}")
    signs = np.where(higher_is_better, 1.0, -1.0)  # [T]
    return [float(value) for value in (signs * (mine - theirs) / divisors).mean(axis=1)]


def compare(values: Sequence[float], reference: Sequence[float]) -> Comparison:
    """`values` [K] against `reference` [K], paired by position (the same seed).

    Raises:
        ValueError: the two differ in length.
    """
    pairs = _differences(values, reference)
    return Comparison(mean_over_seeds(pairs), sign_flip_p(pairs), gained(pairs), len(pairs))


def verdict(comparison: Comparison, p_holm: float, comparisons: int) -> Verdict:
    """What a comparison shows at 5%, `p_holm` being its p after Holm's correction for `comparisons` of them.

    "too few seeds" where even the smallest p that so many seeds can give would not be enough as the only effect.
    """
    if comparison.seeds < 1 or smallest_p(comparison.seeds) * comparisons > LEVEL:
        return "too few seeds"
    if not p_holm <= LEVEL:
        return "none shown"
    return "more" if comparison.difference.value > 0 else "less"
