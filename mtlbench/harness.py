"""Trains one run: the epochs of a stack, what is looked at between them, and what is kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from mtlbench.errors import UserError
from mtlbench.records import Evaluation, Matrix, Result, Trajectory
from mtlbench.strategy import Strategy
from mtlbench.tasks import Setup
from mtlbench.trainer import Trainer

DEVICES = ("auto", "cpu", "cuda", "mps")
TRAJECTORY_POINTS = 30
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


def resolve_device(name: str) -> str:
    """The device kind that `name` stands for on this machine: `auto` is cuda, else mps, else cpu.

    Raises:
        UserError: there is no such device, or this machine lacks it.
    """
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return next(kind for kind in ("cuda", "mps", "cpu") if there[kind])
    if name not in there:
        raise UserError(f"no device is called {name!r}; there is {', '.join(DEVICES)}")
    if not there[name]:
        raise UserError(f"torch finds no {name} device on this machine; use --device auto or cpu")
    return name


@dataclass(frozen=True)
class Fitted:
    """A trained stack that has not seen the test split, and what was recorded on the way."""

    trainer: Trainer
    validation: list[Evaluation]
    trajectory: Trajectory
    training_seconds: float


def fit(
    setup: Setup,
    build: Callable[[tuple[int, int]], Strategy],
    *,
    seeds: Sequence[int],
    epochs: int,
    batch_size: int,
    lr: float,
    device: str,
    watched: int,
    report: Callable[[Progress], None],
) -> Fitted:
    """Train a strategy on a setup for all seeds at once; the validation split is read after each epoch.

    Args:
        setup: what to train on.
        build: makes the strategy for a shape (K, T).
        seeds: one replica each.
        epochs: passes over the training split.
        batch_size: samples of a step, per replica.
        lr: Adam's learning rate.
        device: cpu, cuda or mps.
        watched: the task whose loss and score are reported while the run goes on.
        report: told of progress about 20 times an epoch.
    """
    samples, held_out = setup.samples()
    trainer = Trainer(setup, build, seeds, samples, batch_size=batch_size, lr=lr, device=torch.device(device))
    validation: list[Evaluation] = []
    stretches: list[dict[str, Tensor]] = []
    ends: list[float] = []
    points = max(1, min(TRAJECTORY_POINTS // epochs, trainer.steps_per_epoch))
    stride = max(1, trainer.steps_per_epoch // 20)
    metric = setup.tasks[watched].metric
    loss = score = None
    seconds = 0.0
    for epoch in range(epochs):
        trainer.start_epoch(epoch)
        for first in range(0, trainer.steps_per_epoch, stride):
            begun = time.perf_counter()
            last = min(first + stride, trainer.steps_per_epoch)
            for _ in range(first, last):
                trainer.step()
            loss = float(trainer.traces["losses"][last - 1, :, watched].mean())
            seconds += time.perf_counter() - begun
            report(Progress(epoch + last / trainer.steps_per_epoch, loss, score, metric))
        trainer.end_epoch()
        validation.append(_evaluation(*trainer.evaluate(held_out)))
        score = float(torch.tensor(validation[-1].scores)[:, watched].mean())
        report(Progress(epoch + 1, loss, score, metric, validated=True))
        for part in range(points):
            begin, end = (trainer.steps_per_epoch * p // points for p in (part, part + 1))
            stretches.append(_stretch({name: t[begin:end] for name, t in trainer.traces.items()}))
            ends.append(epoch + end / trainer.steps_per_epoch)
    return Fitted(trainer, validation, _trajectory(ends, stretches), seconds)


def tested(fitted: Fitted, setup: Setup) -> Result:
    """What a run leaves: the test split is read here, once, after the last epoch."""
    test = _evaluation(*fitted.trainer.evaluate(setup.test()))
    return Result(test, fitted.validation, fitted.trajectory, fitted.training_seconds)


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


def _trajectory(ends: list[float], stretches: list[dict[str, Tensor]]) -> Trajectory:
    def column(name: str) -> list[Matrix]:
        return _rounded(torch.stack([stretch[name] for stretch in stretches]), SIGNIFICANT_DIGITS).tolist()

    has_gramian = "norms" in stretches[0]
    return Trajectory(
        [round(end, SIGNIFICANT_DIGITS) for end in ends],
        column("losses"),
        column("weights"),
        column("norms") if has_gramian else None,
        column("cosines") if has_gramian else None,
    )
