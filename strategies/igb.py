"""Improvable gap balancing."""

import torch
from torch import Tensor

from mtlbench import Step, Strategy, register, require


@register("igb")
class ImprovableGapBalancing(Strategy):
    """More weight to the tasks whose loss is still large compared with an early epoch (IGBv1).

    Minimises sum_t v_t log L_t, v = T softmax(L_t / b_t) cut off from the gradient, so that w_t = v_t / L_t. b_t is the
    mean training loss of the last epoch of a warm-up, or the first after it that is not 0. Until then v = 1: a training
    of no more epochs is that of `si`. A loss of 0 gets weight 0.

    Source: Dai, Fei & Lu, "Improvable Gap Balancing for Multi-Task Learning", UAI 2023, the first of its two
    algorithms; two epochs of warm-up are the default of the authors' code (`base_epoch` 1, counted from 0).

    Args:
        shape: (K, T).
        warm_up: epochs, >= 1.
    """

    losses = "positive"

    def __init__(self, shape: tuple[int, int], *, warm_up: int = 2) -> None:
        super().__init__(shape)
        require(warm_up >= 1, "warm_up must be >= 1", warm_up)
        self.warm_up = warm_up
        self.base_losses: Tensor
        self.epochs: Tensor
        self.register_buffer("base_losses", torch.ones(shape))  # [K, T], b
        self.register_buffer("epochs", torch.zeros(()))

    def forward(self, step: Step) -> Tensor:
        numbers = torch.finfo(step.losses.dtype)
        gaps = torch.where(self.base_losses > 0, step.losses.detach() / self.base_losses, 1.0)  # [K, T]
        factors = self.shape[1] * gaps.clamp_max(numbers.max).softmax(-1)
        factors = torch.where(step.epoch < self.warm_up, 1.0, factors)
        return (factors * step.losses.clamp_min(numbers.tiny).log()).sum(-1)

    def epoch_end(self, mean_losses: Tensor) -> None:
        self.epochs += 1
        waits = (self.epochs <= self.warm_up) | (self.base_losses == 0)
        self.base_losses.copy_(torch.where(waits, mean_losses, self.base_losses))
