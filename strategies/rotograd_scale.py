"""RotoGrad without its rotations."""

import torch
from torch import Tensor

from mtlbench import Step, Strategy, register, require
from mtlbench.solvers import lengths_of, reciprocal


@register("rotograd-scale")
class RotoGradScale(Strategy):
    """Task gradients of equal length at the shared representation: the scaling half of RotoGrad.

    With n_t the length of dL_t / dz, z the representation of the whole batch, and a_t the share of n_t / n_t(0) in
    their sum over tasks, w_t = sum_s a_s n_s / n_t: all gradients get the mean length in which the tasks count most
    whose gradients shrank least. n_t(0) is the length in the first step in which it is not 0, and again in step
    `burn_in`. A zero gradient gets weight 0.

    The other half of the method, a rotation of the representation before each head that is learned, changes the network
    and is not part of it.

    Source: Javaloy & Valera, "RotoGrad: Gradient Homogenization in Multitask Learning", ICLR 2022,
    gradient-magnitude homogenization; `burn_in` is that of the authors' code.

    Deviation: the entries of dL_t / dz where the ReLU of z is off count as 0; in the authors' code they count.

    Args:
        shape: (K, T).
        burn_in: the step that sets n_t(0) anew, >= 0; 0 is the first step only.
    """

    heads = "own"

    def __init__(self, shape: tuple[int, int], *, burn_in: int = 20) -> None:
        super().__init__(shape)
        require(burn_in >= 0, "burn_in must be >= 0", burn_in)
        self.burn_in = burn_in
        self.first_lengths: Tensor
        self.register_buffer("first_lengths", torch.zeros(shape))  # [K, T], 0 until there is one

    def forward(self, step: Step) -> Tensor:
        lengths = lengths_of(step.representation_gradients().flatten(2))  # [K, T]
        anew = (self.first_lengths == 0) | (step.index == self.burn_in)
        self.first_lengths.copy_(torch.where(anew, lengths, self.first_lengths))
        ratios = lengths * reciprocal(self.first_lengths)
        shares = ratios * reciprocal(ratios.sum(-1, keepdim=True))
        weights = (shares * lengths).sum(-1, keepdim=True) * reciprocal(lengths)
        return (weights * step.losses).sum(-1)
