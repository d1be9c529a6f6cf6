"""A strategy of the bench in the user's own training loop."""

from __future__ import annotations

import typing
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.distributed import ProcessGroup

from mtlbench.balancer.arguments import check, check_features, check_heads, trained
from mtlbench.balancer.given_gradients import Sum, size_of, with_gradients
from mtlbench.balancer.keeping import KeptStrategy, Recipe, requiring_grad
from mtlbench.balancer.leaves import leaves
from mtlbench.balancer.losses import Losses, Present, TaskNames
from mtlbench.balancer.precision import autocasts, default_dtype, widest
from mtlbench.balancer.ranks import Ranks
from mtlbench.balancer.signals import GradientOverflowError, LossGradients, last_layer
from mtlbench.contracts.absence import only
from mtlbench.contracts.strategy import Step, Strategy, effective_weights
from mtlbench.errors import UserError


class Balancer(KeptStrategy):
    """Turns the task losses of a step into the one scalar to call `backward` on, by a strategy of the bench.

    ```
    balance = Balancer("gradnorm", tasks=2, shared=model.trunk)
    balance(losses).backward()
    ```

    Each call is one step of the strategy: it updates the strategy's state, and its parameters (log-variances,
    GradNorm's weights) take a step of Adam, as in the bench, even if a module around them is frozen. They are not meant
    for the network's optimizer, which leaves them unchanged if it is given them. The strategy computes in the dtype of
    the shared parameters or the losses, and at least in float32, even if a module that contains the Balancer is
    converted to half precision. The network's gradients come only from `backward`: they are added to existing
    gradients, and scale with the scalar. `state_dict` is the whole state, as tensors.

    In eval mode, a call weighs the losses as the last training step did, without a graph and without a step.

    `weights` `[T]` are the effective weights of the last call, NaN before the first; a task without labels keeps its
    last weight, and has 0 if it never had any. `strategy` is the `Strategy`.

    Args:
        strategy: as on the command line, `gradnorm` or `gradnorm:alpha=0.5`; or a function that makes one for a shape
            (1, T), such as a strategy's class.
        tasks: T, or the names of the tasks.
        shared: the module that all tasks share, for strategies that use gradients. Its parameters that require grad
            count. It does not become a submodule of the Balancer.
        last: its last layer, for strategies that use only that one; by default the last module, in the order of
            registration, with a trained weight of two dimensions or more.
        lr: Adam's learning rate for the strategy's parameters, unless the strategy sets its own.
        seed: of the strategy's random numbers.
        plugins: files of further strategies.
        scaler: the `GradScaler` of a loop in half precision: gradients for the strategy are then computed with its
            scale. If they or the losses are not finite, the scaler skips the step, and the strategy's state is
            unchanged.
        group: the processes that each hold an equal part of the batch: those of torch's default group if there is one,
            a process group, or None for this process alone. Losses and task gradients are averaged over them.

    Raises:
        UserError: the strategy or a hyper-parameter does not exist, or another argument is not valid.
    """

    strategy: Strategy
    weights: Tensor
    index: Tensor
    epoch: Tensor
    seeds: Tensor
    counts: Tensor
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
        group: ProcessGroup | Literal["default"] | None = "default",
    ) -> None:
        super().__init__()
        self._tasks = TaskNames(tasks)
        self._scaler, self._group = scaler, group
        Ranks.of(group)  # refuses what is no group
        files = tuple(Path(plugin).absolute() for plugin in plugins)
        self._recipe = Recipe(strategy, files) if isinstance(strategy, str) else None
        shape = (1, len(self._tasks.names))
        check(lr, {"shared": shared, "last": last})
        # Tuples, so that these do not become submodules: the network's parameters are not the Balancer's.
        self._shared = () if shared is None else (shared,)
        self._last = (last,) if last is not None else tuple(filter(None, map(last_layer, self._shared)))
        parameters = trained(self._shared)
        if last is not None:
            self._last_parameters()
        self._size = sum(map(size_of, parameters))
        of_network = [parameter.dtype for parameter in parameters] or [torch.get_default_dtype()]
        with default_dtype(widest(of_network)):
            self.strategy = strategy(shape) if callable(strategy) else Recipe(strategy, files).make(self)
            check_heads(self.strategy.heads)
            self.strategy.allocate(self._size)
            buffers = {"weights": torch.full(shape[1:], torch.nan), "index": torch.tensor(0), "epoch": torch.tensor(0)}
            buffers |= {"seeds": torch.tensor([seed]), "loss_sums": torch.zeros(shape)}
            buffers |= {name: torch.zeros(shape, dtype=torch.int64) for name in ("counts", "steps_of_epoch")}
        for name, tensor in buffers.items():
            self.register_buffer(name, tensor)
        self._lr = lr if self.strategy.lr is None else self.strategy.lr
        # They are trained within a call, where they require grad; a wrapper must not wait for their gradients.
        self.strategy.requires_grad_(False)
        self.to(parameters[0].device if parameters else None, self.weights.dtype)
        self.register_load_state_dict_post_hook(Balancer._tie_optimizer)

    def forward(
        self,
        losses: Losses,
        features: Tensor | None = None,
        *,
        present: Present | None = None,
        further: Callable[[], Losses] | None = None,
    ) -> Tensor:
        """The scalar to minimise, of value `sum_t w_t L_t` with the effective weights w, over the tasks with labels.

        Args:
            losses: of this step, with their graphs; None for a task without labels in this batch.
            features: the shared representation `[B, ...]` after its ReLU, with its graph, for strategies that use it.
            present: which tasks have labels; by default, those whose loss is not None. Losses of others are ignored.
            further: returns the losses of another batch at each call, for strategies that use two further batches.

        Raises:
            UserError: the losses are not T scalars that depend on trained parameters, or the strategy needs something
                that was not given; the message says how to give it.
        """
        device = self.weights.device
        here = self._tasks.present(losses, present)
        terms = self._tasks.scalars(losses, device, here)
        if not self.training:
            return self._evaluated(terms, here)
        if len(here) < len(self.task_names) == self._size and self.strategy.overrides("allocate"):
            raise UserError(f"{self._name} needs more than {self._size} shared parameters to tell them from tasks")
        self._widen([term.dtype for term in terms])
        dtype = self.weights.dtype
        if not any(term.requires_grad for term in terms):
            raise UserError(
                "no loss depends on a parameter: call the Balancer in training, not within torch.no_grad(), or in eval "
                "mode, balance.eval(), where it does not take a step"
            )
        if self._awaits_after_update:
            raise UserError(
                f"{self._name} uses the losses after each update: after optimizer.step(), call "
                "balance.after_update(losses) with the losses of the same batch, computed again"
            )
        scale = self._scaler.get_scale() if self._scaler and self._scaler.is_enabled() else None
        ranks = self._ranks()
        ranks.agree_on(here, self.weights)
        shared = self._shared_parameters()
        check_features(features)
        callers, full = autocasts(device.type)

        def another() -> list[Tensor]:
            assert further is not None
            with callers:
                return self._tasks.scalars(further(), device, here)

        # A strategy's sums need full precision, and backward passes must run outside autocast.
        with full:
            signals = LossGradients(
                tasks=here,
                names=[self.task_names[task] for task in here],
                heads=self.strategy.heads,
                losses=terms,
                module=next(iter(self._shared), None),
                shared=shared,
                last=self._last_parameters,
                representation=features,
                further=another if further else None,
                dtype=dtype,
                scale=scale,
                owners=self._owners,
                ranks=ranks,
            )
            (values,) = ranks.mean([torch.stack([term.detach().to(dtype) for term in terms]).unsqueeze(0)])
            self._tasks.check(values[0], self.strategy, here, finite=scale is None)
            at = slice(None) if len(here) == len(self.task_names) else here
            times = {"index": self.index, "epoch": self.epoch, "counts": self.counts[:, at]}
            step = Step(values.requires_grad_(), signals, seeds=self.seeds, **times)
            try:
                if scale is not None and not bool(values.isfinite().all()):
                    raise GradientOverflowError
                signals.tell_heads_apart()
                with requiring_grad(self.strategy), only(self.strategy, here):
                    weights = effective_weights(self.strategy, step)[0]
            except GradientOverflowError:
                infinite = self.weights.new_full((1,), torch.inf)
                reached = chain.from_iterable(leaves(terms))
                return with_gradients(values.sum(), {leaf: Sum(infinite, [torch.ones_like(leaf)]) for leaf in reached})
            total = signals.minimised(weights, step)
        with torch.no_grad():
            self._update(here)
            with only(self.strategy, here):
                self.strategy.project()
            self._awaits_after_update = here if self.strategy.overrides("after_update") else []
            self.weights = self.weights.nan_to_num()  # a new tensor for each step, so that callers can keep it
            self.weights[at] = weights
            self.loss_sums[:, at] += values
            self.steps_of_epoch[:, at] += 1
            self.counts[:, at] += 1
            self.index += 1
        return total

    if typing.TYPE_CHECKING:  # nn.Module declares any arguments

        def __call__(  # noqa: D102
            self,
            losses: Losses,
            features: Tensor | None = None,
            *,
            present: Present | None = None,
            further: Callable[[], Losses] | None = None,
        ) -> Tensor: ...

    def after_update(self, losses: Losses | Callable[[], Losses]) -> None:
        """Give the strategy the losses of the same batch after the optimizer's step; only some strategies need them.

        They are given as in a call, or as a function, which is called only if they are needed. It may compute losses
        that contain derivatives; a graph that it makes is not kept. Losses of tasks that were absent are ignored.
        """
        if not self._awaits_after_update:
            return
        torch.clear_autocast_cache()  # it may hold copies of parameters from before the update
        if callable(losses):
            with torch.inference_mode(mode=False), torch.enable_grad():
                losses = losses()
        with torch.inference_mode(mode=False), torch.no_grad():
            here = self._awaits_after_update
            terms = self._tasks.scalars(losses, self.weights.device, here)
            (values,) = self._ranks().mean([torch.stack([term.to(self.weights.dtype) for term in terms]).unsqueeze(0)])
            self._awaits_after_update = []  # also if these losses are refused: the next step may follow
            self._tasks.check(values[0], self.strategy, here, finite=True)
            with only(self.strategy, here), requiring_grad(self.strategy):  # torchjd:FAMO trains its own here
                self.strategy.after_update(values)

    @torch.inference_mode(mode=False)
    @torch.no_grad()
    def epoch_end(self) -> None:
        """End an epoch: the strategy is given the mean of the losses since the last one, of tasks that were present.

        Raises:
            UserError: there was no step in this epoch.
        """
        here = self.steps_of_epoch[0].nonzero().flatten().tolist()
        if not here:
            raise UserError("epoch_end must follow at least one step of the epoch; found none")
        with only(self.strategy, here):
            self.strategy.epoch_end((self.loss_sums / self.steps_of_epoch)[:, here])
        self.loss_sums.zero_()
        self.steps_of_epoch.zero_()
        self.epoch += 1

    def _evaluated(self, terms: Sequence[Tensor], here: Sequence[int]) -> Tensor:
        """The losses under the weights of the last step, a number without a graph."""
        if not (self.weights.is_meta or self.index):
            raise UserError(
                "in eval mode, the Balancer weighs losses by the weights of its last training step; there was none. "
                "In training, call balance.train()"
            )
        dtype = widest([self.weights.dtype, *(term.dtype for term in terms)])
        return (self.weights[here] * torch.stack([term.detach().to(dtype) for term in terms])).sum()

    def _ranks(self) -> Ranks:
        ranks = Ranks.of(self._group)
        if not self._agreed:
            ranks.agree(self._name, self.task_names, self)
            self._agreed = ranks.size > 1
        return ranks

    def _shared_parameters(self) -> list[Tensor]:
        parameters = trained(self._shared)
        size = sum(map(size_of, parameters))
        if size != self._size and self.strategy.overrides("allocate"):
            raise UserError(
                f"{self._name} keeps a state of the size of shared, which must have {self._size} trained parameters; "
                f"found {size}. Make a new Balancer after freezing or unfreezing"
            )
        return parameters

    def _last_parameters(self) -> list[Tensor]:
        parameters = trained(self._last)
        if not parameters:
            raise UserError("no last shared layer is trained: name one, Balancer(..., last=MODULE)")
        if not set(parameters) <= set(trained(self._shared)):
            raise UserError("last must be a submodule of shared. If it was replaced, make a new Balancer")
        return parameters
