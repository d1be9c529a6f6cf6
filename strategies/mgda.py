"""Multiple-gradient descent."""

from typing import Literal

from torch import Tensor

from mtlbench import Step, Strategy, register, require
from mtlbench.solvers import gradient_norms, inner_products, min_norm_point, reciprocal


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

    The official code (isl-org/MultiObjectiveOptimization, settings of `sample.json`) is
    `mgda:normalise='loss+',of=losses,gradients=representation,least=0.001,heads=weighted`. Of these, the paper has only
    the gradients with respect to the representation (MGDA-UB, section 3.3). It puts v, found for normalised gradients,
    on the losses as they are: with two tasks and `l2` that would be equal weights. Its line search ends at 0.001 and
    0.999. With three or more tasks it stops at a change of 1e-5, often away from the minimum, which is found here.

    Deviations elsewhere: LibMTL puts v on the normalised gradients, as here. TorchJD, which
    does not normalise, takes at most 100 steps of Frank and Wolfe: exact for two tasks, but for eight of very different
    lengths its vector was up to 20 times as long as the shortest.

    Args:
        shape: (K, T).
        normalise: s: `none`, `l2` (n), `loss` (L) or `loss+` (L n).
        of: what v weights: the `normalised` gradients, w_t = v_t / s_t, or the `losses` as they are, w_t = v_t.
        gradients: with respect to the `trunk`, or to the shared `representation` (MGDA-UB), which gives an upper bound
            and needs no backward pass through the trunk for each task.
        least: smallest v_t, >= 0 and < 1 / 2; v is raised to it and divided by its sum.
    """

    heads = "own"

    def __init__(
        self,
        shape: tuple[int, int],
        *,
        normalise: Literal["none", "l2", "loss", "loss+"] = "none",
        of: Literal["normalised", "losses"] = "normalised",
        gradients: Literal["trunk", "representation"] = "trunk",
        least: float = 0.0,
    ) -> None:
        super().__init__(shape)
        require(0 <= least < 0.5, "least must be >= 0 and < 0.5", least)
        self.normalise, self.of, self.gradients, self.least = normalise, of, gradients, least
        self.losses = "positive" if normalise in ("loss", "loss+") else "any"

    def forward(self, step: Step) -> Tensor:
        losses = step.losses.detach()
        if self.gradients == "trunk":
            gramian = step.gramian()
        else:
            rows = step.representation_gradients().flatten(2)  # [K, T, B * F]
            gramian = inner_products(rows, rows)
        norms = gradient_norms(gramian)
        unit = {"none": losses.new_ones(losses.shape), "l2": norms, "loss": losses, "loss+": losses * norms}
        inverse = reciprocal(unit[self.normalise])  # [K, T]
        shares = min_norm_point(gramian * inverse.unsqueeze(-1) * inverse.unsqueeze(-2), losses.dtype)
        shares = shares.clamp(self.least, 1 - self.least)
        shares = shares / shares.sum(-1, keepdim=True)
        return ((shares if self.of == "losses" else shares * inverse) * step.losses).sum(-1)
