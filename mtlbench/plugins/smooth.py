"""Strategies `smooth:NAME`: the weights of another strategy, averaged over the steps."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from inspect import Parameter, Signature
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from mtlbench.contracts.space import Uniform
from mtlbench.contracts.strategy import Step, Strategy, require
from mtlbench.errors import ContractError, UserError

HOOKS = ("allocate", "project", "after_update", "epoch_end")
OF_CLASS, OF_INSTANCE = ("family", "symmetric", "waits", "divisible"), ("heads", "losses", "lr", "warm_up")
"""Declarations that are those of the other strategy; those of an instance may depend on its hyper-parameters."""


class Smoothed(Strategy):
    """Exponential moving average of the weights of another strategy, whose hyper-parameters it has.

    With v the effective weights of the other strategy in this step, the weights follow
    w <- smoothing w + (1 - smoothing) v, from w = v in the first step. The parameters of the other strategy are trained
    by its own objective. It has to weigh losses: one that gives the trunk a direction is refused in the first step.

    Source: Zhou, Zhang, Jiang, Zhong, Gu & Zhu, "On the Convergence of Stochastic Multi-Objective Gradient Manipulation
    and Beyond", NeurIPS 2022 (CR-MOGM); the default of `smoothing` is TorchJD's.

    Deviation: `smoothing` is constant; for convergence the paper lets it grow to 1 as the learning rate decays.

    Args:
        shape: (K, T).
        smoothing: share of the weights before, >= 0 and < 1; 0 is the other strategy.
    """

    inner_class: ClassVar[type[Strategy]]

    def __init__(
        self, shape: tuple[int, int], *, smoothing: Annotated[float, Uniform(0.5, 0.99)] = 0.9, **hyper: object
    ) -> None:
        super().__init__(shape)
        require(0 <= smoothing < 1, "smoothing must be >= 0 and < 1", smoothing)
        self.smoothing = smoothing
        self.inner = typing.cast("Callable[..., Strategy]", self.inner_class)(shape, **hyper)
        for name in OF_INSTANCE:
            setattr(self, name, getattr(self.inner, name))
        self.averages: Tensor
        self.register_buffer("averages", torch.zeros(shape))  # [K, T], w

    def forward(self, step: Step) -> Tensor:
        """The other strategy's objective plus a term that turns its weights into the averages."""
        objective = self.inner(step)
        if step.direction is not None or step.representation_direction is not None:
            raise ContractError(f"{self.name} cannot smooth a strategy that gives the trunk a direction")
        (weights,) = torch.autograd.grad(objective.sum(), step.losses, retain_graph=True)
        self.averages.copy_(torch.where(step.counts == 0, weights, torch.lerp(weights, self.averages, self.smoothing)))
        return objective + ((self.averages - weights) * step.losses).sum(-1)


def smoothed(cls: type[Strategy], name: str, hyper: Mapping[str, Parameter]) -> type[Strategy]:
    """The strategy `smooth:NAME` for a strategy and its hyper-parameters; a UserError if one is called `smoothing`."""
    if "smoothing" in hyper:
        raise UserError(f"smooth:{name}: {name} already has a hyper-parameter smoothing")
    shape, smoothing, _ = inspect.signature(Smoothed).parameters.values()
    described = "".join(f"\n    {key}: as for `{name}`." for key in hyper)
    contents: dict[str, object] = {
        "__doc__": f"{inspect.getdoc(Smoothed)}{described}",
        "__signature__": Signature([shape, smoothing, *hyper.values()]),
        "name": f"smooth:{name}",
        "inner_class": cls,
        **{key: getattr(cls, key) for key in (*OF_INSTANCE, *OF_CLASS)},
        **{hook: _passed_on(hook) for hook in HOOKS if cls.overrides(hook)},
    }
    return typing.cast("type[Strategy]", type(Smoothed.__name__, (Smoothed,), contents))


def _passed_on(hook: str) -> Callable[..., None]:
    def call(self: Smoothed, *arguments: object) -> None:
        getattr(self.inner, hook)(*arguments)

    return call
