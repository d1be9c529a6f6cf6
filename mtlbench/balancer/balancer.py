"""A strategy of the bench in a training loop of one's own."""

from __future__ import annotations

import copy
import math
import typing
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor, nn

from mtlbench.balancer.given_gradients import Sum, with_gradients
from mtlbench.balancer.losses import Losses, TaskNames
from mtlbench.balancer.signals import GradientOverflowError, LossGradients, last_layer, leaves
from mtlbench.contracts.strategy import Heads, Step, Strategy, effective_weights
from mtlbench.errors import UserError
from mtlbench.plugins.registry import Registry


class Balancer(nn.Module):
    """Makes of the task losses of a step the one scalar to call `backward` on, by a strategy of the bench.

    ```
    balance = Balancer("gradnorm", tasks=2, shared=model.trunk)
    balance(losses).backward()
    ```

    Each call is one step of the strategy: its state moves, and its own parameters (log-variances, GradNorm's weights)
    take their step of Adam in the call, as in the bench, whatever is frozen around them. They are not for the network's
    optimizer, which leaves them alone where it is given them. What a strategy sums up is in float32 or more, also where
    a module that holds the Balancer is made half precision. The network's gradients come from `backward` and nothing
    else: they are added to what is there, and scaled as the scalar is. `state_dict` is the whole state.

    `weights` `[T]` are the effective weights of the last call, NaN before the first; `strategy` is the `Strategy`.

    Args:
        strategy: as on the command line, `gradnorm` or `gradnorm:alpha=0.5`; or what makes one for a shape (1, T), as a
            class of one's own does.
        tasks: T, or the names of the tasks.
        shared: the module that all tasks share, for strategies that look at gradients. What requires grad in it counts.
            It is not made a part of the Balancer.
        last: its last layer, for strategies that look at that alone; None is the last module, in the order of
            registration, with a trained weight of two dimensions or more.
        lr: Adam's learning rate for the strategy's own parameters, where the strategy has none of its own.
        seed: of the strategy's random numbers.
        plugins: files of further strategies.
        scaler: the `GradScaler` of a loop in half precision: the gradients that the strategy looks at are then made
            with its scale. Where they or the losses are not finite, the scaler skips the step, and the strategy does
            not move.

    Raises:
        UserError: there is no such strategy or hyper-parameter, or another argument is not what it should be.
    """

    strategy: Strategy
    weights: Tensor
    index: Tensor
    epoch: Tensor
    seeds: Tensor
    loss_sums: Tensor
    steps_of_epoch: Tensor

    def __init__(
        self,
        strategy: str | Callable[[tuple[int, int]], Strategy],
        *,
        tasks: int | Sequence[str],
        shared: nn.Module | None = None,
        last: nn.Module | None = None,
        lr: float = 1e-3,
        seed: int = 0,
        plugins: Sequence[str | Path] = (),
        scaler: torch.amp.GradScaler | None = None,
    ) -> None:
        super().__init__()
        self._tasks = TaskNames.of(tasks)
        self._scaler = scaler
        shape = (1, len(self._tasks.names))
        if isinstance(strategy, str):
            registry = _registry(tuple(Path(plugin) for plugin in plugins))
            self.strategy = registry.build(registry.parse(strategy, self), shape)
        else:
            self.strategy = strategy(shape)
        _check(self.strategy.heads, lr, {"shared": shared, "last": last})
        # In a tuple, so that they are no submodules: the network's parameters are not the Balancer's.
        self._shared = () if shared is None else (shared,)
        self._last = (last,) if last is not None else tuple(filter(None, map(last_layer, self._shared)))
        parameters = _trained(self._shared)
        if shared is not None and not parameters:
            raise UserError("shared has no parameter that requires grad")
        if last is not None and not _trained(self._last):
            raise UserError("last has no parameter that requires grad")
        if last is not None and not {*map(id, _trained(self._last))} <= {*map(id, parameters)}:
            raise UserError("last is no part of shared")
        self._size = sum(parameter.numel() for parameter in parameters)
        self.strategy.allocate(self._size)
        self._lr = lr if self.strategy.lr is None else self.strategy.lr
        self._optimizer: torch.optim.Adam | None = None
        self._tie_optimizer()
        self.register_load_state_dict_post_hook(Balancer._tie_optimizer)
        self._awaits_after_update = False
        self.register_buffer("weights", torch.full(shape[1:], torch.nan))
        self.register_buffer("index", torch.zeros((), dtype=torch.int64))
        self.register_buffer("epoch", torch.zeros((), dtype=torch.int64))
        self.register_buffer("seeds", torch.tensor([seed]))
        self.register_buffer("loss_sums", torch.zeros(shape))
        self.register_buffer("steps_of_epoch", torch.zeros((), dtype=torch.int64))
        if parameters:
            self.to(parameters[0].device, torch.promote_types(parameters[0].dtype, torch.float32))

    def forward(
        self, losses: Losses, features: Tensor | None = None, *, further: Callable[[], Losses] | None = None
    ) -> Tensor:
        """The scalar to minimise, of value `sum_t w_t L_t` with the effective weights w.

        Args:
            losses: of this step, with their graphs.
            features: the shared representation `[B, ...]` behind its ReLU, with its graph, for strategies that look
                at it.
            further: makes the losses of another batch at each call, for strategies that look at two more.

        Raises:
            UserError: the losses are not T scalars that depend on what is trained, or something that the strategy
                needs was not given; says how to give it.
        """
        terms = self._tasks.scalars(losses, self.weights.device)
        if not any(term.requires_grad for term in terms):
            raise UserError("no loss depends on a parameter: call the Balancer in training, outside torch.no_grad()")
        if self._awaits_after_update:
            raise UserError(
                f"{self._name} looks at the losses after each update: call balance.after_update(losses) with those of "
                "the same batch, computed anew, after optimizer.step()"
            )
        callers, full = _autocasts(self.weights.device.type)

        def another() -> list[Tensor]:
            assert further is not None
            with callers:
                return self._tasks.scalars(further(), self.weights.device)

        # A strategy's sums are not for half precision, and backward passes are not for autocast.
        with full:
            signals = LossGradients(
                terms,
                shared=self._shared_parameters(),
                last=_trained(self._last),
                representation=features,
                further=another if further else None,
                dtype=self.weights.dtype,
                scale=self._scaler.get_scale() if self._scaler and self._scaler.is_enabled() else None,
            )
            seen = torch.stack([term.detach().to(self.weights.dtype) for term in terms]).unsqueeze(0)
            step = Step(seen.requires_grad_(), signals, index=self.index, epoch=self.epoch, seeds=self.seeds)
            for parameter in self.strategy.parameters():
                parameter.requires_grad_()  # a module around it may have been frozen since
            try:
                if signals.scaled and not bool(seen.isfinite().all()):
                    raise GradientOverflowError
                weights = effective_weights(self.strategy, step)[0]
            except GradientOverflowError:
                infinite = self.weights.new_full((1,), torch.inf)
                reached = chain.from_iterable(leaves(terms))
                return with_gradients(seen.sum(), {leaf: Sum(infinite, [torch.ones_like(leaf)]) for leaf in reached})
            total = signals.minimised(weights, self.strategy.heads, step)
        self._moved(weights, seen)
        return total

    if typing.TYPE_CHECKING:  # to nn.Module anything may be called with anything

        def __call__(  # noqa: D102
            self, losses: Losses, features: Tensor | None = None, *, further: Callable[[], Losses] | None = None
        ) -> Tensor: ...

    @torch.no_grad()
    def after_update(self, losses: Losses | Callable[[], Losses]) -> None:
        """Tell the strategy the losses of the same batch after the optimizer's step; needed by those that look at them.

        Args:
            losses: as in a call, without graphs; or a function that makes them, called only if the strategy looks.
        """
        if self._awaits_after_update:
            torch.clear_autocast_cache()  # it may hold parameters as they were before the update
            terms = self._tasks.scalars(losses() if callable(losses) else losses, self.weights.device)
            self.strategy.after_update(torch.stack([term.to(self.weights.dtype) for term in terms]).unsqueeze(0))
            self._awaits_after_update = False

    @torch.no_grad()
    def epoch_end(self) -> None:
        """Tell the strategy that an epoch is over; it is given the mean of the losses since the last one.

        Raises:
            UserError: there was no step since.
        """
        if not self.steps_of_epoch:
            raise UserError("epoch_end: there was no step in this epoch")
        self.strategy.epoch_end(self.loss_sums / self.steps_of_epoch)
        self.loss_sums.zero_()
        self.steps_of_epoch.zero_()
        self.epoch += 1

    @property
    def task_names(self) -> list[str]:
        """The names of the tasks, `0`, `1`, ... where only their number was given."""
        return self._tasks.names

    def get_extra_state(self) -> dict[str, typing.Any]:
        """What of the state is no tensor of its own: what it is the state of, and the optimizer of its parameters."""
        return {
            "strategy": self._name,
            "tasks": self.task_names,
            "optimizer": self._optimizer and self._optimizer.state_dict(),
            "awaits_after_update": self._awaits_after_update,
        }

    def set_extra_state(self, state: dict[str, typing.Any]) -> None:
        """Take back what `get_extra_state` gave.

        Raises:
            UserError: it is the state of another strategy, or of other tasks.
        """
        if (state["strategy"], state["tasks"]) != (self._name, self.task_names):
            raise UserError(
                f"the state is of {state['strategy']} with the tasks {', '.join(state['tasks'])}, the Balancer is of "
                f"{self._name} with {', '.join(self.task_names)}"
            )
        if self._optimizer is not None:
            self._optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))  # it keeps the tensors it is given
        self._awaits_after_update = state["awaits_after_update"]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Balancer:
        def no_half(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            if not moved.is_floating_point() or moved.dtype.itemsize >= torch.float32.itemsize:
                return moved
            return tensor.to(moved.device, torch.float32)

        super()._apply(no_half, recurse)
        self._tie_optimizer()
        return self

    def _tie_optimizer(self, *_: object) -> None:
        """Have the optimizer train the strategy's parameters as they are now, with the moments that it has."""
        own = list(self.strategy.parameters())
        before = self._optimizer
        self._optimizer = torch.optim.Adam(own, lr=self._lr) if own else None
        if before is not None and self._optimizer is not None:
            self._optimizer.load_state_dict(before.state_dict())

    @property
    def _name(self) -> str:
        return getattr(self.strategy, "name", type(self.strategy).__name__)

    @torch.no_grad()
    def _moved(self, weights: Tensor, losses: Tensor) -> None:
        """Finish a step of the strategy."""
        if self._optimizer is not None:
            self._optimizer.step()
            self._optimizer.zero_grad()  # without a gradient, no other optimizer moves them
        self.strategy.project()
        self._awaits_after_update = self.strategy.overrides("after_update")
        self.weights = weights.clone()  # a tensor of its own for each step, so that they can be kept
        self.loss_sums += losses
        self.steps_of_epoch += 1
        self.index += 1

    def _shared_parameters(self) -> list[Tensor]:
        parameters = _trained(self._shared)
        size = sum(parameter.numel() for parameter in parameters)
        if size != self._size and self.strategy.overrides("allocate"):
            raise UserError(
                f"{self._name} keeps a state as large as what is trained of shared, which had {self._size} parameters "
                f"and now has {size}: make a new Balancer after freezing or unfreezing"
            )
        return parameters


def _trained(modules: Sequence[nn.Module]) -> list[Tensor]:
    return [parameter for module in modules for parameter in module.parameters() if parameter.requires_grad]


def _check(heads: object, lr: float, modules: dict[str, object]) -> None:
    if heads not in typing.get_args(Heads):
        raise UserError(f"the heads of a strategy are {' or '.join(typing.get_args(Heads))}, not {heads!r}")
    if not (lr > 0 and math.isfinite(lr)):
        raise UserError(f"lr must be finite and > 0, not {lr}")
    for name, module in modules.items():
        if module is not None and not isinstance(module, nn.Module):
            raise UserError(
                f"{name} is a module, not {type(module).__name__}: several go together, nn.ModuleList([ONE, OTHER])"
            )


def _autocasts(device: str) -> tuple[AbstractContextManager[object], AbstractContextManager[object]]:
    """The caller's autocast, to go back to, and none; a device may have none at all."""
    if not torch.amp.is_autocast_available(device):
        return nullcontext(), nullcontext()
    callers = torch.autocast(device, torch.get_autocast_dtype(device), torch.is_autocast_enabled(device))
    return callers, torch.autocast(device, enabled=False)


@cache
def _registry(plugins: tuple[Path, ...]) -> Registry:
    return Registry.load(plugins)
