"""Group optimization for multi-task alignment."""

import math
from typing import Annotated

import torch
from torch import Tensor

from mtlbench import Integers, LogUniform, Step, Strategy, register, require


@register("go4align")
class GO4Align(Strategy):
    """Tasks of similar risk share one weight, so that groups of tasks learn at the same pace.

    An indicator p on the simplex is multiplied by exp(-beta L) and normalised in every step, and scaled by each
    task's share of the risk: u_t = p_t sum_s L_s / L_t. Tasks are clustered by u with K-means into `groups`, and the
    weight of a task is the mean of u over its group: sum_t w_t L_t is minimised. In one dimension the best clusters
    are intervals of the sorted values; they are found exactly, by dynamic programming.

    Source: Shen, Wang, Xiao, van Noord & Worring, "GO4Align: Group Optimization for Multi-Task Alignment", NeurIPS
    2024, section 3 and the authors' code, whose step size of 1e-4 is the default here. With two tasks in two groups
    it is u itself.

    Deviations: the authors' trainer has one group unless it is told otherwise, which weighs all tasks alike. Their
    K-means starts at random centres and may end in a poorer clustering. A loss counts as at least eps^2 of their sum
    (eps the rounding of a number, 1e-7 in float32), so that a loss of 0 has a finite weight.

    Args:
        shape: (K, T).
        groups: number of groups, >= 1; more than T is T.
        beta: step size of the indicator, finite and >= 0.
    """

    losses = "positive"

    def __init__(
        self,
        shape: tuple[int, int],
        *,
        groups: Annotated[int, Integers(1, 4)] = 2,
        beta: Annotated[float, LogUniform(1e-5, 1)] = 1e-4,
    ) -> None:
        super().__init__(shape)
        require(groups >= 1, "groups must be >= 1", groups)
        require(math.isfinite(beta) and beta >= 0, "beta must be finite and >= 0", beta)
        self.groups, self.beta = min(groups, shape[1]), beta
        self.indicator: Tensor
        self.register_buffer("indicator", torch.ones(shape))  # [K, T], T p

    def forward(self, step: Step) -> Tensor:
        numbers = torch.finfo(step.losses.dtype)
        losses = step.losses.detach().clamp_min(numbers.tiny)
        losses = losses.maximum(numbers.eps**2 * losses.sum(-1, keepdim=True))
        indicator = self.indicator.clamp_min(numbers.tiny)
        moved = (indicator.log() - self.beta * losses).softmax(-1)  # [K, T]
        self.indicator.copy_(moved * indicator.sum(-1, keepdim=True))  # absent tasks keep their shares
        weights = self._group_means(moved * losses.sum(-1, keepdim=True) / losses)
        return (weights * step.losses).sum(-1)

    def _group_means(self, values: Tensor) -> Tensor:
        """Each value replaced by the mean of its cluster, `[K, T]`."""
        tasks = values.shape[-1]
        ordered, order = values.sort(dim=-1)
        positions = torch.arange(tasks, device=values.device)
        inside = (positions[:, None, None] <= positions) & (positions <= positions[None, :, None])  # [T, T, T]
        inside = inside.to(values.dtype)  # from i to j: which positions
        sizes = inside.sum(-1).clamp_min(1)  # [T, T]
        means = (inside * ordered[:, None, None]).sum(-1) / sizes  # [K, T, T]
        costs = (inside * (ordered[:, None, None] - means.unsqueeze(-1)).square()).sum(-1)
        costs = costs.masked_fill(positions[:, None] > positions, math.inf)  # [K, T, T]
        # filled[j]: each value up to j replaced by its cluster's mean, at the least cost best[j].
        best, filled = costs[:, 0], means[:, 0].unsqueeze(-1) * inside[0]  # [K, T], [K, T, T]
        for _ in range(min(self.groups, tasks) - 1):
            joined = best[:, :-1].unsqueeze(-1) + costs[:, 1:]  # [K, T - 1, T], the last cluster from i + 1 to j
            least, cut = joined.min(1)  # [K, T]
            better = least < best
            start = (cut + 1).clamp_max(tasks - 1)
            last = means.gather(1, start.unsqueeze(1)).squeeze(1).unsqueeze(-1) * inside[start, positions]
            before = filled.gather(1, cut.unsqueeze(-1).expand(-1, -1, tasks))
            filled = torch.where(better.unsqueeze(-1), before + last, filled)
            best = torch.where(better, least, best)
        return torch.empty_like(values).scatter_(-1, order, filled[:, -1])
