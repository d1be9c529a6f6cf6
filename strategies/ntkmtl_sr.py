"""Balancing by the neural tangent kernel, at the shared representation."""

import math
from typing import Annotated

import torch
from torch import Tensor

from mtlbench import Integers, Step, Strategy, Uniform, register, require
from mtlbench.solvers import lengths_of, reciprocal


@register("ntkmtl-sr")
class NTKMTLSR(Strategy):
    """More weight to tasks that converge slowly, judged by the kernel of their losses at the shared representation.

    The batch is cut into parts of equal size, the last of which may be shorter. With z the representation of the batch
    and l_ti the mean loss of task t over part i, lambda_t is the largest eigenvalue of the matrix of the products
    <dl_ti / dz, dl_tj / dz>, and w_t = (sum_s lambda_s / lambda_t)^p. A sample's loss depends on its own row of z only,
    so the matrix is diagonal, and lambda_t = max_i |dl_ti / dz|^2. A task whose gradient is zero gets the weight of
    equal eigenvalues, T^p.

    Source: Qin, Wang, Liao & Yan, "NTKMTL: Mitigating Task Imbalance in Multi-Task Learning from Neural Tangent Kernel
    Perspective", NeurIPS 2025, NTKMTL-SR; defaults are those of the authors' code (2 parts for NYUv2).

    Deviations: the entries of dl / dz where the ReLU of z is off count as 0; in the authors' code they count. Its loss
    is the mean over parts, in which a shorter last part has the same weight as the others.

    Args:
        shape: (K, T).
        parts: n, number of parts of a batch, >= 1; a part has ceil(B / n) samples.
        power: p, finite and >= 0.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        *,
        parts: Annotated[int, Integers(1, 8)] = 4,
        power: Annotated[float, Uniform(0.25, 1)] = 0.5,
    ) -> None:
        super().__init__(shape)
        require(parts >= 1, "parts must be >= 1", parts)
        require(math.isfinite(power) and power >= 0, "power must be finite and >= 0", power)
        self.parts, self.power = parts, power

    def forward(self, step: Step) -> Tensor:
        gradients = step.representation_gradients()  # [K, T, B, F]
        batch = gradients.shape[2]
        # The mean over a part has B / size times the gradient that the mean over the batch has by its rows.
        lengths = [
            batch / part.shape[2] * lengths_of(part.flatten(2))  # [K, T]
            for part in gradients.split(math.ceil(batch / self.parts), dim=2)
        ]
        largest = torch.stack(lengths).amax(0)  # [K, T], sqrt(lambda)
        total = largest.square().sum(-1, keepdim=True).sqrt()
        ratios = torch.where(largest > 0, total * reciprocal(largest), math.sqrt(self.shape[1]))
        return (ratios ** (2 * self.power) * step.losses).sum(-1)
