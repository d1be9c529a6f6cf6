"""Nash bargaining."""

import math

from torch import Tensor

from mtlbench import Step, Strategy, register, require
from mtlbench.solvers import clipped, inverse_power_point


@register("nashmtl")
class NashMTL(Strategy):
    """The bargaining solution between the tasks: the direction that maximises sum_t log <d, g_t>.

    The weights w > 0 solve G w = 1 / w, element by element, so that w_t <d, g_t> = 1 for every task and |d|^2 = T.
    For two tasks w_t = 1 / (n_t sqrt(1 + cos)). Scaling a loss leaves the direction as it was. Then weights are
    multiplied by the factor that brings |d| to `max_norm`, if it is above.

    A weight is about 1 / |g_t|, however small the gradient is: one that vanishes moves the trunk as far as the others.
    A gradient of exactly 0 gets weight 0. Opposite gradients have no solution; a ridge keeps their weights finite.

    Source: Navon, Shamsian, Achituve, Maron, Kawaguchi, Chechik & Fetaya, "Multi-Task Learning as a Bargaining
    Game", ICML 2022, claim 3.1 and algorithm 1; `max_norm` 1 is the default of the authors' code.

    Deviations: the equation is solved by Newton's method in every step, to rounding. The official code approximates
    it by a sequence of convex problems, which may stop far from the solution (on Fashion-MNIST with a gradient of 1e-9,
    at a weight 260 times too small), and may update weights every k-th step only. It solves for the Gramian divided by
    its norm, which multiplies weights by sqrt(|G|), and clips the trunk's gradient only, not those of the heads; to
    Adam, which divides by the gradient's size, a slowly changing factor is none. TorchJD's port of it says that it has
    flaws: its linear problems fail for some gradients (one Gramian in ten of two tasks, most of eight, where lengths
    differ by orders of magnitude), and the weights stay as they were.

    Args:
        shape: (K, T).
        max_norm: largest |d|, finite and >= 0; 0 for no limit.
    """

    def __init__(self, shape: tuple[int, int], *, max_norm: float = 1.0) -> None:
        super().__init__(shape)
        require(math.isfinite(max_norm) and max_norm >= 0, "max_norm must be finite and >= 0", max_norm)
        self.max_norm = max_norm

    def forward(self, step: Step) -> Tensor:
        gramian = step.gramian()
        precision = step.losses.dtype
        weights = clipped(inverse_power_point(gramian, 1.0, precision), gramian, self.max_norm, precision)
        return (weights * step.losses).sum(-1)
