"""A strategy with the optimizer of its parameters: its state as tensors, its dtype, and pickling with plug-ins."""

from __future__ import annotations

import io
import typing
from collections.abc import Callable, Generator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from mtlbench.balancer.losses import TaskNames, strategy_name
from mtlbench.balancer.precision import widest
from mtlbench.contracts.absence import keeping_others
from mtlbench.contracts.strategy import Strategy
from mtlbench.errors import UserError
from mtlbench.plugins.registry import HasTasks, Registry


class Recipe(typing.NamedTuple):
    """A strategy by its name, as on the command line, and files of further strategies."""

    name: str
    plugins: tuple[Path, ...]

    def make(self, tasks: HasTasks) -> Strategy:
        """The strategy for the shape (1, T); a UserError if it or a hyper-parameter does not exist."""
        registry = registry_with(self.plugins)
        return registry.build(registry.parse(self.name, tasks), (1, len(tasks.task_names)))


class KeptStrategy(nn.Module):
    """Base of the Balancer: what it keeps between steps, except buffers."""

    strategy: Strategy
    weights: Tensor
    _tasks: TaskNames
    _recipe: Recipe | None  # None if the caller made the strategy
    _lr: float  # of the strategy's parameters
    _optimizer: torch.optim.Adam | None = None
    _frozen: bool = False
    _awaits_after_update: Sequence[int] = ()  # tasks of the last step, if the strategy is to see its losses again
    _agreed: bool = False  # whether all ranks were seen to have this state

    def __init__(self) -> None:
        super().__init__()
        self._owners = _no_owners()

    @property
    def task_names(self) -> list[str]:
        """The names of the tasks; `0`, `1`, ... if only their number was given."""
        return self._tasks.names

    def requires_grad_(self, requires_grad: bool = True) -> typing.Self:
        """Have the strategy's parameters trained or not. Freezing a module around the Balancer leaves them trained."""
        self._frozen = not requires_grad
        return super().requires_grad_(requires_grad)

    def get_extra_state(self) -> Tensor:
        """State besides buffers and parameters: names of strategy and tasks, the optimizer, and the pending hook."""
        return packed(
            {
                "strategy": self._name,
                "tasks": self.task_names,
                "optimizer": self._optimizer and self._optimizer.state_dict(),
                "awaits_after_update": self._awaits_after_update,
            }
        )

    def set_extra_state(self, state: Tensor) -> None:
        """Restore the state that `get_extra_state` returned.

        Raises:
            UserError: the state belongs to another strategy or to other tasks.
        """
        values = unpacked(state)
        if (values["strategy"], values["tasks"]) != (self._name, self.task_names):
            raise UserError(
                f"the state must be of {self._name} with the tasks {', '.join(self.task_names)}; found "
                f"{values['strategy']} with {', '.join(values['tasks'])}"
            )
        if self._optimizer is not None:
            self._optimizer.load_state_dict(values["optimizer"])
        self._awaits_after_update = values["awaits_after_update"]

    def __reduce__(self) -> tuple[object, ...]:
        state = {key: value for key, value in self.__dict__.items() if key != "_owners"}
        if self._recipe is not None:  # its class is not in a module that another process can import
            state["_modules"] = {"strategy": vars(self.strategy)}
        return _blank, (type(self), self._recipe), state

    def __setstate__(self, state: dict[str, typing.Any]) -> None:
        super().__setstate__(state)
        self._owners = _no_owners()
        if self._recipe is not None:
            attributes = typing.cast("dict[str, typing.Any]", self._modules.pop("strategy"))
            self.strategy = self._recipe.make(self)
            vars(self.strategy).update(attributes)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> typing.Self:
        def no_half(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            is_half = moved.is_floating_point() and moved.dtype.itemsize < torch.float32.itemsize
            return tensor.to(moved.device, torch.float32) if is_half else moved

        super()._apply(no_half, recurse)
        self._tie_optimizer()
        return self

    def _widen(self, dtypes: Sequence[torch.dtype]) -> None:
        """Compute in a wider dtype from now on, if one of these is."""
        if {*dtypes} != {self.weights.dtype} and (wide := widest([self.weights.dtype, *dtypes])) != self.weights.dtype:
            self.to(wide)

    def _load_from_state_dict(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        state_dict: dict[str, typing.Any],
        prefix: str,
        *arguments: typing.Any,  # noqa: ANN401
    ) -> None:
        if (weights := state_dict.get(f"{prefix}weights")) is not None:
            self._widen([weights.dtype])
        super()._load_from_state_dict(state_dict, prefix, *arguments)

    def _update(self, tasks: Sequence[int]) -> None:
        """Take the optimizer's step for the parameters of these tasks; they keep no gradients."""
        if self._optimizer is None:
            return
        if not self._frozen:
            moments = chain.from_iterable(state.values() for state in self._optimizer.state.values())
            with keeping_others([*self.strategy.parameters(), *moments], tasks, len(self.task_names)):
                self._optimizer.step()
        self._optimizer.zero_grad()  # without gradients, no other optimizer changes them

    def _tie_optimizer(self, *_: object) -> None:
        """Make the optimizer train the strategy's present parameter tensors, and keep its moments."""
        self._agreed = False
        parameters, before = list(self.strategy.parameters()), self._optimizer
        self._optimizer = torch.optim.Adam(parameters, lr=self._lr) if parameters else None
        if before is not None and self._optimizer is not None:
            self._optimizer.load_state_dict(before.state_dict())

    @property
    def _name(self) -> str:
        return strategy_name(self.strategy)


def _no_owners() -> MutableMapping[Tensor, int]:
    """Tasks of parameters outside of `shared`, where a step has shown them; learnt again by a copy."""
    return WeakTensorKeyDictionary()


def _blank(cls: type[KeptStrategy], recipe: Recipe | None) -> KeptStrategy:
    """An instance without attributes; the plug-ins that these may need to be unpickled are loaded."""
    if recipe is not None:
        registry_with(recipe.plugins)
    return cls.__new__(cls)


def packed(state: Mapping[str, object]) -> Tensor:
    """A mapping of plain values and tensors as the bytes that `torch.save` writes, uint8."""
    file = io.BytesIO()
    torch.save(dict(state), file)
    return torch.frombuffer(bytearray(file.getvalue()), dtype=torch.uint8)


def unpacked(state: Tensor) -> dict[str, typing.Any]:
    """The mapping that was packed, with its tensors on the CPU."""
    return torch.load(io.BytesIO(state.cpu().numpy().tobytes()), map_location="cpu", weights_only=True)


@contextmanager
def requiring_grad(module: nn.Module) -> Generator[None]:
    """Context manager in which all parameters of a module require grad, also of one that was frozen."""
    frozen = [parameter for parameter in module.parameters() if not parameter.requires_grad]
    for parameter in frozen:
        parameter.requires_grad_()
    try:
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad = False


@cache
def registry_with(plugins: tuple[Path, ...]) -> Registry:
    """All strategies that can be found and those of these files, loaded once per process."""
    return Registry.load(plugins)
