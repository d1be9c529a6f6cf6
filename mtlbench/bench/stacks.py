"""How the seeds of a run are divided into stacks that are trained by different workers, and joined again."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from mtlbench.records.history import Evaluation, Matrix, Result, Trajectory

Seeds = tuple[int, ...]


MANY_CORES = 32  # about as many as a bench of all strategies has runs


def parts(seeds: int, cores: int, *, baseline: bool) -> int:
    """Into how many stacks a run is divided.

    A large stack is the fastest per sample, so runs stay whole as long as there are enough of them for the cores. The
    baselines of one task, which are started last, are divided among all cores, so that none waits for the last run. It
    does not depend on what else is run, so that a run has the same result in every bench on a machine.
    """
    return min(seeds, cores if baseline else max(1, cores // MANY_CORES))


def divided(seeds: Seeds, count: int) -> tuple[Seeds, ...]:
    """The seeds in `count` stacks of equal size, or one more."""
    ends = [len(seeds) * i // count for i in range(count + 1)]
    return tuple(seeds[begin:end] for begin, end in pairwise(ends))


def joined(results: Sequence[Result]) -> Result:
    """The result of a run from those of its stacks, in their order."""
    first = results[0]
    paths = [result.trajectory for result in results]
    return Result(
        [_beside([each.validation[i] for each in results]) for i in range(len(first.validation))],
        Trajectory(
            first.trajectory.epochs,
            _stretches([path.losses for path in paths]),
            _stretches([path.weights for path in paths]),
            None if first.trajectory.norms is None else _stretches([path.norms or [] for path in paths]),
            None if first.trajectory.cosines is None else _stretches([path.cosines or [] for path in paths]),
        ),
        [step for result in results for step in result.diverged],
        sum(result.training_seconds for result in results),
        _beside([result.test for result in results]),
    )


def _beside(evaluations: Sequence[Evaluation]) -> Evaluation:
    return Evaluation(
        [row for each in evaluations for row in each.losses], [row for each in evaluations for row in each.scores]
    )


def _stretches(columns: Sequence[list[Matrix]]) -> list[Matrix]:
    """Stretch after stretch, the seeds' rows of all stacks."""
    return [[row for matrix in stretch for row in matrix] for stretch in zip(*columns, strict=True)]
