"""What a weighting strategy is: the step it sees, the objective it returns, the name it is known by.

Dimension letters used throughout: K replicas, T tasks, B batch, F features, P trunk parameters of a replica.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, TypeVar

import torch
from torch import Tensor, nn

from mtlbench.errors import ContractError

Heads = Literal["weighted", "own"]
RESERVED = ("single", "tuned", "front", "torchjd")


class GradientSignals(Protocol):
    """Where a step gets the gradients of the task losses from, computed only when asked for."""

    def gramian(self, *, last: bool = False) -> Tensor:
        """Inner products of the task gradients, `[K, T, T]`."""
        ...

    def jacobian(self) -> Tensor:
        """The task gradients themselves, `[K, T, P]`."""
        ...

    def independent_gramian(self) -> Tensor:
        """Inner products between the task gradients of two other batches, `[K, T, T]`."""
        ...

    def representation_gradients(self) -> Tensor:
        """Gradients of the task losses by the shared representation, `[K, T, B, F]`."""
        ...


class Step:
    """What a strategy may look at in one training step. All tensors, nothing on the host.

    `losses`: `[K, T]`, mean over the batch, a leaf cut off from the network. `index`: scalar int64, the number
    of updates made before this step. `epoch`: scalar int64, from 0. `seeds`: `[K]` int64. None is to be changed.
    """

    def __init__(
        self, losses: Tensor, signals: GradientSignals, *, index: Tensor, epoch: Tensor, seeds: Tensor
    ) -> None:
        self.losses = losses
        self.index = index
        self.epoch = epoch
        self._seeds = seeds
        self._signals = signals
        self._draws = 0
        self.seen_gramian: Tensor | None = None
        self.direction: Tensor | None = None
        self.representation_direction: Tensor | None = None

    def gramian(self, *, last: bool = False) -> Tensor:
        """Inner products `<g_s, g_t>` of the task gradients over the shared trunk, `[K, T, T]`, no graph.

        `last` restricts them to the last shared layer (its weight and bias).
        """
        self.seen_gramian = self._signals.gramian(last=last)
        return self.seen_gramian

    def jacobian(self) -> Tensor:
        """Gradient of each task loss over the shared trunk, `[K, T, P]`, no graph.

        It costs T trunks of memory per replica; most methods need only `gramian`. It is made anew by each call, so that
        it may be changed in place.
        """
        return self._signals.jacobian()

    def independent_gramian(self) -> Tensor:
        """`<g_s, h_t>` for the task gradients g and h of two further batches of the training split, `[K, T, T]`.

        The batches are drawn anew, independently of each other and of this step's; each costs a forward pass.
        The result is neither symmetric nor positive semi-definite.
        """
        return self._signals.independent_gramian()

    def representation_gradients(self) -> Tensor:
        """Gradient of each task loss over the shared representation, `[K, T, B, F]`, 0 where its ReLU is off."""
        return self._signals.representation_gradients()

    def descend(self, direction: Tensor) -> None:
        """Give the trunk the gradient `direction` `[K, P]`, in the order of `jacobian`, in place of the objective's.

        For methods whose direction is no weighting of this step's losses. The objective still says the weights that
        are recorded and that the heads learn with.
        """
        self.direction = direction

    def descend_representation(self, direction: Tensor) -> None:
        """Likewise with the gradient that the shared representation passes on to the trunk, `[K, B, F]`."""
        self.representation_direction = direction

    def rand(self, *size: int) -> Tensor:
        """Uniform numbers in [0, 1), `[K, *size]`, one stream per seed.

        They are a hash of (seed, step, draw within the step, element), so a seed's stream does not depend on
        the other seeds of its stack, nothing is kept between steps, and the draw runs inside a CUDA graph.
        Resolution 2^-24.
        """
        self._draws += 1
        numbers = uniform(self._seeds, self.index, self._draws - 1, math.prod(size))
        return numbers.to(self.losses.dtype).view(-1, *size)


def uniform(seeds: Tensor, index: Tensor, draw: int, count: int) -> Tensor:
    """`count` uniform numbers per seed, `[K, count]` in float32: the draw numbered `draw` of step `index`."""
    counter = torch.arange(count, device=seeds.device) + (draw << 32)  # [n]
    key = _mix(_mix(seeds) ^ index)  # [K]
    bits = (_mix(_mix(key[:, None] ^ counter)) >> 40) & 0xFFFFFF  # [K, n]
    return bits.to(torch.float32) * 2.0**-24


def _mix(x: Tensor) -> Tensor:
    """The finaliser of splitmix64 (Steele, Lea & Flood, OOPSLA 2014) on int64, whose products wrap."""

    def shifted(value: Tensor, by: int) -> Tensor:
        return (value >> by) & ((1 << (64 - by)) - 1)

    x = x + -7046029254386353131
    x = (x ^ shifted(x, 30)) * -4658895280553007687
    x = (x ^ shifted(x, 27)) * -7723592293110705685
    return x ^ shifted(x, 31)


class Strategy(nn.Module):
    """Turns the task losses of a step into the one scalar per replica that is minimised.

    A subclass takes `shape = (K, T)` and its hyper-parameters by keyword, each with a default, and implements
    `forward`. Leading dimensions are independent replicas and are never mixed. Parameters are `[K, T]` and are
    trained by the same optimizer as the network; buffers hold the rest of the state, and `state_dict` is all
    of it. A step runs without the host: no `.item()`, no Python branch on a tensor.
    """

    name: ClassVar[str]

    heads: Heads = "weighted"
    """Gradient that head t gets: `weighted` is w_t dL_t, `own` is dL_t (as in most gradient-surgery code)."""

    lr: float | None = None
    """Learning rate of the strategy's own parameters; None takes the network's."""

    waits: ClassVar[bool] = False
    """Whether its step waits for the device, as none of ours does; on CUDA it is then not captured as a graph."""

    symmetric: ClassVar[bool] = True
    """Whether tasks in another order get the same weights in that order; False where the method itself tells them
    apart by their place, as one that protects the main task does. Numbers of `step.rand` are drawn for a task."""

    def __init__(self, shape: tuple[int, int]) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, step: Step) -> Tensor:
        """The objective to minimise, `[K]`; its derivative by `step.losses` is each task's effective weight."""
        raise NotImplementedError(f"{type(self).__name__} does not implement forward(step)")

    def allocate(self, parameters: int) -> None:
        """Make the buffers whose size depends on P, the trunk parameters of a replica; runs once, before any step."""

    def project(self) -> None:
        """Bring the parameters back, in place, to where the method keeps them; runs after each update."""

    def after_update(self, losses_after: Tensor) -> None:
        """See the losses of the same batch after the update, `[K, T]`; costs one more forward pass."""

    def epoch_end(self, mean_losses: Tensor) -> None:
        """See the training losses averaged over the epoch, `[K, T]`."""

    @classmethod
    def overrides(cls, hook: str) -> bool:
        """Whether the class has an own version of a hook, so that an unused one costs nothing."""
        return getattr(cls, hook) is not getattr(Strategy, hook)


