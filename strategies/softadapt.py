"""SoftAdapt."""

import math
from typing import Annotated, Literal

import torch
from torch import Tensor

from mtlbench import LogUniform, Step, Strategy, register, require


@register("softadapt")
class SoftAdapt(Strategy):
    """More weight to the tasks whose loss falls least, or rises, from one epoch to the next.

    With the slope s_t, the difference between the mean training losses of the last two epochs, w_t is in proportion to
    exp(beta s_t) (`original`) or to f_t exp(beta s_t) (`weighted`), f_t the mean of both losses; the weights sum to 1.
    They are 1 in the first two epochs, when there is no slope: a training of two epochs is that of `fixed`. With
    `update=step`, slopes are differences to the loss of the step before, and weights are 1 in the first step only.

    Source: Heydari, Thompson & Mehmood, "SoftAdapt: Techniques for Adaptive Loss Weighting of Neural Networks with
    Multi-Part Loss Functions", arXiv 2019, section 3.1; beta, and an update after each epoch from the last two, are the
    defaults of the authors' package, whose README recommends the loss-weighted variant.

    Deviations elsewhere: PhysicsNeMo takes the softmax of L_t / L_t(previous step) times T, which is
    `relobralo:alpha=0`.

    Args:
        shape: (K, T).
        beta: sharpness, finite; > 0 favours the tasks that do worst, < 0 those that do best, 0 is no preference.
        variant: `weighted` or `original`.
        update: `epoch` or `step`.
    """

    losses = "positive"

    def __init__(
        self,
        shape: tuple[int, int],
        *,
        beta: Annotated[float, LogUniform(0.01, 10)] = 0.1,
        variant: Literal["weighted", "original"] = "weighted",
        update: Literal["epoch", "step"] = "epoch",
    ) -> None:
        super().__init__(shape)
        require(math.isfinite(beta), "beta must be finite", beta)
        self.beta, self.variant, self.update = beta, variant, update
        if update == "epoch":
            self.warm_up = 2
        if variant == "original":
            self.losses = "any"
        self.weights: Tensor
        self.last_losses: Tensor
        self.seen: Tensor
        self.register_buffer("weights", torch.ones(shape))  # [K, T]
        self.register_buffer("last_losses", torch.zeros(shape))  # [K, T]
        self.register_buffer("seen", torch.zeros(shape, dtype=torch.bool))  # [K, T]

    def forward(self, step: Step) -> Tensor:
        if self.update == "step":
            self._follow(step.losses.detach())
        return (self.weights * step.losses).sum(-1)

    def epoch_end(self, mean_losses: Tensor) -> None:
        if self.update == "epoch":
            self._follow(mean_losses)

    def _follow(self, losses: Tensor) -> None:
        """Weights from these losses and those before them, which they replace."""
        last = torch.where(self.seen, self.last_losses, losses)
        logits = self.beta * (losses - last)  # [K, T]
        if self.variant == "weighted":
            logits = logits + ((losses + last) / 2).clamp_min(torch.finfo(losses.dtype).tiny).log()
        self.weights.copy_(torch.where(self.seen.any(-1, keepdim=True), logits.softmax(-1), 1.0))
        self.last_losses.copy_(losses)
        self.seen.fill_(True)
