"""Smooth Tchebycheff scalarization."""

import math
from typing import Annotated

import torch
from torch import Tensor

from mtlbench import LogUniform, Step, Strategy, register, require


@register("stch")
class SmoothTchebycheff(Strategy):
    """A smooth maximum of the losses: the worst task leads, the others count as mu allows.

    Minimises sum_t log L_t for `warm_up` epochs, like `si`, and after them T mu log sum_t exp(log(L_t / m_t) / mu), m_t
    the mean loss of the last of those epochs. A mean of 0 does not count; until a task has one, its L_t / m_t is 1. A
    loss of 0 gets weight 0. With `warm_up=0` it is the definition instead,
    for losses of one scale: mu log sum_t exp(lambda_t (L_t - z) / mu) with equal preferences lambda_t = 1 / T and ideal
    point z. A training of no more than `warm_up` epochs is that of `si`; use `warm_up=1` for short ones.

    Source: Lin, Zhang, Yang, Liu, Wang & Zhang, "Smooth Tchebycheff Scalarization for Multi-Objective
    Optimization", ICML 2024; mu and warm_up are those with which the authors' multi-task code trains on NYUv2,
    Office-31 and QM9.

    Deviation in counting: the authors' and LibMTL's `STCH_warmup_epoch` counts all epochs of the warm-up but the last;
    their 4 is 5 here.

    Args:
        shape: (K, T).
        mu: smoothness, finite and > 0; towards 0 it is the maximum, large it is the mean.
        ideal: z, a lower bound of every loss, finite; only for `warm_up=0`.
        warm_up: epochs, >= 0; 0 is the definition.
    """

    losses = "positive"

    def __init__(
        self,
        shape: tuple[int, int],
        *,
        mu: Annotated[float, LogUniform(0.1, 10)] = 1.0,
        ideal: float = 0.0,
        warm_up: int = 5,
    ) -> None:
        super().__init__(shape)
        require(math.isfinite(mu) and mu > 0, "mu must be finite and > 0", mu)
        require(math.isfinite(ideal), "ideal must be finite", ideal)
        require(warm_up >= 0, "warm_up must be >= 0", warm_up)
        self.mu, self.ideal, self.warm_up = mu, ideal, warm_up
        if not warm_up:
            self.losses = "any"
        self.last_means: Tensor
        self.epochs: Tensor
        self.register_buffer("last_means", torch.zeros(shape))  # [K, T]
        self.register_buffer("epochs", torch.zeros(()))

    def forward(self, step: Step) -> Tensor:
        if not self.warm_up:
            return self._smooth_maximum((step.losses - self.ideal) / self.shape[1])
        tiny = torch.finfo(step.losses.dtype).tiny
        logs = step.losses.clamp_min(tiny).log()  # [K, T]
        references = torch.where(self.last_means > 0, self.last_means.clamp_min(tiny).log(), logs.detach())
        warmed = self.shape[1] * self._smooth_maximum(logs - references)
        return torch.where(step.epoch < self.warm_up, logs.sum(-1), warmed)

    def epoch_end(self, mean_losses: Tensor) -> None:
        self.epochs += 1
        sets = (self.epochs <= self.warm_up) & (mean_losses > 0) | (self.last_means == 0)
        self.last_means.copy_(torch.where(sets, mean_losses, self.last_means))

    def _smooth_maximum(self, values: Tensor) -> Tensor:
        return self.mu * torch.logsumexp(values / self.mu, -1)
