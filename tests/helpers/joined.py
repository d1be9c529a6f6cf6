"""A small network in float64, and the gradients of any strategy on it by autograd of the definition."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mtlbench import Step, Strategy

TASKS = 3


class Joined(nn.Module):
    """A stem that all tasks use but is not declared as shared, a shared layer, and a head per task."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.trunk = self.stem_and_trunk()
        self.heads = nn.ModuleList(nn.Linear(6, 1) for _ in range(TASKS))
        self.x = torch.randn(7, 4)
        self.double()
        self.x = self.x.double()

    def stem_and_trunk(self) -> tuple[nn.Module, nn.Module]:
        return nn.Linear(4, 5), nn.Sequential(nn.Linear(5, 6), nn.ReLU())

    def features(self, x: Tensor) -> Tensor:
        return self.trunk(self.stem(x).tanh())

    def losses(self, features: Tensor) -> list[Tensor]:
        return [(head(features) - t).square().mean() + 0.1 for t, head in enumerate(self.heads)]

    def vector(self, features: Tensor) -> Tensor:
        outputs = torch.cat([head(features) for head in self.heads], 1)  # [B, T]
        return (outputs - torch.arange(TASKS)).square().mean(0) + 0.1

    def gradients(self) -> dict[str, Tensor | None]:
        return {name: parameter.grad for name, parameter in self.named_parameters()}


class Definition:
    """The signals of a step, one backward pass from each of a list of losses."""

    def __init__(self, net: Joined) -> None:
        self.net, self.trunk = net, list(net.trunk.parameters())
        self.features = net.features(net.x)
        self.losses = net.losses(self.features)

    def rows(self, losses: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
        gradients = [torch.autograd.grad(loss, wanted, retain_graph=True) for loss in losses]
        return torch.stack([torch.cat([real(part) for part in row]) for row in gradients])

    def jacobian(self) -> Tensor:
        return self.rows(self.losses, self.trunk).unsqueeze(0)

    def gramian(self, *, last: bool = False) -> Tensor:
        layers = list(self.net.trunk.modules())
        trained = [layer for layer in layers if any(weight.dim() > 1 for weight in layer.parameters(recurse=False))]
        rows = self.rows(self.losses, list(trained[-1].parameters()) if last else self.trunk).unsqueeze(0)
        return rows @ rows.mT

    def independent_gramian(self) -> Tensor:
        further = self.net.losses(self.net.features(self.net.x.flip(1)))
        rows = self.rows(further, self.trunk).unsqueeze(0)
        return rows @ rows.mT

    def representation_gradients(self) -> Tensor:
        rows = self.rows(self.losses, [self.features]).view(TASKS, *self.features.shape)
        return (rows * (self.features != 0)).unsqueeze(0)

    def gradients(self, strategy: Strategy) -> tuple[Tensor, dict[str, Tensor]]:
        """The effective weights, and the gradient of each parameter."""
        zero, values = torch.zeros((), dtype=torch.int64), torch.stack(self.losses).detach().unsqueeze(0)
        step = Step(values.requires_grad_(), self, index=zero, epoch=zero, seeds=torch.zeros(1, dtype=torch.int64))
        (weights,) = torch.autograd.grad(strategy(step).sum(), step.losses)
        total = (weights[0] * torch.stack(self.losses)).sum()
        of_heads = torch.stack(self.losses).sum() if strategy.heads == "own" else total
        expected = {
            name: torch.autograd.grad(of_heads if "heads" in name else total, parameter, retain_graph=True)[0]
            for name, parameter in self.net.named_parameters()
        }
        names = [f"trunk.{name}" for name, _ in self.net.trunk.named_parameters()]
        if step.direction is not None:
            parts = step.direction[0].split([real(parameter).numel() for parameter in self.trunk])
            expected |= zip(names, map(like, parts, self.trunk), strict=True)
        elif step.representation_direction is not None:
            cotangent = step.representation_direction[0].view_as(self.features)
            through = torch.autograd.grad(self.features, self.trunk, cotangent, retain_graph=True)
            beside = (weights[0] * torch.stack(self.net.losses(self.features.detach()))).sum()
            rest = torch.autograd.grad(beside, self.trunk, materialize_grads=True, allow_unused=True)
            expected |= {name: one.to_dense() + other for name, one, other in zip(names, through, rest, strict=True)}
        return weights[0], expected


def real(tensor: Tensor) -> Tensor:
    """The real numbers of a gradient, flat."""
    dense = tensor.to_dense() if tensor.is_sparse else tensor
    return (torch.view_as_real(dense) if dense.is_complex() else dense).flatten()


def like(numbers: Tensor, parameter: Tensor) -> Tensor:
    """The inverse of `real`."""
    if not parameter.is_complex():
        return numbers.view_as(parameter)
    return torch.view_as_complex(numbers.view(*parameter.shape, 2).contiguous())
