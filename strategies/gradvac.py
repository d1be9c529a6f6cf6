"""Gradient vaccine."""

from typing import Annotated

import torch
from torch import Tensor

from mtlbench import LogUniform, Step, Strategy, register, require
from mtlbench.solvers import reciprocal


@register("gradvac")
class GradVac(Strategy):
    """Each task gradient is turned towards every other until their cosine reaches the usual one of that pair.

    Row i of C starts as the i-th unit vector, its gradient h = sum_s C_is g_s. For the other tasks j in random order,
    with phi the cosine of h and g_j and p_ij its moving average: where phi < p_ij,
    C_ij += |h| (p sqrt(1 - phi^2) - phi sqrt(1 - p^2)) / (|g_j| sqrt(1 - p^2)), which makes the cosine p_ij; then
    p_ij <- (1 - beta) p_ij + beta phi, whether phi < p_ij or not. The direction is the sum of the rows' gradients. With
    p = 0 it is PCGrad.

    Source: Wang, Tsvetkov, Firat & Cao, "Gradient Vaccine: Investigating and Improving Multi-task Optimization in
    Massively Multilingual Models", ICLR 2021, algorithm 1; over all trunk parameters at once.

    Deviations elsewhere: LibMTL and TorchJD take beta = 0.5.

    Args:
        shape: (K, T).
        beta: decay of the moving average, >= 0 and <= 1.
    """

    heads = "own"

    def __init__(self, shape: tuple[int, int], *, beta: Annotated[float, LogUniform(1e-3, 1)] = 0.01) -> None:
        super().__init__(shape)
        require(0 <= beta <= 1, "beta must be >= 0 and <= 1", beta)
        self.beta = beta
        self.usual: Tensor
        self.register_buffer("usual", torch.zeros(shape[0], shape[1], shape[1]))  # [K, T, T], p

    def forward(self, step: Step) -> Tensor:
        gramian, tasks = step.gramian(), self.shape[1]
        inverse = reciprocal(gramian.diagonal(dim1=-2, dim2=-1).clamp_min(0).sqrt()).unsqueeze(1)  # [K, 1, T]
        own = torch.eye(tasks, device=gramian.device, dtype=gramian.dtype)
        rows, usual = own.expand_as(gramian), self.usual.clone()  # [K, T, T]
        order = step.rand(tasks, tasks).argsort(-1)  # [K, T, T], each row's own
        for turn in range(tasks):
            chosen = own[order[..., turn]] * (1 - own)  # [K, T, T], one other task, or none for the row's own
            products = rows @ gramian  # <h_i, g_j>
            length = (products * rows).sum(-1, keepdim=True).clamp_min(0).sqrt()  # [K, T, 1], |h_i|
            cosine = (products * reciprocal(length) * inverse).clamp(-1, 1)
            sine, wanted = (1 - cosine.square()).sqrt(), (1 - usual.square()).sqrt()
            turned = length * inverse * (usual * sine - cosine * wanted) * reciprocal(wanted)
            rows = rows + chosen * torch.where(cosine < usual, turned, 0.0)
            usual = usual + chosen * self.beta * (cosine - usual)
        self.usual.copy_(usual)
        return (rows.sum(1) * step.losses).sum(-1)
