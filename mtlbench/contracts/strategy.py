"""The contract of a strategy: the step that it is given, the objective that it returns, and its registered name.

Dimension letters used throughout: K replicas, T tasks, B batch, F features, P trunk parameters of a replica.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar, Literal, Protocol, TypeVar

import torch
from torch import Tensor, nn

from mtlbench.contracts.collection import declare
from mtlbench.contracts.random_numbers import uniform
from mtlbench.errors import ContractError

Heads = Literal["weighted", "own"]
Losses = Literal["any", "positive"]
Family = Literal["loss-only", "gradient-norm", "Gramian", "Jacobian", "representation", "main-task", "bilevel"]
RESERVED = ("single", "tuned", "front", "torchjd", "smooth")


class GradientSignals(Protocol):
    """Source of the gradients of a step's task losses, each computed only when asked for; documented in `Step`."""

    def gramian(self, *, last: bool = False) -> Tensor:
        """`[K, T, T]`."""
        ...

    def jacobian(self) -> Tensor:
        """`[K, T, P]`."""
        ...

    def independent_gramian(self) -> Tensor:
        """`[K, T, T]`."""
        ...

    def representation_gradients(self) -> Tensor:
        """`[K, T, B, F]`."""
        ...


class Step:
    """Everything that a strategy may look at in one training step; all are tensors on the device.

    `losses`: `[K, T]`, means over the batch, a leaf cut off from the network. `index`: scalar int64, the number of
    updates before this step. `counts`: `[K, T]` int64, the same of the steps in which a task was present, to be taken
    where state is kept for each task. `epoch`: scalar int64, from 0. `seeds`: `[K]` int64. A strategy must
    not change any of them.
    """

    def __init__(
        self,
        losses: Tensor,
        signals: GradientSignals,
        *,
        index: Tensor,
        epoch: Tensor,
        seeds: Tensor,
        counts: Tensor | None = None,
    ) -> None:
        self.losses = losses
        self.index = index
        self.counts = index.expand_as(losses) if counts is None else counts
        self.epoch = epoch
        self._seeds = seeds
        self._signals = signals
        self._draws = 0
        self.seen_gramian: Tensor | None = None
        self.direction: Tensor | None = None
        self.representation_direction: Tensor | None = None

    def gramian(self, *, last: bool = False) -> Tensor:
        """Inner products `<g_s, g_t>` of the task gradients over the shared trunk, `[K, T, T]`, without a graph.

        They have the accuracy of the losses' dtype, and are in float64 where the device has it, because squares of
        gradients are soon out of the range of float32: those of lengths below 1e-19 or above 1e19. Weights computed
        from them may stay in float64. `last` restricts the gradients to the last shared layer (its weight and bias).
        """
        self.seen_gramian = self._signals.gramian(last=last)
        return self.seen_gramian

    def jacobian(self) -> Tensor:
        """Gradient of each task loss with respect to the shared trunk, `[K, T, P]`, without a graph.

        It takes the memory of T trunks per replica; for most methods, `gramian` is enough. Each call makes a new
        tensor, which may be changed in place.
        """
        return self._signals.jacobian()

    def independent_gramian(self) -> Tensor:
        """`<g_s, h_t>` for the task gradients g and h of two further batches of the training split, `[K, T, T]`.

        The batches are drawn independently of each other and of this step's; each costs a forward pass. The result is
        neither symmetric nor positive semi-definite. Its dtype is that of `gramian`.
        """
        return self._signals.independent_gramian()

    def representation_gradients(self) -> Tensor:
        """Gradient of each task loss with respect to the shared representation, `[K, T, B, F]`; 0 where its ReLU is."""
        return self._signals.representation_gradients()

    def descend(self, direction: Tensor) -> None:
        """Give the trunk the gradient `direction` `[K, P]`, ordered as in `jacobian`, instead of the objective's.

        For methods whose direction is not a weighting of this step's losses. The objective still determines the weights
        that are recorded and that the heads are trained with.
        """
        self.direction = direction

    def descend_representation(self, direction: Tensor) -> None:
        """As `descend`, for the gradient `[K, B, F]` that the shared representation passes on to the trunk."""
        self.representation_direction = direction

    def rand(self, *size: int) -> Tensor:
        """Uniform numbers in [0, 1), `[K, *size]`, from one stream per seed; see `random_numbers.uniform`.

        A seed's stream does not depend on the other seeds in its stack.
        """
        self._draws += 1
        numbers = uniform(self._seeds, self.index, self._draws - 1, math.prod(size))
        return numbers.to(self.losses.dtype).view(-1, *size)


