"""One network of two tasks in plain torch, trained by a method in plain torch: the reference for the stack."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from mtlbench.contracts.convolutions import Conv
from mtlbench.contracts.random_numbers import uniform
from mtlbench.contracts.setup import Setup, Split
from mtlbench.engine.trainer import FURTHER_BATCHES, Trainer


class PlainNetwork(nn.Module):
    """The setup's network for one seed, written with `nn.Linear` and `nn.Conv2d`."""

    def __init__(self, setup: Setup) -> None:
        super().__init__()
        widths = setup.widths
        convolved = setup.convolutions.each() if setup.convolutions else []
        self.trunk = nn.ModuleList(_convolution(conv, image) for conv, image in convolved)
        self.trunk.extend(nn.Linear(a, b) for a, b in pairwise(widths))
        self.heads = nn.ModuleList(nn.Linear(widths[-1], task.columns) for task in setup.tasks)
        self.double()

    def represent(self, x: Tensor) -> Tensor:
        for layer in self.trunk:
            x = torch.relu(layer(x))
        return x

    def forward(self, x: Tensor) -> list[Tensor]:
        shared = self.represent(x)
        return [head(shared) for head in self.heads]

    def flat(self) -> Tensor:
        return torch.cat([parameter.detach().flatten() for parameter in self.parameters()])


def _convolution(conv: Conv, image: tuple[int, int, int]) -> nn.Module:
    convolution = nn.Conv2d(image[0], conv.channels, conv.kernel)
    return nn.Sequential(nn.Unflatten(1, image), convolution, nn.MaxPool2d(conv.pool), nn.Flatten())


def start_like(network: PlainNetwork, trainer: Trainer, replica: int) -> None:
    """Give a plain network the parameters of one replica of a stack."""
    with torch.no_grad():
        theirs = [part[replica] for layer in trainer.network.trunk for part in (layer.weight, layer.bias)]
        for mine, start in zip(network.trunk.parameters(), theirs, strict=True):
            mine.copy_(start.view_as(mine))
        weights = trainer.network.split_outputs(trainer.network.heads.weight[replica].mT)
        biases = trainer.network.split_outputs(trainer.network.heads.bias[replica])
        for head, weight, bias in zip(network.heads, weights, biases, strict=True):
            assert isinstance(head, nn.Linear)
            head.weight.copy_(weight.mT)
            head.bias.copy_(bias)


def replica_flat(trainer: Trainer, replica: int, setup: Setup) -> Tensor:
    plain = PlainNetwork(setup)
    start_like(plain, trainer, replica)
    return plain.flat()


@dataclass
class PlainStep:
    """What a method sees in a step: `losses` and `representation` with their graphs, and functions to get more."""

    network: PlainNetwork
    seed: int
    index: int
    epoch: int
    losses: Tensor
    representation: Tensor
    again: Callable[[], Tensor]
    further: Callable[[int], Tensor]

    def jacobian(self, losses: Tensor | None = None) -> Tensor:
        """Gradients of the losses by the trunk's parameters, `[T, P]`, one backward pass each."""
        values = self.losses if losses is None else losses
        trunk = list(self.network.trunk.parameters())
        rows = [torch.autograd.grad(value, trunk, retain_graph=True) for value in values]
        return torch.stack([torch.cat([grad.flatten() for grad in row]) for row in rows])

    def drawn(self, draw: int, count: int) -> Tensor:
        """The stack's own random numbers for this seed and step."""
        return uniform(torch.tensor([self.seed]), torch.tensor(self.index), draw, count)[0].double()


class Plain:
    """A method: the objective of the heads, and the trunk's gradient if it differs from the objective's."""

    lr: float | None = None

    def learned(self) -> list[nn.Parameter]:
        return []

    def objective(self, step: PlainStep) -> tuple[Tensor, Tensor | None]:
        raise NotImplementedError

    def project(self) -> None: ...

    def after_update(self, step: PlainStep) -> None: ...

    def epoch_end(self, mean_losses: Tensor) -> None: ...


