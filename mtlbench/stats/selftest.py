"""The comparison put to the test on stored runs: what it declares where there is nothing, and where there is."""

from __future__ import annotations

import numpy as np

from mtlbench.errors import UserError
from mtlbench.records.store import Store
from mtlbench.stats.comparisons import samples_of
from mtlbench.stats.controls import ENOUGH_FOR_HALVES, Control, false_alarms, found
from mtlbench.stats.frames import runs_frame

RESAMPLINGS = 200
WANTED_POWER = 0.8


def run(store: Store, resamplings: int = RESAMPLINGS) -> tuple[Control, Control]:
    """A/A comparisons, and comparisons with a planted difference, of every score of every run of a bench.

    Each resampling splits the seeds of one run into two halves at random, which differ by nothing but their seeds, and
    compares them; then it does so again with twice the smallest detectable difference added to one half.

    Raises:
        UserError: there is no such bench, or its runs have fewer than 12 seeds.
    """
    bench = store.require_bench()
    samples = [
        np.asarray(scores, dtype=np.float64)
        for setup in bench.runs
        for scores in samples_of(runs_frame(store.runs(setup))).values()
    ]
    large = [scores for scores in samples if len(scores) >= ENOUGH_FOR_HALVES and np.isfinite(scores).all()]
    if not large:
        raise UserError(f"{store.folder} has no run of at least {ENOUGH_FOR_HALVES} seeds, which two halves need")
    rng = np.random.default_rng(0)
    return (
        Control.total(false_alarms(scores, resamplings, rng) for scores in large),
        Control.total(found(scores, resamplings, rng) for scores in large if np.ptp(scores) > 0),
    )
