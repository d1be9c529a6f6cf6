"""Methods on the losses as plain torch for one network of two tasks."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from tests.helpers.plain import Plain, PlainStep, Weighted, halves, zeros


class Fixed(Weighted):
    def __init__(self, weights: list[float]) -> None:
        self.weights = torch.tensor(weights, dtype=torch.float64)

    def weigh(self, step: PlainStep) -> Tensor:
        return self.weights


class Uncertainty(Plain):
    def __init__(self) -> None:
        self.s = nn.Parameter(zeros())

    def learned(self) -> list[nn.Parameter]:
        return [self.s]

    def objective(self, step: PlainStep) -> tuple[Tensor, Tensor | None]:
        return (step.losses / self.s.exp() + 0.5 * self.s).sum(), None


class UncertaintySoftmax(Weighted):
    def weigh(self, step: PlainStep) -> Tensor:
        return torch.softmax(1 / (20 * step.losses), 0)


class DWA(Weighted):
    def __init__(self) -> None:
        self.means: list[Tensor] = []

    def weigh(self, step: PlainStep) -> Tensor:
        if step.epoch < 2:
            return torch.ones(2, dtype=torch.float64)
        return 2 * torch.softmax(self.means[-1] / self.means[-2] / 2, 0)

    def epoch_end(self, mean_losses: Tensor) -> None:
        self.means.append(mean_losses)


class RLW(Weighted):
    def weigh(self, step: PlainStep) -> Tensor:
        radius = (-2 * torch.log1p(-step.drawn(0, 2))).sqrt()
        return torch.softmax(radius * torch.cos(2 * math.pi * step.drawn(1, 2)), 0)


class Dirichlet(Weighted):
    def weigh(self, step: PlainStep) -> Tensor:
        exponential = -torch.log1p(-step.drawn(0, 2))
        return exponential / exponential.sum()


class Geometric(Plain):
    def objective(self, step: PlainStep) -> tuple[Tensor, Tensor | None]:
        return step.losses.prod().sqrt(), None


class IMTLL(Plain):
    def __init__(self) -> None:
        self.s = nn.Parameter(zeros())

    def learned(self) -> list[nn.Parameter]:
        return [self.s]

    def objective(self, step: PlainStep) -> tuple[Tensor, Tensor | None]:
        return (self.s.exp() * step.losses - self.s).sum(), None


class FAMO(Plain):
    def __init__(self) -> None:
        self.xi = nn.Parameter(zeros())
        self.optimizer = torch.optim.Adam([self.xi], lr=0.025, weight_decay=1e-3)

    def objective(self, step: PlainStep) -> tuple[Tensor, Tensor | None]:
        z, distances = self.xi.detach().softmax(0), step.losses + 1e-8
        c = 1 / (z / distances.detach()).sum()
        return c * (z * distances.log()).sum(), None

    def after_update(self, step: PlainStep) -> None:
        gains = (step.losses + 1e-8).log() - (step.again() + 1e-8).log()
        self.optimizer.zero_grad()
        with torch.enable_grad():
            self.xi.softmax(0).backward(gains.detach())
        self.optimizer.step()


class STCH(Plain):
    def objective(self, step: PlainStep) -> tuple[Tensor, Tensor | None]:
        return (step.losses / 2).exp().sum().log(), None


class WarmedSTCH(Plain):
    def objective(self, step: PlainStep) -> tuple[Tensor, Tensor | None]:
        if step.epoch < 1:
            return step.losses.log().sum(), None
        return 2 * (step.losses / self.first).log().exp().sum().log(), None

    def epoch_end(self, mean_losses: Tensor) -> None:
        self.first = getattr(self, "first", mean_losses)


class GO4Align(Weighted):
    def __init__(self) -> None:
        self.p = halves()

    def weigh(self, step: PlainStep) -> Tensor:
        losses = step.losses.detach()
        self.p = self.p * torch.exp(-1e-4 * losses)
        self.p = self.p / self.p.sum()
        return self.p * losses.sum() / losses
