"""Properties of a setup: its description, splits, losses and scores, and that it can be learned.

A property that does not hold is a ContractError that names an example.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor

from mtlbench.check.strategy.cases import shown
from mtlbench.check.strategy.small_training import NothingThatWaits, advance
from mtlbench.check.subjects import BATCH, LR, SetupSubject
from mtlbench.contracts.metrics import SHARES
from mtlbench.contracts.setup import Setup, Split, Task
from mtlbench.errors import ContractError
from mtlbench.setups import splits

SHARED = 0.01
"""Largest share of a split's samples that may also be in another split: data sets contain true duplicates."""
REPLICAS, SAMPLES = 3, 8
STEPS = 100
SURE = 20.0
"""The logit of an output that is certain of its class."""


def says_what_it_is(subject: SetupSubject) -> None:
    """`about` and the docstring of the setup's file are not empty."""
    if not subject.setup.about.strip():
        raise ContractError("`about` is empty; describe the data, the tasks and the trunk in one line")
    if not subject.docstring.strip():
        raise ContractError(f"{subject.file.name} has no docstring; say where the data come from and what they are for")


def reads_the_same(subject: SetupSubject) -> None:
    """Splits are the same whenever they are read: each process reads them, and seeds are compared on the same data."""
    for purpose, again in splits.read(subject.setup).items():
        first = subject.splits[purpose]
        pairs = ((first.inputs, again.inputs), (first.targets, again.targets))
        if not all(one.dtype == two.dtype and torch.equal(one.nan_to_num(), two.nan_to_num()) for one, two in pairs):
            raise ContractError(
                f"the {purpose} split differs when it is read again: draw random numbers from a seeded generator"
            )


def _each_split(check: Callable[[Setup, str, Split], None], subject: SetupSubject) -> None:
    for purpose, split in subject.splits.items():
        check(subject.setup, purpose, split)


inputs_fit, targets_fit = partial(_each_split, splits.check_inputs), partial(_each_split, splits.check_targets)


def splits_are_apart(subject: SetupSubject) -> str | None:
    """No sample of a split is in another, apart from a few true duplicates; returns how many there are."""
    rows = {purpose: _rows(split.inputs) for purpose, split in subject.splits.items()}
    training = rows["training"]
    repeated = 1 - len(set(training)) / len(training)  # data with repetitions have them across splits, too
    remarks: list[str] = []
    for one, other in combinations(rows, 2):
        first_with = {row: i for i, row in reversed(list(enumerate(rows[one])))}
        shared = [i for i, row in enumerate(rows[other]) if row in first_with]
        if not shared:
            continue
        count = f"{len(shared):,} of {len(rows[other]):,} {other} samples are also in {one}"
        if len(shared) > (SHARED + repeated) * len(rows[other]):
            same = first_with[rows[other][shared[0]]]
            raise ContractError(f"{count}: {other} sample {shared[0]} has the inputs of {one} sample {same}")
        remarks.append(count)
    return "; ".join(remarks) or None


def _rows(inputs: Tensor) -> list[int]:
    """A hash of each row of inputs."""
    values = inputs.float() if inputs.dtype == torch.bfloat16 else inputs  # numpy has no bfloat16
    return [hash(row.tobytes()) for row in values.contiguous().numpy()]


