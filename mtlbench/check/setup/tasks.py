"""What a setup promises of its losses and scores, each as a function that says what broke, and that it is learned."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from mtlbench.check.setup.subject import BATCH, LR, SetupSubject
from mtlbench.check.strategy.cases import shown
from mtlbench.check.strategy.small_training import NothingThatWaits, advance
from mtlbench.contracts.metrics import SHARES
from mtlbench.contracts.setup import Task
from mtlbench.errors import ContractError

REPLICAS, SAMPLES = 3, 8
STEPS = 100
SURE = 20.0
"""The logit of an output that is sure of its class."""


def means_per_replica(subject: SetupSubject) -> None:
    """Evaluation adds up means over chunks, and a stack trains K seeds of which none may see another.

    Raises:
        ContractError: as for all functions here, says what broke, with the numbers that show it.
    """
    for task, outputs, targets in subject.first_outputs(REPLICAS, SAMPLES):
        for what, measure in _measures(task):
            whole = measure(outputs, targets)
            if tuple(whole.shape) != (REPLICAS,) or whole.dtype != outputs.dtype:
                raise ContractError(
                    f"{what} of {task.name} must be one number per replica, {outputs.dtype} of shape [{REPLICAS}], "
                    f"not {whole.dtype} of shape {list(whole.shape)}"
                )
            if not whole.isfinite().all():
                raise ContractError(f"{what} of {task.name} at the first weights is {shown(whole)}")
            alone = torch.cat([measure(outputs[k : k + 1], targets[k : k + 1]) for k in range(REPLICAS)])
            if not torch.allclose(whole, alone, rtol=1e-4, atol=1e-6):
                raise ContractError(f"{what} of {task.name} is {shown(whole)} in the stack, {shown(alone)} one by one")
            half = SAMPLES // 2
            parts = (measure(outputs[:, :half], targets[:, :half]) + measure(outputs[:, half:], targets[:, half:])) / 2
            if not torch.allclose(whole, parts, rtol=1e-4, atol=1e-6):
                raise ContractError(
                    f"{what} of {task.name} is {shown(whole)} over {SAMPLES} samples, but the mean of those over both "
                    f"halves is {shown(parts)}: it must be a mean over the batch"
                )


def losses_have_gradients(subject: SetupSubject) -> None:
    """Each loss changes with its outputs, in every replica."""
    for task, outputs, targets in subject.first_outputs(REPLICAS, SAMPLES):
        given = outputs.detach().requires_grad_()
        loss = task.loss(given, targets)
        if not loss.requires_grad:
            raise ContractError(f"the loss of {task.name} does not depend on its outputs")
        (gradient,) = torch.autograd.grad(loss.sum(), given)
        sizes = gradient.flatten(1).norm(dim=-1)
        if not (sizes.isfinite().all() and (sizes > 0).all()):
            raise ContractError(
                f"the gradient of the loss of {task.name} has the norms {shown(sizes)}, one per replica"
            )


def perfect_is_better(subject: SetupSubject) -> str | None:
    """Outputs that are right have a lower loss and a better score than those of other samples; shares are in [0, 1].

    Where it is not known which outputs are right, or all targets are the same, it says so.
    """
    untried: list[str] = []
    for t, task in enumerate(subject.setup.tasks):
        targets = subject.examples.targets[:, t].unsqueeze(0)  # [1, N]
        perfect = perfect_outputs(task, targets)
        if perfect is None or bool((targets == targets[:, :1]).all()):
            untried.append(task.name)
            continue
        order = torch.randperm(targets.shape[1], generator=torch.Generator().manual_seed(0))
        for what, measure in _measures(task):
            best, other = (float(measure(outputs, targets)) for outputs in (perfect, perfect[:, order]))
            lower = what == "the loss" or task.better == "lower"
            if not (best < other if lower else best > other):
                raise ContractError(
                    f"{what} of {task.name} is {best:.4g} for perfect outputs and {other:.4g} for those of other "
                    f"samples, but {'lower' if lower else 'higher'} is better"
                )
            if what == "the score" and task.metric in SHARES and not 0 <= min(best, other) <= max(best, other) <= 1:
                raise ContractError(f"the {task.metric} of {task.name} must be a share in [0, 1], not {other:.4g}")
    return f"not known which outputs are perfect, or all targets the same: {', '.join(untried)}" if untried else None


def perfect_outputs(task: Task, targets: Tensor) -> Tensor | None:
    """Outputs `[K, N, columns]` that are right for targets `[K, N]`; None where that cannot be known of a task.

    Of a task without classes they are the targets, if these have a loss of 0: it may take its outputs in other units.
    """
    if task.classes is None:
        itself = targets.float().unsqueeze(-1)
        return itself if task.columns == 1 and not task.loss(itself, targets).any() else None
    if task.columns == task.classes:
        return SURE * F.one_hot(targets.long(), task.classes).float()
    return SURE * (2 * targets.float() - 1).unsqueeze(-1) if (task.columns, task.classes) == (1, 2) else None


def runs_on_meta(subject: SetupSubject) -> None:
    """A step with these losses never asks the host for a number, so that it can be captured as a CUDA graph."""
    trainer = subject.trainer(2, device="meta", batch=SAMPLES)
    with NothingThatWaits():
        advance(trainer, 0)


def training_lowers_the_loss(subject: SetupSubject) -> None:
    """The sum of the losses over training samples is lower after some steps, for each of two seeds."""
    trainer = subject.trainer(2)
    before, _ = trainer.evaluate(subject.examples)  # [K, T]
    for taken in range(STEPS):
        advance(trainer, taken)
    after, _ = trainer.evaluate(subject.examples)
    if not (after.sum(-1) < before.sum(-1)).all():
        names, batch = ", ".join(subject.setup.task_names), min(BATCH, len(subject.examples))
        raise ContractError(
            f"after {STEPS} steps of Adam (learning rate {LR:g}, batch {batch}) the losses of {names} are "
            f"{shown(after)}, at first {shown(before)}"
        )


def _measures(task: Task) -> Iterator[tuple[str, Callable[[Tensor, Tensor], Tensor]]]:
    yield "the loss", task.loss
    yield "the score", task.score
