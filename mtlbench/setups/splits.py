"""Reading the splits of a setup; what it declares about them is checked before anything is trained."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from mtlbench.contracts.setup import Setup, Split, Task
from mtlbench.errors import ContractError


def samples(setup: Setup) -> tuple[Split, Split]:
    """The training and the validation split.

    Raises:
        ContractError: they are not as the setup declares; names the rule and the first sample that breaks it.
    """
    training, validation = _training_and_validation(setup)
    _check(setup, "training", training)
    _check(setup, "validation", validation)
    check_size(setup, training)
    return training, validation


def test(setup: Setup) -> Split:
    """The test split; raises as `samples`."""
    split = setup.test()
    _check(setup, "test", split)
    return split


def read(setup: Setup) -> dict[str, Split]:
    """All three splits by name, with their content unchecked; a ContractError if one is not a `Split` of tensors."""
    training, validation = _training_and_validation(setup)
    splits = {"training": training, "validation": validation, "test": setup.test()}
    for name, split in splits.items():
        _check_kind(setup, name, split)
    return splits


def check_inputs(setup: Setup, name: str, split: Split) -> None:
    """Raise a ContractError if inputs are not `[N, F]` finite numbers, where F is the setup's `features`."""
    shape = list(split.inputs.shape)
    if len(shape) != 2 or shape[1] != setup.features:
        raise _broken(setup, name, f"inputs must be [N, {setup.features}], by the setup's widths; found {shape}")
    if not shape[0]:
        raise _broken(setup, name, "there must be at least 1 sample; found 0")
    if (sample := _first(~split.inputs.isfinite().all(-1))) is not None:
        raise _broken(setup, name, f"inputs must be finite; those of sample {sample} are not")


def check_targets(setup: Setup, name: str, split: Split) -> None:
    """Raise a ContractError if targets are not `[N, T]` of the values that their tasks take."""
    shape, expected = list(split.targets.shape), [len(split.inputs), len(setup.tasks)]
    if shape != expected:
        raise _broken(setup, name, f"targets must be {expected}, [N, T] for its inputs and tasks; found {shape}")
    for task, targets in zip(setup.tasks, split.targets.unbind(-1), strict=True):
        if (sample := _first(~_allowed(task, targets))) is not None:
            rule = "finite" if task.classes is None else f"whole numbers in [0, {task.classes})"
            value = f"{targets[sample].item():g}"
            raise _broken(setup, name, f"targets of {task.name} must be {rule}; sample {sample} has {value}")


def check_size(setup: Setup, training: Split) -> None:
    """Raise a ContractError if the size of the training split is not the declared one."""
    if (size := len(training)) != (declared := setup.training_size):
        raise ContractError(
            f"{setup.name}: training_size must be the number of training samples, {size}; found {declared}"
        )


def _training_and_validation(setup: Setup) -> tuple[Split, Split]:
    splits = cast("object", setup.samples())  # a plug-in is not type-checked
    if not (isinstance(splits, tuple) and len(splits) == 2):
        found = f"{len(splits)} values" if isinstance(splits, tuple) else type(splits).__name__
        raise ContractError(f"{setup.name}: samples() must return (training, validation); found {found}")
    return cast("tuple[Split, Split]", splits)


def _check(setup: Setup, name: str, split: Split) -> None:
    _check_kind(setup, name, split)
    check_inputs(setup, name, split)
    check_targets(setup, name, split)


def _check_kind(setup: Setup, name: str, split: Split) -> None:
    if not isinstance(cast("object", split), Split):
        raise _broken(setup, name, f"it must be a Split(inputs, targets); found {type(split).__name__}")
    for part, values in (("inputs", cast("object", split.inputs)), ("targets", cast("object", split.targets))):
        if not isinstance(values, Tensor):
            raise _broken(setup, name, f"{part} must be tensors; found {type(values).__name__}")
        if values.layout != torch.strided or values.is_complex() or values.requires_grad:
            raise _broken(setup, name, f"{part} must be dense real numbers that do not require gradients")


def _broken(setup: Setup, name: str, rule: str) -> ContractError:
    return ContractError(f"{setup.name}, {name}: {rule}")


def _allowed(task: Task, targets: Tensor) -> Tensor:
    if task.classes is None:
        return targets.isfinite()
    whole = targets == (targets.floor() if targets.is_floating_point() else targets)
    return targets.isfinite() & whole & (targets >= 0) & (targets < task.classes)


def _first(wrong: Tensor) -> int | None:
    """Index of the first sample that is wrong."""
    return int(wrong.int().argmax()) if bool(wrong.any()) else None
