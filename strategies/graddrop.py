"""Gradient sign dropout."""

from typing import Annotated

import torch
from torch import Tensor

from mtlbench import Step, Strategy, Uniform, register, require


@register("graddrop")
class GradDrop(Strategy):
    """At each feature of the shared representation one sign is drawn, and the gradients of the other are dropped.

    With g_t the gradient of L_t by a feature, summed over the batch, P = (1 + sum_t g_t / sum_t |g_t|) / 2 is the
    share of positive gradient. One uniform u is drawn for each feature: where u < P the tasks with g_t > 0 are kept,
    where u > P those with g_t < 0; a dropped gradient still passes with the factor `leak`. What is kept is summed over
    tasks and passed on to the trunk. Features are behind a ReLU, so they are >= 0 and no sign of theirs has to be
    taken into account in the sum over the batch.

    It is no weighting of losses: the recorded weights are those of the heads, 1.

    Source: Chen, Ngiam, Huang, Luong, Kretzschmar, Chai & Anguelov, "Just Pick a Sign: Optimizing Deep Multitask
    Models with Gradient Sign Dropout", NeurIPS 2020, algorithm 1.

    As in the paper, what is kept is not scaled up for what is dropped, unlike in dropout.

    Deviations elsewhere: by default (`keep_gradnorm_constant`), the authors' code in tensorflow/lingvo scales what is
    kept to the length of the sum of all gradients. TorchJD drops in the same way as here, but what it is given, and so
    what `torchjd:GradDrop` drops, are the gradients by the shared parameters.

    Args:
        shape: (K, T).
        leak: >= 0 and <= 1; 1 is the plain sum.
    """

    def __init__(self, shape: tuple[int, int], *, leak: Annotated[float, Uniform(0, 1)] = 0.0) -> None:
        super().__init__(shape)
        require(0 <= leak <= 1, "leak must be >= 0 and <= 1", leak)
        self.leak = leak

    def forward(self, step: Step) -> Tensor:
        gradients = step.representation_gradients()  # [K, T, B, F]
        summed = gradients.sum(2)  # [K, T, F]
        tiny = torch.finfo(summed.dtype).tiny
        positive = (1 + summed.sum(1) / summed.abs().sum(1).clamp_min(tiny)) / 2  # [K, F]
        up = (step.rand(positive.shape[-1]) < positive).unsqueeze(1)  # [K, 1, F]
        kept = torch.where(up, summed > 0, summed < 0).to(summed.dtype)  # [K, T, F]
        factors = self.leak + (1 - self.leak) * kept
        step.descend_representation((factors.unsqueeze(2) * gradients).sum(1))
        return step.losses.sum(-1)
