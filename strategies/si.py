"""Scale-invariant weighting."""

import torch
from torch import Tensor

from mtlbench import Step, Strategy, register


@register("si")
class ScaleInvariant(Strategy):
    """The sum of the logarithms of the losses, which does not depend on their scales (SI).

    Minimises sum_t log L_t, so that w_t = 1 / L_t: scaling a loss changes no gradient. It is `geometric` without its
    common factor, and `uncertainty` at the optimum of its noise, up to the factor 1/2. A loss of 0 gets weight 0.

    Source: Navon, Shamsian, Achituve, Maron, Kawaguchi, Chechik & Fetaya, "Multi-Task Learning as a Bargaining Game",
    ICML 2022, where it is a baseline (scale-invariant, SI), as in the authors' code.

    Args:
        shape: (K, T).
    """

    losses = "positive"

    def forward(self, step: Step) -> Tensor:
        return step.losses.clamp_min(torch.finfo(step.losses.dtype).tiny).log().sum(-1)
