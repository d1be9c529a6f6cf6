"""Fixed weights."""

from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor

from mtlbench import Step, Strategy, TaskWeights, register


@register("fixed")
class Fixed(Strategy):
    """Weighted sum of the losses with constant weights.

    Minimises sum_t w_t L_t. Equal weights of 1 are the reference that every other strategy is compared with.
    The weights are used as given, not normalised. (A common factor, such as the 1 / T of TorchJD's `Mean`,
    changes nothing under Adam but for its epsilon; it would under SGD.)

    Source: the definition; Kurin et al., NeurIPS 2022 ("unitary scalarization") argue for w = 1.

    Args:
        shape: (K, T).
        weights: T finite numbers >= 0, not all zero; None is 1 for each task.
    """

    def __init__(
        self, shape: tuple[int, int], *, weights: Annotated[Sequence[float] | None, TaskWeights()] = None
    ) -> None:
        super().__init__(shape)
        tasks = shape[1]
        chosen = torch.ones(tasks) if weights is None else torch.tensor(weights, dtype=torch.float64)
        if chosen.shape != (tasks,):
            raise ValueError(f"weights must be {tasks} numbers, one per task, not {len(chosen)}")
        if not (chosen.isfinite().all() and (chosen >= 0).all() and chosen.any()):
            raise ValueError(f"weights must be finite, >= 0 and not all zero, not {chosen.tolist()}")
        self.weights: Tensor
        self.register_buffer("weights", chosen.to(torch.get_default_dtype()).repeat(shape[0], 1))  # [K, T]

    def forward(self, step: Step) -> Tensor:
        return (self.weights * step.losses).sum(-1)
