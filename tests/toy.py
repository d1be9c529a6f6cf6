"""Small setups and steps that tests train and weigh on, with no data set behind them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mtlbench.setups import Setup, Split, Task, binary, classification
from mtlbench.strategy import Step


def toy_setup(
    *,
    widths: tuple[int, ...] = (6, 5, 4),
    tasks: Sequence[Task] = (classification("digit", 3), binary("above_five")),
    size: int = 60,
    seed: int = 0,
) -> Setup:
    """Random inputs with learnable targets, float64, split into training, validation and test."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(3 * size, widths[0], generator=generator, dtype=torch.float64)
    classes = inputs[:, :3].argmax(-1)
    columns = [classes if task.columns > 1 else (classes > 0).long() for task in tasks]
    targets = torch.stack(columns, dim=-1)
    splits = [
        Split(inputs[part], targets[part]) for part in (slice(0, size), slice(size, 2 * size), slice(2 * size, None))
    ]
    return Setup(
        name="toy",
        about="random inputs",
        tasks=tuple(tasks),
        widths=widths,
        samples=lambda: (splits[0], splits[1]),
        test=lambda: splits[2],
        training_size=size,
    )


class GivenGradients:
    """Signals of a step made from a given Jacobian `[K, T, P]`.

    The representation has one sample and P features, whose gradients are the Jacobian; two further batches have the
    Jacobian and twice the Jacobian.
    """

    def __init__(self, jacobian: Tensor) -> None:
        self._jacobian = jacobian

    def gramian(self, *, last: bool = False) -> Tensor:
        return self._jacobian @ self._jacobian.mT

    def jacobian(self) -> Tensor:
        return self._jacobian

    def independent_gramian(self) -> Tensor:
        return self._jacobian @ (2 * self._jacobian).mT

    def representation_gradients(self) -> Tensor:
        return self._jacobian.unsqueeze(2)


def given_step(losses: Tensor, jacobian: Tensor | None = None, *, index: int = 0, epoch: int = 0) -> Step:
    """A step with these losses `[K, T]` and task gradients, and seeds 0 to K - 1."""
    if jacobian is None:
        jacobian = torch.zeros(*losses.shape, 1, dtype=losses.dtype)
    return Step(
        losses.detach().clone().requires_grad_(),
        GivenGradients(jacobian),
        index=torch.tensor(index),
        epoch=torch.tensor(epoch),
        seeds=torch.arange(len(losses)),
    )
