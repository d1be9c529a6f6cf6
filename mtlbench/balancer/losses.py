"""The losses of a step, given as scalars in the order of the tasks, as one tensor, or as scalars by name."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from mtlbench.balancer.leaves import whole_of
from mtlbench.contracts.strategy import Strategy
from mtlbench.errors import UserError

Losses = Tensor | Sequence[Tensor | None] | Mapping[str, Tensor | None]
"""The losses of a step: T scalars in the order of the tasks, a tensor `[T]`, or scalars by task name. None is a task
without labels in this batch."""
Present = Tensor | Sequence[bool] | Mapping[str, bool]
"""Which tasks have labels in a batch, in the forms of `Losses`."""


class TaskNames:
    """The names of a loop's tasks: those that the caller gave or, if not `given`, `0`, `1`, ...

    Raises:
        UserError: `tasks` is neither a positive integer nor a list of unique names.
    """

    def __init__(self, tasks: int | Sequence[str]) -> None:
        self.given, unchecked = isinstance(tasks, list | tuple), cast("Any", tasks)
        try:
            names = list(unchecked) if self.given else [str(task) for task in range(operator.index(unchecked))]
        except TypeError:
            names = []
        only_names = all(isinstance(name, str) for name in names)
        if isinstance(tasks, bool) or not (names and only_names and len({*names}) == len(names)):
            raise UserError(f"tasks must be a positive integer or a list of unique names; found {tasks!r}")
        self.names: list[str] = names

    def present(self, losses: Losses, mask: Present | None = None) -> list[int]:
        """Numbers of the tasks that are present by a mask, or else those whose loss is not None.

        Raises:
            UserError: losses or mask do not fit the tasks, or no task is present.
        """
        by_task = self._by_task(losses, "losses", "scalars")
        flags = [loss is not None for loss in by_task]
        if mask is not None:
            flags = [bool(flag) for flag in self._by_task(mask, "present", "truth values")]
        if not any(flags):
            raise UserError("no task has labels in this batch: leave it out, before the Balancer and the optimizer")
        for name, loss in (_joined(by_task, flags, self.names) if not all(flags) else {}).items():
            if not bool(loss.isfinite()):
                raise UserError(
                    f"the loss of task {name}, which is absent, must be finite, since the others are elements of the "
                    "same vector: its graph would pass NaN on. Pass losses that are computed separately, in a list"
                )
        return [task for task, flag in enumerate(flags) if flag]

    def scalars(self, losses: Losses, device: torch.device, tasks: Sequence[int]) -> list[Tensor]:
        """The losses of these tasks, as scalars; those of others are not looked at.

        Raises:
            UserError: the losses do not fit the tasks, are not scalars, or are on another device.
        """
        by_task = self._by_task(losses, "losses", "scalars")
        return [_scalar(self.names[task], by_task[task], device) for task in tasks]

    def _by_task(self, values: Losses | Present, argument: str, kind: str) -> Sequence[object]:
        by_task: Sequence[object]
        if isinstance(values, Mapping):
            if not self.given or set(values) != set(self.names):
                names = ", ".join(self.names) if self.given else "none, since tasks is a number"
                found = ", ".join(map(str, values))
                raise UserError(f"{argument} by name must have the names of the tasks ({names}); found {found}")
            by_task = [values[name] for name in self.names]
        elif isinstance(values, Tensor) and values.dim() != 1:
            raise UserError(f"{argument} in one tensor must have shape [T]; found {list(values.shape)}")
        elif not isinstance(cast("object", values), Tensor | Sequence):
            found = type(values).__name__
            raise UserError(f"{argument} must be a list of {kind}, a tensor [T], or a dict by task name; found {found}")
        else:
            by_task = list(values)
        if len(by_task) != len(self.names):
            raise UserError(f"{argument} must have one entry per task, {len(self.names)}; found {len(by_task)}")
        return by_task

    def check(self, values: Tensor, strategy: Strategy, tasks: Sequence[int], *, finite: bool) -> None:
        """Refuse losses `[n]` of these tasks that a strategy cannot take, before anything changes.

        Raises:
            UserError: a loss is negative and the strategy is defined for positive losses, or, if asked for `finite`
                ones, is not finite.
        """
        if values.is_meta:
            return
        for name, value in zip([self.names[task] for task in tasks], values.tolist(), strict=True):
            if finite and not math.isfinite(value):
                raise UserError(
                    f"the loss of task {name} must be finite; found {value}. Nothing was changed: skip the step of the "
                    "optimizer for this batch, or pass None as the loss of a task without labels"
                )
            if value < 0 and strategy.losses == "positive":
                raise UserError(
                    f"the loss of task {name} must not be negative for {strategy_name(strategy)}; found {value:g}. Add "
                    "a constant to the loss, or use a strategy that takes any losses (mtlbench list)"
                )


def strategy_name(strategy: Strategy) -> str:
    """The name that a strategy is registered under, or that of its class."""
    return getattr(strategy, "name", type(strategy).__name__)


def _joined(by_task: Sequence[object], flags: Sequence[bool], names: Sequence[str]) -> dict[str, Tensor]:
    """Losses of absent tasks, by name, that are elements of a tensor of which other elements are present."""
    losses = {name: loss for name, loss in zip(names, by_task, strict=True) if isinstance(loss, Tensor)}
    is_present = dict(zip(names, flags, strict=True))
    used = {whole_of(loss) for name, loss in losses.items() if is_present[name]} - {None}
    return {name: loss for name, loss in losses.items() if not is_present[name] and whole_of(loss) in used}


def _scalar(name: str, loss: object, device: torch.device) -> Tensor:
    if not isinstance(loss, Tensor) or loss.dim() or loss.is_complex():
        found = (
            f"a tensor of {loss.dtype} of shape {list(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
        )
        raise UserError(f"the loss of task {name} must be a real scalar tensor, the mean over the batch; found {found}")
    if loss.device != device:
        raise UserError(
            f"the loss of task {name} must be on the Balancer's device, {device}; found {loss.device}. Move the "
            f"Balancer: balance.to('{loss.device}')"
        )
    return loss