def effective_weights(strategy: Strategy, step: Step) -> Tensor:
    """The derivative of the objective, `[K, T]`; sets the gradients of the strategy's parameters.

    Raises:
        ContractError: the objective is not one number per replica, of the losses' dtype, that depends on the losses; or
            the step was changed.
    """
    parameters, shape, dtype = list(strategy.parameters()), step.losses.shape[:1], step.losses.dtype
    with torch.enable_grad():
        objective = objective_of(strategy, step)
        is_tensor = isinstance(objective, Tensor)
        if not (is_tensor and objective.shape == shape and objective.dtype == dtype and objective.requires_grad):
            found = type(objective).__name__
            if is_tensor:
                depends = "" if objective.requires_grad else ", which does not"
                found = f"{objective.dtype} of shape {list(objective.shape)}{depends}"
            raise ContractError(
                f"forward(step) must return one objective per replica, {dtype} of shape {list(shape)}, that depends on "
                f"step.losses; found {found}"
            )
        weights, *gradients = torch.autograd.grad(objective.sum(), [step.losses, *parameters], materialize_grads=True)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    return weights


def objective_of(strategy: Strategy, step: Step) -> Any:  # noqa: ANN401 - a plug-in returns what it will
    """What a strategy's `forward` returns.

    Raises:
        ContractError: it changed losses, index or epoch of the step, which others read after it.
    """
    before = step.losses, step.index, step.epoch
    versions = [tensor._version for tensor in before]
    objective = strategy(step)
    after = step.losses, step.index, step.epoch
    for name, one, other, version in zip(("losses", "index", "epoch"), before, after, versions, strict=True):
        if one is not other or one._version != version:
            raise ContractError(f"forward(step) must not change step.{name}: work on step.{name}.clone()")
    return objective


S = TypeVar("S", bound=type[Strategy])
registered: dict[str, type[Strategy]] = {}


def register(name: str) -> Callable[[S], S]:
    """Make a strategy known under `name` (lower case, digits and dashes).

    Raises:
        ValueError: the name is malformed, or taken by a strategy of another file.
    """

    def add(cls: S) -> S:
        before = registered.get(name)
        if before is not None and before.__module__ == cls.__module__ == "__main__":
            del registered[name]  # the cell of a notebook that was run again
        check_name(name)
        cls.name = name
        registered[name] = cls
        return cls

    return add


def check_name(name: str) -> None:
    """Refuse a name that a strategy cannot have.

    Raises:
        ValueError: it is malformed, or taken by a strategy of another file.
    """
    if not name or not all(part.isalnum() and part == part.lower() for part in name.split("-")):
        raise ValueError(f"a strategy's name is lower-case words joined by dashes, not {name!r}")
    if name in RESERVED:
        raise ValueError(f"a strategy cannot be called {name!r}: that stands before a colon for something else")
    if name in registered:
        raise ValueError(f"the name {name!r} is already taken by {source_file(registered[name])}")


def require(condition: bool, rule: str, value: object) -> None:
    """Refuse a hyper-parameter.

    Raises:
        ValueError: the condition does not hold; says the rule and the value found.
    """
    if not condition:
        raise ValueError(f"{rule}, not {value}")


def source_file(cls: type[Strategy]) -> Path:
    """The file that a strategy was defined in."""
    return Path(inspect.getfile(cls))
