"""Coefficient-of-variation weighting."""

import torch
from torch import Tensor

from mtlbench import Step, Strategy, register

SMALL = 1e-8


@register("cov")
class CoVWeighting(Strategy):
    """More weight to the tasks whose loss varies most, relative to its own mean (CoV-Weighting).

    With the loss ratio l_t = L_t / (mean of L_t over all steps before this one), and the mean m_t and the standard
    deviation s_t of l_t over all steps before this one, the weights are w = c / sum_s c_s, where c_t = s_t / m_t is the
    coefficient of variation. They sum to 1, and are equal in the first two steps of any
    task.

    Source: Groenendijk, Karaoglu, Gevers & Mensink, "Multi-Loss Weighting with Coefficient of Variations", WACV 2021,
    with full means, the default of the authors' code, where s_t is the root of the variance plus 1e-8, as here.

    Deviations: the ratio of a loss whose mean so far is 0 is 1, and ratios count as at most the fourth root of the
    largest number (4e9 in float32), so that their squares can be summed.

    Args:
        shape: (K, T).
    """

    losses = "positive"

    def __init__(self, shape: tuple[int, int]) -> None:
        super().__init__(shape)
        self.mean_losses: Tensor
        self.mean_ratios: Tensor
        self.squares: Tensor
        self.register_buffer("mean_losses", torch.ones(shape))  # [K, T]
        self.register_buffer("mean_ratios", torch.ones(shape))  # [K, T], m
        self.register_buffer("squares", torch.zeros(shape))  # [K, T], sum of squared distances from m

    def forward(self, step: Step) -> Tensor:
        losses = step.losses.detach()
        count = step.counts.to(losses.dtype)  # [K, T]
        known = torch.where(count == 0, losses, self.mean_losses)
        ratios = torch.where(known > 0, losses / known, 1.0)  # [K, T], l
        ratios = ratios.clamp_max(torch.finfo(losses.dtype).max ** 0.25)
        variations = (self.squares / count.clamp_min(1) + SMALL).sqrt() / self.mean_ratios  # [K, T], c
        shares = variations / variations.sum(-1, keepdim=True)
        weights = torch.where((count < 2).any(-1, keepdim=True), 1 / self.shape[1], shares)  # [K, T]
        # Welford's algorithm: the distance from the mean before and after this step.
        before = ratios - self.mean_ratios
        self.mean_ratios.copy_(torch.where(count == 0, ratios, self.mean_ratios + before / (count + 1)))
        self.squares.copy_(torch.where(count == 0, 0.0, self.squares + before * (ratios - self.mean_ratios)))
        self.mean_losses.copy_(torch.where(count == 0, losses, known + (losses - known) / (count + 1)))
        return (weights * step.losses).sum(-1)
