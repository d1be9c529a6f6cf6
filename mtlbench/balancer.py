"""A strategy of the bench in a training loop of one's own."""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor, nn

from mtlbench.autograd import GradientOverflowError, LossGradients, Sum, last_layer, leaves, with_gradients
from mtlbench.errors import UserError
from mtlbench.registry import Registry
from mtlbench.strategy import Step, Strategy, weigh

Losses = Tensor | Sequence[Tensor] | Mapping[str, Tensor]
"""The losses of a step: T scalars in the order of the tasks, a tensor `[T]`, or scalars by the tasks' names."""


class Balancer(nn.Module):
    """Makes of the task losses of a step the one scalar to call `backward` on, by a strategy of the bench.

    ```
    balance = Balancer("gradnorm", tasks=2, shared=model.trunk)
    balance(losses).backward()
    ```

    Each call is one step of the strategy: its state moves, and its own parameters (log-variances, GradNorm's weights)
    take their step of Adam in the call, as in the bench. They are not for the network's optimizer, which leaves them
    alone where it is given them. The network's gradients come from `backward` and nothing else: they are added to
    what is there, and scaled as the scalar is. `state_dict` is the whole state.

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
            with its scale. Where they overflow, the scaler skips the step, and the strategy does not move.

    Raises:
        UserError: there is no such strategy or hyper-parameter, or `shared` or `last` has nothing to train.
    """

    task_names: list[str]
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
        self.task_names = [str(task) for task in range(tasks)] if isinstance(tasks, int) else list(tasks)
        if not self.task_names or len(set(self.task_names)) < len(self.task_names):
            raise UserError(f"tasks is their number, 1 or more, or their names, each once, not {tasks!r}")
        self._named = not isinstance(tasks, int)
        self._scaler = scaler
        shape = (1, len(self.task_names))
        if isinstance(strategy, str):
            registry = _registry(tuple(Path(plugin) for plugin in plugins))
            self.strategy = registry.build(registry.parse(strategy, self), shape)
        else:
            self.strategy = strategy(shape)
        # In a tuple, so that they are no submodules: the network's parameters are not the Balancer's.
        self._shared = () if shared is None else (shared,)
        self._last = (last,) if last is not None else tuple(filter(None, map(last_layer, self._shared)))
        parameters = _trained(self._shared)
        if shared is not None and not parameters:
            raise UserError("shared has no parameter that requires grad")
        if last is not None and not {*map(id, _trained(self._last))} <= {*map(id, parameters)}:
            raise UserError("last is no part of shared")
        self._size = sum(parameter.numel() for parameter in parameters)
        self.strategy.allocate(self._size)
        own = list(self.strategy.parameters())
        own_lr = lr if self.strategy.lr is None else self.strategy.lr
        self._optimizer = torch.optim.Adam(own, lr=own_lr) if own else None
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
        terms = self._scalars(losses)
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
                return self._scalars(further())

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
            try:
                weights = weigh(self.strategy, step)[0]
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
            terms = self._scalars(losses() if callable(losses) else losses)
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

    def get_extra_state(self) -> dict[str, typing.Any]:
        """What of the state is no tensor of its own: the optimizer of the strategy's parameters."""
        return {
            "optimizer": self._optimizer and self._optimizer.state_dict(),
            "awaits_after_update": self._awaits_after_update,
        }

    def set_extra_state(self, state: dict[str, typing.Any]) -> None:
        """Take back what `get_extra_state` gave."""
        if self._optimizer is not None:
            self._optimizer.load_state_dict(state["optimizer"])
        self._awaits_after_update = state["awaits_after_update"]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Balancer:
        super()._apply(fn, recurse)
        if self._optimizer is not None:
            self._optimizer.load_state_dict(self._optimizer.state_dict())  # its moments follow the parameters
        return self

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

    def _scalars(self, losses: Losses) -> list[Tensor]:
        """The losses as T scalars, in the order of the tasks."""
        found: Sequence[object]
        if isinstance(losses, Mapping):
            if not self._named or set(losses) != set(self.task_names):
                known = f"the tasks are {', '.join(self.task_names)}" if self._named else "tasks is a number, not names"
                raise UserError(f"losses by name are of {', '.join(losses)}, but {known}")
            found = [losses[name] for name in self.task_names]
        elif isinstance(losses, Tensor) and losses.dim() != 1:
            raise UserError(f"losses in one tensor have one dimension, [T], not the shape {list(losses.shape)}")
        else:
            found = list(losses)
        if len(found) != len(self.task_names):
            raise UserError(f"there are {len(self.task_names)} tasks, but {len(found)} losses")
        return [self._scalar(name, loss) for name, loss in zip(self.task_names, found, strict=True)]

    def _scalar(self, name: str, loss: object) -> Tensor:
        if not isinstance(loss, Tensor) or loss.dim():
            what = f"a tensor of shape {list(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
            raise UserError(f"the loss of task {name} must be a scalar tensor, a mean over the batch, not {what}")
        if loss.device != self.weights.device:
            raise UserError(
                f"the loss of task {name} is on {loss.device}, the Balancer on {self.weights.device}: move it, "
                f"balance.to('{loss.device}')"
            )
        return loss


def _trained(modules: Sequence[nn.Module]) -> list[Tensor]:
    return [parameter for module in modules for parameter in module.parameters() if parameter.requires_grad]


def _autocasts(device: str) -> tuple[AbstractContextManager[object], AbstractContextManager[object]]:
    """The caller's autocast, to go back to, and none; a device may have none at all."""
    if not torch.amp.is_autocast_available(device):
        return nullcontext(), nullcontext()
    callers = torch.autocast(device, torch.get_autocast_dtype(device), torch.is_autocast_enabled(device))
    return callers, torch.autocast(device, enabled=False)


@cache
def _registry(plugins: tuple[Path, ...]) -> Registry:
    return Registry.load(plugins)
