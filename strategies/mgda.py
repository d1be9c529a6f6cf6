"""Multiple-gradient descent."""

from typing import Literal

from torch import Tensor

from mtlbench import Step, Strategy, register
from mtlbench.solvers import gradient_norms, min_norm_point, reciprocal


@register("mgda")
class MGDA(Strategy):
    """The shortest vector in the convex hull of the task gradients.

    v = argmin over the simplex of |sum_t v_t g_t / s_t|, and w_t = v_t / s_t: the direction d = sum_t w_t g_t has
    <d, g_t / s_t> >= |d|^2 for every task, so that none gets worse, and is 0 only where no direction is good for all.
    The lengths s say in which units gradients are compared: 1, their norms n, the losses L, or L n.

    Expect a low score of a task with large gradients: the shortest vector lies near the smallest gradient, and with
    s = 1 the larger gradient's task is starved.

    Source: Sener & Koltun, "Multi-Task Learning as Multi-Objective Optimization", NeurIPS 2018, eq. 3 and algorithm 2
    (two tasks in closed form); Désidéri, Comptes Rendus Mathématique 2012.

    Deviations elsewhere: the official code puts v, found for normalised gradients, on the losses as they are; with
    two tasks and `l2` that would be equal weights. LibMTL puts it on the normalised gradients, as here. TorchJD, which
    does not normalise, takes at most 100 steps of Frank and Wolfe: exact for two tasks, but for eight of very different
    lengths its vector was up to 20 times as long as the shortest.

    Args:
        shape: (K, T).
        normalise: s: `none`, `l2` (n), `loss` (L) or `loss+` (L n).
    """

    heads = "own"

    def __init__(self, shape: tuple[int, int], *, normalise: Literal["none", "l2", "loss", "loss+"] = "none") -> None:
        super().__init__(shape)
        self.normalise = normalise
        self.losses = "positive" if normalise in ("loss", "loss+") else "any"

    def forward(self, step: Step) -> Tensor:
        gramian, losses = step.gramian(), step.losses.detach()
        norms = gradient_norms(gramian)
        unit = {"none": losses.new_ones(losses.shape), "l2": norms, "loss": losses, "loss+": losses * norms}
        inverse = reciprocal(unit[self.normalise])  # [K, T]
        shares = min_norm_point(gramian * inverse.unsqueeze(-1) * inverse.unsqueeze(-2))
        return (shares * inverse * step.losses).sum(-1)
