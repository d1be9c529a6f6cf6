"""GradNorm."""

import math
from typing import Annotated

import torch
from torch import Tensor, nn

from mtlbench import LogUniform, Step, Strategy, Uniform, register


@register("gradnorm")
class GradNorm(Strategy):
    """Weights trained to bring the tasks' gradient norms in line with their training rates.

    With n_t the norm of task t's gradient at the last shared layer (weight and bias), G_t = w_t n_t and the relative
    inverse training rate r_t = (L_t / L_t(0)) / mean_s(L_s / L_s(0)), the weights minimise
    sum_t |G_t - mean(G) r_t^alpha|, the target mean(G) r_t^alpha being cut off from the gradient, while the network
    minimises sum_t w_t L_t. After each update the weights are renormalised to sum T.

    Source: Chen, Badrinarayanan, Lee & Rabinovich, "GradNorm", ICML 2018, eq. 1-2 and algorithm 1;
    alpha 1.5 is the paper's for NYUv2 (0.12 for its toy problem), 0.025 its learning rate of the weights.
    L(0) is the loss of the first step, as the paper describes it, or the first that is not 0.

    Deviations: a weight that the update takes below `floor` is set to it, since the paper does not say how
    weights stay positive. LibMTL instead takes softmax weights, the norm over all shared layers, an unweighted
    first epoch and its mean as L(0).

    Args:
        shape: (K, T).
        alpha: strength of the pull towards equal training rates, finite and >= 0.
        lr: learning rate of the weights, finite and > 0.
        floor: smallest weight before renormalisation, > 0 and < 1.
    """

    family = "gradient-norm"
    losses = "positive"

    def __init__(
        self,
        shape: tuple[int, int],
        *,
        alpha: Annotated[float, Uniform(0, 3)] = 1.5,
        lr: Annotated[float, LogUniform(2.5e-3, 0.25)] = 0.025,
        floor: float = 1e-3,
    ) -> None:
        super().__init__(shape)
        if not (math.isfinite(alpha) and alpha >= 0):
            raise ValueError(f"alpha must be finite and >= 0, not {alpha}")
        if not (math.isfinite(lr) and lr > 0):
            raise ValueError(f"lr must be finite and > 0, not {lr}")
        if not 0 < floor < 1:
            raise ValueError(f"floor must lie between 0 and 1, not {floor}")
        self.alpha, self.lr, self.floor = alpha, lr, floor
        self.weights = nn.Parameter(torch.ones(shape))  # [K, T]
        self.first_losses: Tensor
        self.register_buffer("first_losses", torch.zeros(shape))  # [K, T], 0 until there is one

    def forward(self, step: Step) -> Tensor:
        squares = step.gramian(last=True).diagonal(dim1=-2, dim2=-1)  # [K, T]
        losses = step.losses.detach()
        self.first_losses.copy_(torch.where(self.first_losses > 0, self.first_losses, losses))
        tiny = torch.finfo(losses.dtype).tiny
        progress = torch.where(self.first_losses > 0, losses / self.first_losses, 1.0)  # [K, T]
        rates = progress / progress.mean(-1, keepdim=True).clamp_min(tiny)  # [K, T]
        weighted_norms = self.weights * squares.clamp_min(0).sqrt()  # [K, T]
        target = (weighted_norms.mean(-1, keepdim=True) * rates**self.alpha).detach()  # [K, T]
        balance = (weighted_norms - target).abs().sum(-1)  # [K]
        return (self.weights.detach() * step.losses).sum(-1) + balance

    def project(self) -> None:
        self.weights.clamp_(min=self.floor)
        self.weights.mul_(self.shape[1] / self.weights.sum(-1, keepdim=True))
