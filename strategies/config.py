"""Conflict-free training."""

from torch import Tensor

from mtlbench import Step, Strategy, register
from mtlbench.solvers import equiangular_weights, reciprocal


@register("config")
class ConFIG(Strategy):
    """The direction at equal angles to all task gradients, as long as their projections onto it together.

    With C the cosines between the gradients and v = N^-1 C^-1 1, u = sum_t v_t g_t makes <u, g_t> / n_t = 1 for every
    task; d = u / |u| sum_t <g_t, u / |u|>. So w = v sum_t (G v)_t / (1' C^-1 1). Opposite gradients have no such
    direction and get weight 0.

    Source: Liu, Chu & Thuerey, "ConFIG: Towards Conflict-free Training of Physics Informed Neural Networks", ICLR
    2025.

    Args:
        shape: (K, T).
    """

    heads = "own"

    def forward(self, step: Step) -> Tensor:
        gramian = step.gramian()
        v = equiangular_weights(gramian, step.losses.dtype)  # [K, T]
        projections = (gramian @ v.unsqueeze(-1)).squeeze(-1)  # [K, T], <u, g_t>
        square = (v * projections).sum(-1)  # [K], |u|^2
        weights = v * (projections.sum(-1) * reciprocal(square)).unsqueeze(-1)
        return (weights * step.losses).sum(-1)
