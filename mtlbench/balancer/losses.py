"""The losses of a step as a caller has them: scalars in the order of the tasks, one tensor, or scalars by name."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from mtlbench.errors import UserError

Losses = Tensor | Sequence[Tensor] | Mapping[str, Tensor]
"""The losses of a step: T scalars in the order of the tasks, a tensor `[T]`, or scalars by the tasks' names."""


@dataclass(frozen=True)
class TaskNames:
    """The tasks of a loop by name; `given` says whether the caller named them, or they are `0`, `1`, ..."""

    names: list[str]
    given: bool

    @classmethod
    def of(cls, tasks: int | Sequence[str]) -> TaskNames:
        """The names of T tasks, or those that are given.

        Raises:
            UserError: there are none, one is there twice, or it is neither a number nor names.
        """
        found: list[object] = []
        given = isinstance(tasks, list | tuple)
        if given:
            found = list(cast("Sequence[object]", tasks))
        elif not isinstance(tasks, str | bool):
            with suppress(TypeError):
                found = [str(task) for task in range(operator.index(cast("int", tasks)))]
        names = [name for name in found if isinstance(name, str)]
        if not names or len({*names}) < len(found):
            raise UserError(f"tasks is their number, 1 or more, or a list of their names, each once, not {tasks!r}")
        return cls(names, given)

    def scalars(self, losses: Losses, device: torch.device) -> list[Tensor]:
        """The losses as T scalars, in the order of the tasks.

        Raises:
            UserError: they are not, or on another device; says which.
        """
        found: Sequence[object]
        if isinstance(losses, Mapping):
            if not self.given or set(losses) != set(self.names):
                known = f"the tasks are {', '.join(self.names)}" if self.given else "tasks is a number, not names"
                raise UserError(f"losses by name are of {', '.join(map(str, losses))}, but {known}")
            found = [losses[name] for name in self.names]
        elif isinstance(losses, Tensor) and losses.dim() != 1:
            raise UserError(f"losses in one tensor have one dimension, [T], not the shape {list(losses.shape)}")
        else:
            found = _listed(losses)
        if len(found) != len(self.names):
            raise UserError(f"there are {len(self.names)} tasks, but {len(found)} losses")
        return [_scalar(name, loss, device) for name, loss in zip(self.names, found, strict=True)]


def _scalar(name: str, loss: object, device: torch.device) -> Tensor:
    if not isinstance(loss, Tensor) or loss.dim():
        what = f"a tensor of shape {list(loss.shape)}" if isinstance(loss, Tensor) else _kind(loss)
        raise UserError(f"the loss of task {name} must be a scalar tensor, a mean over the batch, not {what}")
    if loss.device != device:
        raise UserError(
            f"the loss of task {name} is on {loss.device}, the Balancer on {device}: move it, "
            f"balance.to('{loss.device}')"
        )
    return loss


def _listed(losses: object) -> list[object]:
    if not isinstance(losses, Tensor | Sequence):
        raise UserError(f"losses are a list, a tensor [T] or a dict by the tasks' names, not {_kind(losses)}")
    return list(cast("Sequence[object]", losses))


def _kind(value: object) -> str:
    return type(value).__name__
