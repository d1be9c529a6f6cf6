"""Tests the comparison itself on stored runs: how often it declares a difference where there is none, and where one is.

Both controls split the seeds of one strategy into random halves, which differ by nothing but their seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from mtlbench.errors import UserError
from mtlbench.records.store import Store
from mtlbench.stats.comparisons import samples_of
from mtlbench.stats.estimates import CONFIDENCE, ENOUGH_SEEDS, LEVEL, Floats, detectable, sign_flip_ps
from mtlbench.stats.frames import runs_frame

RESAMPLINGS = 200
WANTED_POWER = 0.8
ENOUGH_FOR_HALVES = 2 * ENOUGH_SEEDS
"""Fewest seeds for the controls: halves of fewer than six seeds cannot reach a sign-flip p of 5%."""


@dataclass(frozen=True)
class Control:
    """Number of comparisons that declared a difference (p of 5% or less), out of all that were made."""

    declared: int
    made: int

    @property
    def share(self) -> float:
        """Declared over made; NaN if none was made."""
        return self.declared / self.made if self.made else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """Exact 95% interval of the share (Clopper & Pearson, Biometrika 1934); NaN if no comparison was made.

        It assumes independent comparisons. Resamplings of one set of values are independent given the values;
        columns that share their seeds are not, so that their true interval is wider.
        """
        if not self.made:
            return float("nan"), float("nan")
        bounds = stats.binomtest(self.declared, self.made).proportion_ci(CONFIDENCE, method="exact")
        return float(bounds.low), float(bounds.high)


def count_declared(
    values: Sequence[float] | Floats, resamplings: int, rng: np.random.Generator, *, planted: float = 0.0
) -> int:
    """How often two random halves of `values` [K] are declared different.

    Each resampling splits the values into two random halves of K // 2 (if K is odd, one value is left out), pairs them
    in random order and declares a difference if `sign_flip_p` is 5% or less. Within a pair both orders are equally
    likely, so for values without ties the expected share of false alarms is the largest attainable p up to 5%.

    Args:
        values: scores of one strategy, one per seed.
        resamplings: number of comparisons.
        rng: the same state gives the same halves.
        planted: difference added to one half, in multiples of what `detectable` gives for a comparison on its own.

    Raises:
        ValueError: fewer than `ENOUGH_FOR_HALVES` values, or one that is not finite.
    """
    sample = np.asarray(values, dtype=float)
    if len(sample) < ENOUGH_FOR_HALVES:
        raise ValueError(f"`values` must have at least {ENOUGH_FOR_HALVES} entries; found {len(sample)}")
    if not np.isfinite(sample).all():
        raise ValueError("`values` must be finite")
    half = len(sample) // 2
    orders = np.array([rng.permutation(sample) for _ in range(resamplings)])
    differences = orders[:, :half] - orders[:, half : 2 * half]  # [resamplings, K // 2]
    if planted:
        differences = differences + planted * np.array([[detectable(row, 1)] for row in differences])
    return int((sign_flip_ps(differences) <= LEVEL).sum())


def run(store: Store, resamplings: int = RESAMPLINGS) -> tuple[Control, Control]:
    """`count_declared` without and with a planted difference, summed over every score of every run of a bench.

    The planted difference is twice the smallest detectable one.

    Raises:
        UserError: there is no such bench, or none of its runs has 12 seeds.
    """
    samples = [
        np.asarray(scores, dtype=np.float64)
        for setup in store.require_bench().runs
        for scores in samples_of(runs_frame(store.runs(setup))).values()
    ]
    large = [scores for scores in samples if len(scores) >= ENOUGH_FOR_HALVES and np.isfinite(scores).all()]
    if not large:
        raise UserError(f"{store.folder} has no run with at least {ENOUGH_FOR_HALVES} seeds: each half needs six")
    rng = np.random.default_rng(0)
    varied = [scores for scores in large if np.ptp(scores) > 0]
    alarms = sum(count_declared(scores, resamplings, rng) for scores in large)
    found = sum(count_declared(scores, resamplings, rng, planted=2.0) for scores in varied)
    return Control(alarms, resamplings * len(large)), Control(found, resamplings * len(varied))
