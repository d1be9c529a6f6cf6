"""Fast adaptive multitask optimization."""

import math
from typing import Annotated

import torch
from torch import Tensor

from mtlbench import LogUniform, Step, Strategy, register, require

BETAS = (0.9, 0.999)
SMALL = 1e-8


@register("famo")
class FAMO(Strategy):
    """Weights that make the logarithms of all losses fall at the same rate, from losses alone.

    With z = softmax(xi), D_t = L_t - b_t + 1e-8 and c = 1 / sum_t (z_t / D_t), cut off from the gradient, minimises
    c sum_t z_t log D_t, so that the weights w_t = c z_t / D_t sum to 1. After the update, with
    delta_t = log D_t(before) - log D_t(after) on the same batch, xi takes a step of Adam along (dz / dxi)' delta:
    the task that improved most loses weight. It costs one more forward pass.

    Source: Liu, Feng, Stone & Liu, "FAMO: Fast Adaptive Multitask Optimization", NeurIPS 2023, algorithm 1; lr and
    weight_decay are those of the authors' scripts for NYUv2, QM9 and CelebA (for Cityscapes, weight_decay=0.01).

    Args:
        shape: (K, T).
        lr: learning rate of xi, finite and > 0.
        weight_decay: of xi, finite and >= 0.
        least: b, a lower bound of every loss, finite.
    """

    losses = "positive"

    def __init__(
        self,
        shape: tuple[int, int],
        *,
        lr: Annotated[float, LogUniform(2.5e-3, 0.25)] = 0.025,
        weight_decay: Annotated[float, LogUniform(1e-4, 0.1)] = 1e-3,
        least: float = 0.0,
    ) -> None:
        super().__init__(shape)
        require(math.isfinite(lr) and lr > 0, "lr must be finite and > 0", lr)
        require(math.isfinite(weight_decay) and weight_decay >= 0, "weight_decay must be finite and >= 0", weight_decay)
        require(math.isfinite(least), "least must be finite", least)
        self.rate, self.weight_decay, self.least = lr, weight_decay, least
        if least < 0:
            self.losses = "any"
        self.logits: Tensor
        self.before: Tensor
        self.first_moment: Tensor
        self.second_moment: Tensor
        self.updates: Tensor
        for name in ("logits", "before", "first_moment", "second_moment", "updates"):
            self.register_buffer(name, torch.zeros(shape))  # [K, T]

    def forward(self, step: Step) -> Tensor:
        distances = self._distances(step.losses)  # [K, T]
        self.before.copy_(distances.detach())
        shares = self.logits.softmax(-1)
        total = (shares / self.before).sum(-1)  # [K]
        return (shares * distances.log()).sum(-1) / total

    def after_update(self, losses_after: Tensor) -> None:
        gains = self.before.log() - self._distances(losses_after).log()  # [K, T]
        shares = self.logits.softmax(-1)
        grad = shares * (gains - (shares * gains).sum(-1, keepdim=True)) + self.weight_decay * self.logits
        first, second = BETAS
        self.updates += 1
        self.first_moment.lerp_(grad, 1 - first)
        self.second_moment.lerp_(grad.square(), 1 - second)
        mean = self.first_moment / (1 - first**self.updates)
        spread = (self.second_moment / (1 - second**self.updates)).sqrt()
        self.logits -= self.rate * mean / (spread + SMALL)

    def _distances(self, losses: Tensor) -> Tensor:
        return (losses - self.least).clamp_min(0) + SMALL