class Strategy(nn.Module):
    """Turns the task losses of a step into the one scalar per replica that is minimised.

    A subclass takes `shape = (K, T)` and its hyper-parameters by keyword, each with a default, and implements
    `forward`. Leading dimensions are independent replicas and are never mixed. Parameters are `[K, T]` and are trained
    by the same optimizer as the network; buffers hold the rest of the state, and `state_dict` is all of it. A step does
    not wait for the device: no `.item()`, and no Python branch on a tensor.
    """

    name: ClassVar[str]

    heads: Heads = "weighted"
    """Gradient of head t: w_t dL_t if `weighted`, dL_t if `own` (as in most code of gradient surgery)."""

    losses: Losses = "any"
    """Losses that the method is defined for: any numbers, or `positive` ones, like cross-entropies and squared errors.
    A loss of 0, the limit, must still give finite weights."""

    family: ClassVar[Family | None] = None
    """Kind of method in lists; None for the kind that follows from what it looks at in a step."""

    lr: float | None = None
    """Learning rate of the strategy's own parameters; None for the network's."""

    warm_up: int = 0
    """First epochs in which the method does not weigh by its own rule yet; a bench with no more epochs says so."""

    waits: ClassVar[bool] = False
    """True if a step synchronises with the device; on CUDA it is then not captured as a graph."""

    divisible: ClassVar[bool] = True
    """True if the state of a task is in those dimensions of parameters and buffers, after the first, that have size T,
    so that a step without some of the tasks leaves it unchanged; see `mtlbench.contracts.absence`."""

    symmetric: ClassVar[bool] = True
    """True if permuting the tasks permutes the weights alike; False for a method that treats tasks by their position,
    such as one that protects the main task. Numbers from `step.rand` belong to a task."""

    def __init__(self, shape: tuple[int, int]) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, step: Step) -> Tensor:
        """The objective `[K]`; its derivative with respect to `step.losses` is each task's effective weight."""
        raise NotImplementedError(f"{type(self).__name__} does not implement forward(step)")

    def allocate(self, parameters: int) -> None:
        """Create the buffers whose size depends on P, a replica's trunk parameters; called once, before any step."""

    def project(self) -> None:
        """Bring the parameters back, in place, to the set that the method keeps them in; called after each update."""

    def after_update(self, losses_after: Tensor) -> None:
        """Receive the losses of the same batch after the update, `[K, T]`; costs one more forward pass."""

    def epoch_end(self, mean_losses: Tensor) -> None:
        """Receive the training losses averaged over the epoch, `[K, T]`."""

    @classmethod
    def overrides(cls, hook: str) -> bool:
        """True if the class defines a hook itself; a hook that is not used costs nothing."""
        return getattr(cls, hook) is not getattr(Strategy, hook)


def effective_weights(strategy: Strategy, step: Step) -> Tensor:
    """The derivative of the objective, `[K, T]`; sets the gradients of the strategy's parameters.

    Raises:
        ContractError: the objective is not one number per replica, of the losses' dtype or wider, that depends on the
            losses; or the step was changed.
    """
    parameters, shape, dtype = list(strategy.parameters()), step.losses.shape[:1], step.losses.dtype
    with torch.enable_grad():
        objective = _objective(strategy, step)
        is_tensor, found = isinstance(objective, Tensor), type(objective).__name__
        if not (is_tensor and objective.shape == shape and _holds(objective, dtype) and objective.requires_grad):
            if is_tensor:
                depends = "" if objective.requires_grad else ", which does not"
                found = f"{objective.dtype} of shape {list(objective.shape)}{depends}"
            raise ContractError(
                f"forward(step) must return one objective per replica, {dtype} of shape {list(shape)} or wider, that "
                f"depends on step.losses; found {found}"
            )
        weights, *gradients = torch.autograd.grad(objective.sum(), [step.losses, *parameters], materialize_grads=True)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        most = torch.finfo(gradient.dtype).max ** 0.5  # so that an optimizer can sum its square
        parameter.grad = gradient.clamp(-most, most)
    return weights


def _holds(objective: Tensor, dtype: torch.dtype) -> bool:
    """Whether the objective's dtype is this one or wider."""
    return torch.promote_types(objective.dtype, dtype) == objective.dtype


def _objective(strategy: Strategy, step: Step) -> Any:  # noqa: ANN401 - a plug-in may return anything
    """What `forward` returns; a ContractError if it changed losses or numbers of the step, which are read again."""
    tensors = {name: getattr(step, name) for name in ("losses", "index", "epoch", "counts")}
    versions = {name: tensor._version for name, tensor in tensors.items()}
    objective = strategy(step)
    for name, tensor in tensors.items():
        if getattr(step, name) is not tensor or tensor._version != versions[name]:
            raise ContractError(f"forward(step) must not change step.{name}: work on step.{name}.clone()")
    return objective


S = TypeVar("S", bound=type[Strategy])


def register(name: str) -> Callable[[S], S]:
    """Class decorator that registers a strategy under a name: lower-case words joined by dashes.

    Raises:
        ValueError: the name is malformed or reserved, or another strategy has it.
    """

    def add(cls: S) -> S:
        if not name or not all(part.isalnum() and part == part.lower() for part in name.split("-")):
            raise ValueError(f"a strategy's name must be lower-case words joined by dashes; found {name!r}")
        if name in RESERVED:
            raise ValueError(f"a strategy's name must not be {name!r}, which means something else before a colon")
        declare("strategy", name, cls)
        cls.name = name
        return cls

    return add


def require(condition: bool, rule: str, value: object) -> None:
    """Raise a ValueError with the rule and the value if a hyper-parameter's condition does not hold."""
    if not condition:
        raise ValueError(f"{rule}, not {value}")