def means_per_replica(subject: SetupSubject) -> None:
    """Losses and scores are means over the batch, since evaluation adds up chunks, and no replica affects another."""
    for task, outputs, targets in subject.first_outputs(REPLICAS, SAMPLES):
        for what, measure in (("the loss", task.loss), ("the score", task.score)):
            whole = measure(outputs, targets)
            if tuple(whole.shape) != (REPLICAS,) or whole.dtype != outputs.dtype:
                raise ContractError(
                    f"{what} of {task.name} must be one number per replica, {outputs.dtype} of shape [{REPLICAS}]; "
                    f"found {whole.dtype} of shape {list(whole.shape)}"
                )
            if not whole.isfinite().all():
                raise ContractError(f"{what} of {task.name} at the initial weights is {shown(whole)}")
            alone = torch.cat([measure(*each) for each in zip(outputs.split(1), targets.split(1), strict=True)])
            halves = zip(outputs.split(SAMPLES // 2, 1), targets.split(SAMPLES // 2, 1), strict=True)
            mean = torch.stack([measure(*half) for half in halves]).mean(0)
            for other, how in ((alone, "one by one"), (mean, "as the mean of both halves of the batch")):
                if not torch.allclose(whole, other, rtol=1e-4, atol=1e-6):
                    raise ContractError(
                        f"{what} of {task.name} must be a mean over the batch of each replica; found {shown(whole)} in "
                        f"the stack, but {shown(other)} {how}"
                    )


def losses_have_gradients(subject: SetupSubject) -> None:
    """Each loss has a nonzero, finite gradient with respect to its outputs in every replica."""
    for task, outputs, targets in subject.first_outputs(REPLICAS, SAMPLES):
        outputs = outputs.detach().requires_grad_()  # noqa: PLW2901
        loss = task.loss(outputs, targets)
        if not loss.requires_grad:
            raise ContractError(f"the loss of {task.name} does not depend on its outputs")
        (gradient,) = torch.autograd.grad(loss.sum(), outputs)
        sizes = gradient.flatten(1).norm(dim=-1)
        if not (sizes.isfinite().all() and (sizes > 0).all()):
            raise ContractError(f"the gradient of the loss of {task.name} has norms {shown(sizes)}, one per replica")


def perfect_is_better(subject: SetupSubject) -> str | None:
    """Perfect outputs have a lower loss and a better score than those of other samples; shares are in [0, 1].

    Returns the tasks for which perfect outputs are unknown, or all targets the same.
    """
    untried: list[str] = []
    for t, task in enumerate(subject.setup.tasks):
        targets = subject.examples.targets[:, t].unsqueeze(0)  # [1, N]
        perfect = perfect_outputs(task, targets)
        if perfect is None or bool((targets == targets[:, :1]).all()):
            untried.append(task.name)
            continue
        order = torch.randperm(targets.shape[1], generator=torch.Generator().manual_seed(0))
        for what, measure in (("the loss", task.loss), ("the score", task.score)):
            best, other = (float(measure(outputs, targets)) for outputs in (perfect, perfect[:, order]))
            lower = what == "the loss" or task.better == "lower"
            if not (best < other if lower else best > other):
                raise ContractError(
                    f"{what} of {task.name} is {best:.4g} for perfect outputs and {other:.4g} for those of other "
                    f"samples, but {'lower' if lower else 'higher'} is better"
                )
            if what == "the score" and task.metric in SHARES and not 0 <= min(best, other) <= max(best, other) <= 1:
                raise ContractError(f"the {task.metric} of {task.name} must be a share in [0, 1]; found {other:.4g}")
    return f"perfect outputs are unknown, or all targets the same: {', '.join(untried)}" if untried else None


def perfect_outputs(task: Task, targets: Tensor) -> Tensor | None:
    """Perfect outputs `[K, N, columns]` for targets `[K, N]`; None if they are unknown.

    For a task without classes they are the targets, but only if these have a loss of 0: outputs may have other units.
    """
    if task.classes is None:
        outputs = targets.float().unsqueeze(-1)
        return outputs if task.columns == 1 and not task.loss(outputs, targets).any() else None
    if task.columns == task.classes:
        return SURE * F.one_hot(targets.long(), task.classes).float()
    return SURE * (2 * targets.float() - 1).unsqueeze(-1) if (task.columns, task.classes) == (1, 2) else None


def runs_on_meta(subject: SetupSubject) -> None:
    """A step with these losses never copies a number to the host, so it can be captured as a CUDA graph."""
    trainer = subject.trainer(2, device="meta", batch=SAMPLES)
    with NothingThatWaits():
        advance(trainer, 0)


def training_lowers_the_loss(subject: SetupSubject) -> None:
    """The sum of the losses over training samples is lower after a short training, for each of two seeds."""
    trainer = subject.trainer(2)
    before, _ = trainer.evaluate(subject.examples)  # [K, T]
    for taken in range(STEPS):
        advance(trainer, taken)
    after, _ = trainer.evaluate(subject.examples)
    if not (after.sum(-1) < before.sum(-1)).all():
        names, batch = ", ".join(subject.setup.task_names), min(BATCH, len(subject.examples))
        raise ContractError(
            f"after {STEPS} steps of Adam (learning rate {LR:g}, batch {batch}) the losses of {names} are "
            f"{shown(after)}, before them {shown(before)}"
        )