class Weighted(Plain):
    """Heads and trunk learn from the weighted losses; no gradient flows through the weights."""

    def objective(self, step: PlainStep) -> tuple[Tensor, Tensor | None]:
        return (self.weigh(step).detach() * step.losses).sum(), None

    def weigh(self, step: PlainStep) -> Tensor:
        raise NotImplementedError


class Surgery(Plain):
    """The trunk descends a combination of the task gradients; each head learns from its own loss."""

    def objective(self, step: PlainStep) -> tuple[Tensor, Tensor | None]:
        return step.losses.sum(), self.direct(step, step.jacobian())

    def direct(self, step: PlainStep, jacobian: Tensor) -> Tensor:
        raise NotImplementedError


def train(
    method: Plain, network: PlainNetwork, setup: Setup, samples: Split, *, seed: int, steps: int, batch: int, lr: float
) -> None:
    """Train one network with a method, on the batches of its seed."""
    groups: list[dict[str, object]] = [{"params": list(network.parameters())}]
    own = method.learned()
    if own:
        groups.append({"params": own, "lr": lr if method.lr is None else method.lr})
    optimizer = torch.optim.Adam(groups, lr=lr)
    per_epoch = len(samples) // batch
    seen: list[Tensor] = []

    def losses_of(rows: Tensor, shared: Tensor | None = None) -> Tensor:
        shared = network.represent(samples.inputs[rows]) if shared is None else shared
        outputs, targets = [head(shared) for head in network.heads], samples.targets[rows]
        digit = nn.functional.cross_entropy(outputs[0], targets[:, 0])
        above = nn.functional.binary_cross_entropy_with_logits(outputs[1][:, 0], targets[:, 1].double())
        return torch.stack([digit, above])

    def further(index: int, draw: int) -> Tensor:
        shares = uniform(torch.tensor([seed]), torch.tensor(index), FURTHER_BATCHES + draw, batch)[0]
        return losses_of((shares * len(samples)).long())

    assert len(setup.tasks) == 2
    for index in range(steps):
        epoch, position = divmod(index, per_epoch)
        if index and not position:
            method.epoch_end(torch.stack(seen[-per_epoch:]).mean(0))
        order = np.random.default_rng((seed, 1 + epoch)).permutation(len(samples))
        rows = torch.from_numpy(order[position * batch : (position + 1) * batch])
        shared = network.represent(samples.inputs[rows])
        losses = losses_of(rows, shared)
        seen.append(losses.detach())
        step = PlainStep(network, seed, index, epoch, losses, shared, partial(losses_of, rows), partial(further, index))
        objective, direction = method.objective(step)
        optimizer.zero_grad()
        objective.backward()
        if direction is not None:
            parameters = list(network.trunk.parameters())
            parts = direction.split([parameter.numel() for parameter in parameters])
            for parameter, part in zip(parameters, parts, strict=True):
                parameter.grad = part.view_as(parameter).clone()
        optimizer.step()
        with torch.no_grad():
            method.project()
            method.after_update(step)


def clipped(direction: Tensor, limit: float = 1.0) -> Tensor:
    """The direction, shortened to the limit if it is longer."""
    return direction / max(1.0, float(direction.norm()) / limit)


def zeros() -> Tensor:
    return torch.zeros(2, dtype=torch.float64)


def halves() -> Tensor:
    return torch.full((2,), 0.5, dtype=torch.float64)


def pair(first: float | Tensor, second: float | Tensor) -> Tensor:
    return torch.stack([torch.as_tensor(value, dtype=torch.float64) for value in (first, second)])


def on_simplex(v: Tensor) -> Tensor:
    share = ((v[0] - v[1] + 1) / 2).clamp(0, 1)
    return pair(share, 1 - share)


def projected_pair(jacobian: Tensor) -> Tensor:
    """Each of two gradients without its part against the other, `[2, P]`."""
    one, other = jacobian
    product = (one @ other).clamp_max(0)
    return torch.stack([one - product / (other @ other) * other, other - product / (one @ one) * one])


def equal_projections(jacobian: Tensor) -> Tensor:
    """The combination of two gradients, weights summing to 1, whose projections onto both are equal, `[P]`."""
    first, second = jacobian.norm(dim=1)
    return (second * jacobian[0] + first * jacobian[1]) / (first + second)
