"""Controls of the comparison itself: how often it declares a difference where there is none, and where there is one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from mtlbench.stats.estimates import CONFIDENCE, ENOUGH_SEEDS, LEVEL, Floats, detectable, sign_flip_p

ENOUGH_FOR_HALVES = 2 * ENOUGH_SEEDS
"""Halves of fewer than six seeds have no sign-flip p of 5% or less."""


@dataclass(frozen=True)
class Control:
    """How many comparisons of those made declared a difference.

    Attributes:
        declared: comparisons with a p of 5% or less.
        made: all comparisons.
    """

    declared: int
    made: int

    @classmethod
    def total(cls, counts: Iterable[tuple[int, int]]) -> Control:
        """The sum of (declared, made) counts, such as one for each strategy and task."""
        pairs = list(counts)
        return cls(sum(declared for declared, _ in pairs), sum(made for _, made in pairs))

    @property
    def share(self) -> float:
        """Declared over made; NaN if none was made."""
        return self.declared / self.made if self.made else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """Exact 95% interval of the share (Clopper & Pearson, Biometrika 1934); NaN if none was made.

        It is for independent comparisons. Resamplings of one set of values are so given those values; columns that
        share their seeds are not, and have a wider interval in truth.
        """
        if not self.made:
            return float("nan"), float("nan")
        found = stats.binomtest(self.declared, self.made).proportion_ci(CONFIDENCE, method="exact")
        return float(found.low), float(found.high)


def false_alarms(values: Sequence[float] | Floats, resamplings: int, rng: np.random.Generator) -> tuple[int, int]:
    """A/A: how often two random halves of one strategy's seeds are declared different, as (declared, made).

    Each resampling splits `values` [K] at random into two halves of K // 2, pairs them in random order and declares a
    difference if `sign_flip_p` is 5% or less. A pair's two values are equally likely either way round, so the share
    expected is the largest attainable p up to 5%, whatever the values are if none tie.

    Raises:
        ValueError: fewer than `ENOUGH_FOR_HALVES` values, or one that is not finite.
    """
    declared = sum(sign_flip_p(differences) <= LEVEL for differences in _halves(values, resamplings, rng))
    return declared, resamplings


def found(values: Sequence[float] | Floats, resamplings: int, rng: np.random.Generator) -> tuple[int, int]:
    """How often a planted difference is declared between the halves of `false_alarms`, as (declared, made).

    It is added to one half and is twice what `detectable` gives, for a single comparison, from the resampling's own
    differences. The same state of `rng` gives the same halves as in `false_alarms`.

    Raises:
        ValueError: fewer than `ENOUGH_FOR_HALVES` values, or one that is not finite.
    """
    halves = _halves(values, resamplings, rng)
    declared = sum(sign_flip_p(differences + 2 * detectable(differences, 1)) <= LEVEL for differences in halves)
    return declared, resamplings


def _halves(values: Sequence[float] | Floats, resamplings: int, rng: np.random.Generator) -> Iterator[Floats]:
    """Differences [K // 2] between two random halves; of an odd number of values one is left out each time."""
    sample = np.asarray(values, dtype=float)
    if len(sample) < ENOUGH_FOR_HALVES:
        raise ValueError(f"at least {ENOUGH_FOR_HALVES} values are needed, got {len(sample)}")
    if not np.isfinite(sample).all():
        raise ValueError("values must be finite")
    half = len(sample) // 2
    for _ in range(resamplings):
        order = rng.permutation(sample)
        yield order[:half] - order[half : 2 * half]
