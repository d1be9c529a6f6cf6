"""Dynamic weight average."""

import math
from typing import Annotated

import torch
from torch import Tensor

from mtlbench import LogUniform, Step, Strategy, register, require


@register("dwa")
class DynamicWeightAverage(Strategy):
    """More weight to the tasks whose loss fell least over the last epoch.

    w = T softmax(r / tau), r_t the mean training loss of task t over the last epoch divided by that of the epoch
    before; w = 1 in the first two epochs, when there is no such ratio: a training of two epochs is that of `fixed`. The
    ratio to a mean of 0 is 1.

    Source: Liu, Johns & Davison, "End-to-End Multi-Task Learning with Attention", CVPR 2019, dynamic weight average;
    tau = 2 is the paper's, and the default of the authors' code.

    Deviations elsewhere: Nash-MTL's and FAMO's code takes means over 25 steps instead of epochs.

    Args:
        shape: (K, T).
        tau: temperature, finite and > 0; large is equal weights.
    """

    losses = "positive"
    warm_up = 2

    def __init__(self, shape: tuple[int, int], *, tau: Annotated[float, LogUniform(0.5, 8)] = 2.0) -> None:
        super().__init__(shape)
        require(math.isfinite(tau) and tau > 0, "tau must be finite and > 0", tau)
        self.tau = tau
        self.weights: Tensor
        self.last_means: Tensor
        self.register_buffer("weights", torch.ones(shape))  # [K, T]
        self.register_buffer("last_means", torch.zeros(shape))  # [K, T]

    def forward(self, step: Step) -> Tensor:
        return (self.weights * step.losses).sum(-1)

    def epoch_end(self, mean_losses: Tensor) -> None:
        ratios = torch.where(self.last_means > 0, mean_losses / self.last_means, 1.0)  # [K, T]
        logits = (ratios / self.tau).clamp_max(torch.finfo(ratios.dtype).max)
        self.weights.copy_(self.shape[1] * logits.softmax(-1))
        self.last_means.copy_(mean_losses)
