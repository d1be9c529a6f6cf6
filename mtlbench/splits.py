"""The splits of a setup as they are read: what it declares is proven before anything is trained on them."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from mtlbench.errors import ContractError
from mtlbench.tasks import Setup, Split, Task


def samples(setup: Setup) -> tuple[Split, Split]:
    """The training and the validation split.

    Raises:
        ContractError: they are not what the setup declares; says what, by the first sample that shows it.
    """
    given = cast("object", setup.samples())
    if not (isinstance(given, tuple) and len(given) == 2):
        raise ContractError(
            f"{setup.name}: samples() must return two splits, training and validation, not {_kind(given)}"
        )
    training, validation = cast("tuple[Split, Split]", given)
    for purpose, split in (("training", training), ("validation", validation)):
        check_split(setup, purpose, split)
    if len(training) != setup.training_size:
        raise ContractError(
            f"{setup.name}: training_size is {setup.training_size}, but there are {len(training)} samples"
        )
    return training, validation


def test(setup: Setup) -> Split:
    """The test split.

    Raises:
        ContractError: likewise.
    """
    split = setup.test()
    check_split(setup, "test", split)
    return split


def check_split(setup: Setup, purpose: str, split: Split) -> None:
    """Refuse a split that the setup's network and losses cannot be given.

    Raises:
        ContractError: inputs are not `[N, F]` finite numbers, F being `features`, or targets not `[N, T]` of the values
            that their tasks take.
    """
    where, given = f"{setup.name}, {purpose}", cast("object", split)
    if not isinstance(given, Split):
        raise ContractError(f"{where}: a split must be a Split, not {_kind(given)}")
    shape = tuple(split.inputs.shape)
    if len(shape) != 2 or shape[1] != setup.features:
        raise ContractError(f"{where}: inputs must be [N, {setup.features}] as `widths` says, not {list(shape)}")
    if not shape[0]:
        raise ContractError(f"{where}: there are no samples")
    wanted = (shape[0], len(setup.tasks))
    if tuple(split.targets.shape) != wanted:
        raise ContractError(
            f"{where}: targets must be {list(wanted)}, one for each of {shape[0]} inputs and {wanted[1]} tasks, "
            f"not {list(split.targets.shape)}"
        )
    if (odd := _first(~split.inputs.isfinite().all(-1))) is not None:
        raise ContractError(f"{where}: inputs must be finite; those of sample {odd} are not")
    for task, targets in zip(setup.tasks, split.targets.unbind(-1), strict=True):
        if (odd := _first(~_allowed(task, targets))) is not None:
            rule = "finite" if task.classes is None else f"whole numbers in [0, {task.classes})"
            raise ContractError(
                f"{where}: targets of {task.name} must be {rule}; sample {odd} has {targets[odd].item():g}"
            )


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
