"""How the seeds of a run are divided into stacks that are trained by different workers, and joined again."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from mtlbench.records import Evaluation, Matrix, Result, Trajectory

Seeds = tuple[int, ...]


def parts(runs: int, seeds: int, cores: int) -> list[int]:
    """Into how many stacks each of `runs` equal runs is divided, in the order in which they are started.

    Whole runs fill the cores in turns, since a large stack is the fastest per sample. Those of the last turn, which
    would leave cores idle, are divided as far as cores and seeds go.
    """
    last = runs % cores
    return [1] * (runs - last) + [min(seeds, cores // last) for _ in range(last)]


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
