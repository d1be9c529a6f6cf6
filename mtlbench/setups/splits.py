"""The splits of a setup as they are read: what it declares is proven before anything is trained on them."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from mtlbench.contracts.setup import Setup, Split, Task
from mtlbench.errors import ContractError


def samples(setup: Setup) -> tuple[Split, Split]:
    """The training and the validation split.

    Raises:
        ContractError: they are not what the setup declares; says what, by the first sample that shows it.
    """
    training, validation = _pair(setup)
    _check(setup, "training", training)
    _check(setup, "validation", validation)
    check_size(setup, training)
    return training, validation


def test(setup: Setup) -> Split:
    """The test split.

    Raises:
        ContractError: likewise.
    """
    split = setup.test()
    _check(setup, "test", split)
    return split


def read(setup: Setup) -> dict[str, Split]:
    """All three by name, whatever is in them.

    Raises:
        ContractError: one of them is no split.
    """
    training, validation = _pair(setup)
    found = {"training": training, "validation": validation, "test": setup.test()}
    for purpose, split in found.items():
        _check_kind(setup, purpose, split)
    return found


def check_inputs(setup: Setup, purpose: str, split: Split) -> None:
    """Refuse inputs that the setup's network cannot be given.

    Raises:
        ContractError: they are not `[N, F]` finite numbers, F being `features`.
    """
    where, shape = f"{setup.name}, {purpose}", list(split.inputs.shape)
    if len(shape) != 2 or shape[1] != setup.features:
        raise ContractError(f"{where}: inputs must be [N, {setup.features}] as the setup says, not {shape}")
    if not shape[0]:
        raise ContractError(f"{where}: there are no samples")
    if (odd := _first(~split.inputs.isfinite().all(-1))) is not None:
        raise ContractError(f"{where}: inputs must be finite; those of sample {odd} are not")


def check_targets(setup: Setup, purpose: str, split: Split) -> None:
    """Refuse targets that the setup's losses cannot be given.

    Raises:
        ContractError: they are not `[N, T]` of the values that their tasks take.
    """
    where, wanted = f"{setup.name}, {purpose}", [len(split.inputs), len(setup.tasks)]
    if list(split.targets.shape) != wanted:
        raise ContractError(
            f"{where}: targets must be {wanted}, for {wanted[0]} inputs and {wanted[1]} tasks, "
            f"not {list(split.targets.shape)}"
        )
    for task, targets in zip(setup.tasks, split.targets.unbind(-1), strict=True):
        if (odd := _first(~_allowed(task, targets))) is not None:
            rule = "finite" if task.classes is None else f"whole numbers in [0, {task.classes})"
            raise ContractError(
                f"{where}: targets of {task.name} must be {rule}; sample {odd} has {targets[odd].item():g}"
            )


def check_size(setup: Setup, training: Split) -> None:
    """Refuse a training split of another size than was declared.

    Raises:
        ContractError: it is.
    """
    if len(training) != setup.training_size:
        raise ContractError(
            f"{setup.name}: training_size is {setup.training_size}, but the training split has {len(training)} samples"
        )


def _pair(setup: Setup) -> tuple[Split, Split]:
    given = cast("object", setup.samples())  # a plugin is not type-checked
    if not (isinstance(given, tuple) and len(given) == 2):
        raise ContractError(f"{setup.name}: samples() must return (training, validation), not {_kind(given)}")
    return cast("tuple[Split, Split]", given)


def _check(setup: Setup, purpose: str, split: Split) -> None:
    _check_kind(setup, purpose, split)
    check_inputs(setup, purpose, split)
    check_targets(setup, purpose, split)


def _check_kind(setup: Setup, purpose: str, split: Split) -> None:
    given = cast("object", split)
    if not isinstance(given, Split):
        raise ContractError(f"{setup.name}, {purpose}: it must be a Split(inputs, targets), not {_kind(given)}")
    if not all(isinstance(part, Tensor) for part in cast("list[object]", [given.inputs, given.targets])):
        raise ContractError(f"{setup.name}, {purpose}: inputs and targets must be tensors")
    for name, part in (("inputs", given.inputs), ("targets", given.targets)):
        if part.layout != torch.strided or part.is_complex() or part.requires_grad:
            raise ContractError(f"{setup.name}, {purpose}: {name} must be dense real numbers without a graph")


def _allowed(task: Task, targets: Tensor) -> Tensor:
    finite = targets.isfinite()
    if task.classes is None:
        return finite
    whole = targets == (targets.floor() if targets.is_floating_point() else targets)
    return finite & whole & (targets >= 0) & (targets < task.classes)


def _first(wrong: Tensor) -> int | None:
    """The place of the first sample that is wrong."""
    return int(wrong.int().argmax()) if bool(torch.any(wrong)) else None


def _kind(value: object) -> str:
    return f"{len(value)} values" if isinstance(value, tuple) else type(value).__name__
