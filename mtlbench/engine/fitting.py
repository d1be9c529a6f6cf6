"""Trains one run: the epochs of a stack, with an evaluation after each, and the history that is stored."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any

import torch
from torch import Tensor

from mtlbench.contracts.setup import Split, Task
from mtlbench.engine.trainer import Trainer
from mtlbench.engine.turns import Turns
from mtlbench.records.history import Evaluation, History, Result, Trajectory

TRAJECTORY_POINTS = 30
REPORTS_PER_EPOCH = 20
TRAJECTORY_DIGITS, EVALUATION_DIGITS = 4, 6
"""Significant digits stored: of means over a stretch of steps, which are plotted; of float32 losses and scores."""


@dataclass(frozen=True)
class Progress:
    """How far a run is: epochs done (with fraction), the watched task's last training loss and validation score.

    `metric` names the score; `validated` is True at the end of an epoch, when the score is new.
    """

    done: float
    loss: float | None
    score: float | None
    metric: str
    validated: bool = False


def fit(
    trainer: Trainer | Turns,
    validation: Split,
    *,
    epochs: int,
    watched: Task,
    report: Callable[[Progress], None],
    so_far: History | None = None,
    keep: Callable[[History], None] | None = None,
) -> History:
    """Train the remaining epochs, with an evaluation on the validation split after each.

    The trainer must be in the state in which `so_far`, the history of earlier epochs, ended; `epochs` includes those.
    About 20 times an epoch, `report` is called with the progress, for which the task `watched` gives loss and score.
    `keep` is called with the history after each epoch, while the trainer is in its state at the end of that epoch.
    """
    history = so_far or History([], Trajectory([], [], [], None, None), [None] * trainer.replicas, 0.0)
    steps, task = trainer.steps_per_epoch, trainer.tasks.index(watched)
    stretches = max(1, min(TRAJECTORY_POINTS // epochs, steps))
    stride = max(1, steps // REPORTS_PER_EPOCH)
    score = _mean_score(history.validation[-1], task) if history.validation else None
    loss = None
    for epoch in range(len(history.validation), epochs):
        trainer.start_epoch(epoch)
        seconds = 0.0
        for first in range(0, steps, stride):
            begun = time.perf_counter()
            last = min(first + stride, steps)
            trainer.train(last - first)
            loss = float(trainer.traces["losses"][last - 1, :, task].mean())
            seconds += time.perf_counter() - begun
            report(Progress(epoch + last / steps, loss, score, watched.metric))
        trainer.end_epoch()
        evaluation = _evaluate(trainer, validation)
        score = _mean_score(evaluation, task)
        report(Progress(epoch + 1, loss, score, watched.metric, validated=True))
        history = History(
            [*history.validation, evaluation],
            _extended(history.trajectory, trainer, epoch, stretches),
            _first_divergence(history.diverged, trainer.traces, epoch * steps),
            history.training_seconds + seconds,
        )
        if keep is not None:
            keep(history)
    return history


def tested(history: History, trainer: Trainer | Turns, test: Split) -> Result:
    """The result of a run after its last epoch. This is the only evaluation on the test split."""
    return Result(**vars(history), test=_evaluate(trainer, test))


def _extended(trajectory: Trajectory, trainer: Trainer | Turns, epoch: int, stretches: int) -> Trajectory:
    """The trajectory with one more epoch, as means over equal stretches of its steps."""
    rows: dict[str, list[Any]] = {name: list(values or []) for name, values in vars(trajectory).items()}
    steps = trainer.steps_per_epoch
    for begin, end in pairwise(steps * stretch // stretches for stretch in range(stretches + 1)):
        for name, mean in _means({name: trace[begin:end] for name, trace in trainer.traces.items()}).items():
            rows[name].append(_rounded(mean, TRAJECTORY_DIGITS))
        rows["epochs"].append(round(epoch + end / steps, TRAJECTORY_DIGITS))
    return Trajectory(**{name: values or None for name, values in rows.items()})  # pyright: ignore[reportArgumentType]


def _first_divergence(before: list[int | None], traces: dict[str, Tensor], taken: int) -> list[int | None]:
    """For each seed, the number of updates before the first step with a loss or weight that is not finite.

    `before` holds those of earlier epochs, in which `taken` updates were made.
    """
    finite = (traces["losses"].isfinite() & traces["weights"].isfinite()).all(-1)  # [S, K]
    latest = [None if ok.all() else taken + int((~ok).int().argmax()) for ok in finite.cpu().unbind(1)]
    return [new if old is None else old for old, new in zip(before, latest, strict=True)]


def _mean_score(evaluation: Evaluation, task: int) -> float:
    return sum(row[task] for row in evaluation.scores) / len(evaluation.scores)


def _evaluate(trainer: Trainer | Turns, split: Split) -> Evaluation:
    losses, scores = trainer.evaluate(split)
    return Evaluation(_rounded(losses, EVALUATION_DIGITS), _rounded(scores, EVALUATION_DIGITS))


def _rounded(values: Tensor, digits: int) -> list[Any]:
    """Nested lists of the values with that many significant digits: results are kept in git as text."""
    flat = [float(f"{value:.{digits}g}") for value in values.cpu().double().flatten().tolist()]
    return torch.tensor(flat, dtype=torch.float64).view(values.shape).tolist()


def _means(traces: dict[str, Tensor]) -> dict[str, Tensor]:
    """Means over the steps, `[K, ...]`: losses, weights and, if there is a Gramian, its norms and cosines."""
    means = {"losses": traces["losses"].mean(0), "weights": traces["weights"].mean(0)}
    if "gramian" in traces:
        gramian = traces["gramian"]  # [S, K, T, T]
        norms = gramian.diagonal(dim1=-2, dim2=-1).clamp_min(0).sqrt()  # [S, K, T]
        pairs = list(combinations(range(norms.shape[-1]), 2))
        tiny = torch.finfo(norms.dtype).tiny
        cosines = [gramian[..., s, t] / (norms[..., s] * norms[..., t]).clamp_min(tiny) for s, t in pairs]
        means["norms"] = norms.mean(0)
        means["cosines"] = torch.stack(cosines, -1).mean(0)
    return means
