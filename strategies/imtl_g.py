"""Impartial multi-task learning, gradient balance."""

from torch import Tensor

from mtlbench import Step, Strategy, register
from mtlbench.solvers import impartial_weights


@register("imtl-g")
class IMTLG(Strategy):
    """The direction whose projections onto all task gradients are equal.

    <d, g_t> / n_t is the same for every task, d = sum_t w_t g_t, sum_t w_t = 1: w = G^-1 n over its sum, n the
    gradients' norms. For two tasks w = (n_2, n_1) / (n_1 + n_2). With three or more, weights may be negative; where the
    sum of G^-1 n is negative too, dividing by it turns the direction round, against all gradients (`config`, with the
    same projections, never does), and where it is 0 the weights are 0.

    Source: Liu, Li, Kuang, Xue, Chen, Yang, Liao & Zhang, "Towards Impartial Multi-Task Learning", ICLR 2021,
    gradient balance.

    Args:
        shape: (K, T).
    """

    heads = "own"

    def forward(self, step: Step) -> Tensor:
        return (impartial_weights(step.gramian(), step.losses.dtype) * step.losses).sum(-1)
