"""Aligned multi-task learning."""

from typing import Literal

import torch
from torch import Tensor

from mtlbench import Step, Strategy, register
from mtlbench.solvers import eigen, reciprocal


@register("aligned-mtl")
class AlignedMTL(Strategy):
    """Gradients made orthogonal and of one length before they are averaged.

    The nearest system of gradients with condition number 1: with G = V diag(l) V', B = sqrt(l_0) V diag(l^-1/2) V'
    over the non-zero part of the spectrum, and w = B p, p = 1 / T. Then B G B = l_0 I on the range of G, so that no
    combination dominates or conflicts. l_0 is the smallest non-zero eigenvalue; median and mean are the variants of
    the authors' code.

    Source: Senushkin, Patakin, Kuznetsov & Konushin, "Independent Component Alignment for Multi-Task Learning",
    CVPR 2023, algorithm 1.

    Deviation: in the authors' code p is 1, a common factor.

    An eigenvalue counts as zero below T times the rounding of the largest. TorchJD calls the mean `rmse`.

    Args:
        shape: (K, T).
        scale: l_0: `min`, `median` (the lower one of an even number) or `mean` of the non-zero eigenvalues.
    """

    heads = "own"

    def __init__(self, shape: tuple[int, int], *, scale: Literal["min", "median", "mean"] = "min") -> None:
        super().__init__(shape)
        self.scale = scale

    def forward(self, step: Step) -> Tensor:
        gramian, tasks = step.gramian(), self.shape[1]
        values, vectors = eigen(gramian)  # [K, T], [K, T, T]
        rounding = tasks * torch.finfo(step.losses.dtype).eps
        there = values > rounding * values.amax(-1, keepdim=True)
        kept = values.masked_fill(~there, torch.nan)
        chosen = {
            "min": values.masked_fill(~there, torch.inf).amin(-1),
            "median": kept.nanmedian(-1).values,
            "mean": kept.nanmean(-1),
        }[self.scale]  # [K]
        ratios = chosen.unsqueeze(-1) * reciprocal(values.masked_fill(~there, 0.0))
        factors = torch.where(there, ratios, 0.0).sqrt()
        weights = vectors @ (factors.unsqueeze(-1) * vectors.mean(-2).unsqueeze(-1))  # [K, T, 1]
        return (weights.squeeze(-1) * step.losses).sum(-1)
