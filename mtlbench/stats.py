"""Estimates with intervals, over seeds and over timing rounds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
RESAMPLES = 9_999
ENOUGH_SEEDS = 6
"""Fewer have no interval: a bootstrap interval stays within the sample's range, and the range of n values covers
the median with probability 1 - 2^(1 - n), which reaches 95% at six."""


@dataclass(frozen=True)
class Estimate:
    """A value with its 95% interval; the bounds are NaN where there is too little data for one."""

    value: float
    low: float
    high: float


def mean_over_seeds(values: Sequence[float]) -> Estimate:
    """Mean with its 95% BCa bootstrap interval (Efron, JASA 1987), from a fixed generator.

    Fewer than `ENOUGH_SEEDS` values have no interval; equal values have one of width zero; a value that is not
    finite makes all three NaN.
    """
    sample = np.asarray(values, dtype=float)
    if len(sample) == 0 or not np.isfinite(sample).all():
        return Estimate(math.nan, math.nan, math.nan)
    mean = float(sample.mean())
    if len(sample) < ENOUGH_SEEDS:
        return Estimate(mean, math.nan, math.nan)
    if np.ptp(sample) <= 1e-12 * np.abs(sample).max():
        return Estimate(mean, mean, mean)
    found = stats.bootstrap(
        (sample,),
        np.mean,
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        method="BCa",
        rng=np.random.default_rng(0),
    )
    return Estimate(mean, float(found.confidence_interval.low), float(found.confidence_interval.high))


def paired_difference(values: Sequence[float], reference: Sequence[float]) -> Estimate:
    """Mean of `values - reference`, paired by position (the same seed), with its interval.

    Raises:
        ValueError: the two differ in length.
    """
    pairs = zip(values, reference, strict=True)
    return mean_over_seeds([mine - theirs for mine, theirs in pairs])


def median_over_rounds(values: Sequence[float]) -> Estimate:
    """Median with its exact 95% interval between order statistics; at least six values are needed for one."""
    sample = np.asarray(values, dtype=float)
    low, high = cast("tuple[float, float]", stats.quantile_test(sample, p=0.5).confidence_interval(CONFIDENCE))
    return Estimate(float(np.median(sample)), float(low), float(high))
