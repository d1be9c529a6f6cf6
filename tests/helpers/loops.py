"""Training loops with a Balancer: one on the batches that the engine draws, and a network with convolutions."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import numpy as np
import torch
from torch import Tensor, nn

from mtlbench import Balancer, Strategy
from mtlbench.contracts.random_numbers import uniform
from mtlbench.contracts.setup import Setup
from mtlbench.engine.trainer import FURTHER_BATCHES
from tests.helpers.definitions import PLAIN
from tests.helpers.plain import PlainNetwork

SEED, BATCH, LR = 3, 12, 1e-2
PEERS = ["torchjd:UPGrad", "torchjd:GradDrop", "torchjd:UW", "torchjd:FAMO"]
NAMES = sorted({label.partition(":")[0] for label in PLAIN} - {"single"})


class Loop:
    """One network trained by a Balancer, on the batches that the engine draws."""

    def __init__(self, strategy: str | Callable[[tuple[int, int]], Strategy], setup: Setup) -> None:
        self.setup, self.samples = setup, setup.samples()[0]
        torch.manual_seed(SEED)
        self.network = PlainNetwork(setup)
        self.balance = Balancer(strategy, tasks=setup.task_names, shared=self.network.trunk, lr=LR, seed=SEED)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=LR)

    def losses_of(self, rows: Tensor, features: Tensor | None = None) -> dict[str, Tensor]:
        features = self.network.represent(self.samples.inputs[rows]) if features is None else features
        targets = self.samples.targets[rows]
        return {
            task.name: task.loss(head(features).unsqueeze(0), targets[:, t].unsqueeze(0)).squeeze(0)
            for t, (task, head) in enumerate(zip(self.setup.tasks, self.network.heads, strict=True))
        }

    def further(self, index: int) -> Callable[[], dict[str, Tensor]]:
        draws = count(FURTHER_BATCHES)

        def losses() -> dict[str, Tensor]:
            shares = uniform(torch.tensor([SEED]), torch.tensor(index), next(draws), BATCH)[0]
            return self.losses_of((shares * len(self.samples)).long())

        return losses

    def step(self, index: int) -> None:
        epoch, position = divmod(index, len(self.samples) // BATCH)
        if index and not position:
            self.balance.epoch_end()
        order = np.random.default_rng((SEED, 1 + epoch)).permutation(len(self.samples))
        rows = torch.from_numpy(order[position * BATCH : (position + 1) * BATCH])
        features = self.network.represent(self.samples.inputs[rows])
        self.optimizer.zero_grad()
        self.balance(self.losses_of(rows, features), features, further=self.further(index)).backward()
        self.optimizer.step()
        self.balance.after_update(lambda: self.losses_of(rows))

    def state(self) -> dict[str, Tensor]:
        return self.network.state_dict() | {
            key: value for key, value in self.balance.state_dict().items() if isinstance(value, Tensor)
        }


def scalar() -> Tensor:
    return torch.ones((), requires_grad=True)


class Net(nn.Module):
    """A convolutional trunk with a normalisation, and one linear head per task."""

    def __init__(self, tasks: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.trunk = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Conv2d(3, 2, 3), nn.GroupNorm(1, 2), nn.ReLU())
        self.heads = nn.ModuleList(nn.Linear(8, 1) for _ in range(tasks))
        self.to(dtype)
        self.x = torch.randn(6, 1, 6, 6, dtype=dtype)

    def losses(self, features: Tensor) -> list[Tensor]:
        return [(head(features.flatten(1)) - t).square().mean().float() for t, head in enumerate(self.heads)]

    def balanced(self, balance: Balancer) -> Tensor:
        features = self.trunk(self.x)
        return balance(self.losses(features), features, further=lambda: self.losses(self.trunk(self.x.flip(-1))))

    def gradients(self) -> dict[str, Tensor | None]:
        return {name: parameter.grad for name, parameter in self.named_parameters()}


def make(name: str, net: Net) -> Balancer:
    return Balancer(name, tasks=len(net.heads), shared=net.trunk)
