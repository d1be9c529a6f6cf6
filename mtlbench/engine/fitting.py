"""Trains one run: the epochs of a stack, what is looked at between them, and what is kept."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from mtlbench.contracts.setup import Split, Task
from mtlbench.engine.trainer import Trainer
from mtlbench.records.history import Evaluation, History, Result, Trajectory

TRAJECTORY_POINTS = 30
STRETCHED = ("losses", "weights", "norms", "cosines")
SIGNIFICANT_DIGITS, SCORE_DIGITS = 4, 6
"""Of means over a stretch, which are plotted; of losses and scores of a whole split, in float32."""


@dataclass(frozen=True)
class Progress:
    """Where a run is: epochs done (with their fraction), one task's last training loss and validation score.

    `metric` names the score; `validated` marks the end of an epoch, when the score is new.
    """

    done: float
    loss: float | None
    score: float | None
    metric: str
    validated: bool = False


def fit(
    trainer: Trainer,
    held_out: Split,
    *,
    epochs: int,
    watched: Task,
    report: Callable[[Progress], None],
    so_far: History | None = None,
    keep: Callable[[History], None] | None = None,
) -> History:
    """Train all epochs that are left; the validation split is read after each.

    Args:
        trainer: the stack, in the state in which `so_far` ended.
        held_out: the validation split.
        epochs: passes over the training split, those of `so_far` included.
        watched: the task whose loss and score are reported while the run goes on.
        report: told of progress about 20 times an epoch.
        so_far: what was recorded of earlier epochs.
        keep: given the history after each epoch, while the trainer's state is that of the epoch's end.
    """
    history = so_far or _empty(trainer.replicas)
    task = trainer.tasks.index(watched)
    points = max(1, min(TRAJECTORY_POINTS // epochs, trainer.steps_per_epoch))
    stride = max(1, trainer.steps_per_epoch // 20)
    score = _mean_score(history.validation[-1], task) if history.validation else None
    loss = None
    for epoch in range(len(history.validation), epochs):
        trainer.start_epoch(epoch)
        seconds = 0.0
        for first in range(0, trainer.steps_per_epoch, stride):
            begun = time.perf_counter()
            last = min(first + stride, trainer.steps_per_epoch)
            for _ in range(first, last):
                trainer.step()
            loss = float(trainer.traces["losses"][last - 1, :, task].mean())
            seconds += time.perf_counter() - begun
            report(Progress(epoch + last / trainer.steps_per_epoch, loss, score, watched.metric))
        trainer.end_epoch()
        validation = _evaluation(*trainer.evaluate(held_out))
        score = _mean_score(validation, task)
        report(Progress(epoch + 1, loss, score, watched.metric, validated=True))
        history = _extended(history, trainer, epoch, points, validation, seconds)
        if keep is not None:
            keep(history)
    return history


def tested(history: History, trainer: Trainer, test: Split) -> Result:
    """What a run leaves: the test split is looked at here, once, after the last epoch."""
    return Result(**vars(history), test=_evaluation(*trainer.evaluate(test)))


def _empty(replicas: int) -> History:
    return History([], Trajectory([], [], [], None, None), [None] * replicas, 0.0)


def _extended(
    history: History, trainer: Trainer, epoch: int, points: int, validation: Evaluation, seconds: float
) -> History:
    """The history with one more epoch."""
    path = history.trajectory
    ends, stretches = list(path.epochs), {name: list(getattr(path, name) or []) for name in STRETCHED}
    for part in range(points):
        begin, end = (trainer.steps_per_epoch * p // points for p in (part, part + 1))
        means = _stretch({name: t[begin:end] for name, t in trainer.traces.items()})
        for name, values in means.items():
            stretches[name].append(_rounded(values, SIGNIFICANT_DIGITS).tolist())
        ends.append(round(epoch + end / trainer.steps_per_epoch, SIGNIFICANT_DIGITS))
    has_gramian = bool(stretches["norms"])
    trajectory = Trajectory(
        ends,
        stretches["losses"],
        stretches["weights"],
        stretches["norms"] if has_gramian else None,
        stretches["cosines"] if has_gramian else None,
    )
    return History(
        [*history.validation, validation],
        trajectory,
        _first_divergence(history.diverged, trainer.traces, epoch * trainer.steps_per_epoch),
        history.training_seconds + seconds,
    )


def _first_divergence(before: list[int | None], traces: dict[str, Tensor], taken: int) -> list[int | None]:
    """Per seed, the number of updates before the first step with a loss or weight that is not finite.

    `taken` of them were made before the epoch that was traced.
    """
    finite = (traces["losses"].isfinite() & traces["weights"].isfinite()).all(-1)  # [S, K]
    found = [None if ok.all() else taken + int((~ok).int().argmax()) for ok in finite.cpu().unbind(1)]
    return [new if old is None else old for old, new in zip(before, found, strict=True)]


def _mean_score(evaluation: Evaluation, task: int) -> float:
    return sum(row[task] for row in evaluation.scores) / len(evaluation.scores)


def _evaluation(losses: Tensor, scores: Tensor) -> Evaluation:
    return Evaluation(_rounded(losses, SCORE_DIGITS).tolist(), _rounded(scores, SCORE_DIGITS).tolist())


def _rounded(values: Tensor, digits: int) -> Tensor:
    """Values with that many significant digits: they are kept in git as text."""
    flat = [float(f"{value:.{digits}g}") for value in values.cpu().double().flatten().tolist()]
    return torch.tensor(flat, dtype=torch.float64).view(values.shape)


def _stretch(traces: dict[str, Tensor]) -> dict[str, Tensor]:
    """Means over a stretch of steps, `[K, ...]`; a Gramian as norms and cosines."""
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
