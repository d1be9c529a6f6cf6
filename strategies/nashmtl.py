"""Nash bargaining."""

from torch import Tensor

from mtlbench import Step, Strategy, register
from mtlbench.solvers import inverse_power_point


@register("nashmtl")
class NashMTL(Strategy):
    """The bargaining solution between the tasks: the direction that maximises sum_t log <d, g_t>.

    The weights w > 0 solve G w = 1 / w, element by element, so that w_t <d, g_t> = 1 for every task and |d|^2 = T.
    For two tasks w_t = 1 / (n_t sqrt(1 + cos)). Scaling a loss leaves the direction as it was. Opposite gradients
    have no solution; a ridge keeps their weights finite.

    Source: Navon, Shamsian, Achituve, Maron, Kawaguchi, Chechik & Fetaya, "Multi-Task Learning as a Bargaining
    Game", ICML 2022, claim 3.1 and algorithm 1.

    Deviations: the equation is solved by Newton's method in every step, to rounding. The official code approximates
    it by a sequence of linear problems, may update weights every k-th step only, and clips |d| at 1, which for a
    solution is always sqrt(T). TorchJD's port of it says that it has flaws: its linear problems fail for some gradients
    (one Gramian in ten of two tasks, most of eight, where lengths differ by orders of magnitude), and the weights stay
    as they were.

    Args:
        shape: (K, T).
    """

    def forward(self, step: Step) -> Tensor:
        return (inverse_power_point(step.gramian(), 1.0) * step.losses).sum(-1)
