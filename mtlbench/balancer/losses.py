"""The losses of a step, given as scalars in the order of the tasks, as one tensor, or as scalars by name."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from mtlbench.contracts.strategy import Strategy
from mtlbench.errors import UserError

Losses = Tensor | Sequence[Tensor] | Mapping[str, Tensor]
"""The losses of a step: T scalars in the order of the tasks, a tensor `[T]`, or scalars by task name."""


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

    def scalars(self, losses: Losses, device: torch.device) -> list[Tensor]:
        """The losses as T scalars, in the order of the tasks.

        Raises:
            UserError: the losses are not T scalars, or one of them is on another device.
        """
        by_task: Sequence[object]
        if isinstance(losses, Mapping):
            if not self.given or set(losses) != set(self.names):
                names = ", ".join(self.names) if self.given else "none, since tasks is a number"
                found = ", ".join(map(str, losses))
                raise UserError(f"losses by name must have the names of the tasks ({names}); found {found}")
            by_task = [losses[name] for name in self.names]
        elif isinstance(losses, Tensor) and losses.dim() != 1:
            raise UserError(f"losses in one tensor must have shape [T]; found {list(losses.shape)}")
        elif not isinstance(cast("object", losses), Tensor | Sequence):
            found = type(losses).__name__
            raise UserError(f"losses must be a list of scalars, a tensor [T], or a dict by task name; found {found}")
        else:
            by_task = list(losses)
        if len(by_task) != len(self.names):
            raise UserError(f"there must be one loss per task, {len(self.names)}; found {len(by_task)}")
        return [_scalar(name, loss, device) for name, loss in zip(self.names, by_task, strict=True)]

    def check(self, values: Tensor, strategy: Strategy, *, finite: bool) -> None:
        """Refuse losses `[T]` that a strategy cannot take, before anything changes.

        Raises:
            UserError: a loss is negative and the strategy is defined for positive losses, or, if asked for `finite`
                ones, is not finite.
        """
        if values.is_meta:
            return
        for name, value in zip(self.names, values.tolist(), strict=True):
            if finite and not math.isfinite(value):
                raise UserError(
                    f"the loss of task {name} must be finite; found {value}. Nothing was changed: skip the step of the "
                    "optimizer for this batch"
                )
            if value < 0 and strategy.losses == "positive":
                raise UserError(
                    f"the loss of task {name} must not be negative for {strategy_name(strategy)}; found {value:g}. Add "
                    "a constant to the loss, or use a strategy that takes any losses (mtlbench list)"
                )


def strategy_name(strategy: Strategy) -> str:
    """The name that a strategy is registered under, or that of its class."""
    return getattr(strategy, "name", type(strategy).__name__)


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
