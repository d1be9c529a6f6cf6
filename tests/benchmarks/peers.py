"""The same two tasks as others train them: the tutorial's loop, eager PyTorch, and TorchJD's autojac."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchjd.aggregation import GramianWeightedAggregator
from torchjd.autojac import jac_to_grad, mtl_backward
from torchvision import datasets, transforms

from mtlbench import Balancer, data
from mtlbench.contracts.setup import Split
from mtlbench.setups import DEVIATION, MEAN, MNIST
from tests.benchmarks.loops import BATCH, LR, Loop


class TutorialNetwork(nn.Module):
    """The reference setup's network for one seed."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Flatten(), nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU())
        self.digit = nn.Linear(256, 10)
        self.above_five = nn.Linear(256, 1)

    def losses(self, shared: Tensor, digits: Tensor, above_five: Tensor) -> list[Tensor]:
        """Both losses of a batch, from what the trunk makes of it."""
        return [
            nn.functional.cross_entropy(self.digit(shared), digits),
            nn.functional.binary_cross_entropy_with_logits(self.above_five(shared).squeeze(1), above_five),
        ]


def tutorial(root: Path) -> Loop:
    """The loop everybody writes: DataLoader, torchvision's transforms, one model, Adam as it comes.

    Args:
        root: an empty folder for what torchvision reads.
    """
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in data.MNIST.checksums:
        (raw / name).symlink_to(data.MNIST.folder / name)
    normalise = transforms.Compose([transforms.ToTensor(), transforms.Normalize((MEAN,), (DEVIATION,))])
    loader = DataLoader(datasets.MNIST(str(root), transform=normalise), batch_size=BATCH, shuffle=True)
    model = TutorialNetwork()
    optimizer = torch.optim.Adam(model.parameters(), lr=LR)

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield from loader

    source = batches()

    def step() -> None:
        images, labels = next(source)
        digit, above_five = model.losses(model.trunk(images), labels, (labels > 5).float())
        optimizer.zero_grad()
        (digit + above_five).backward()
        optimizer.step()

    return Loop(step)


def eager(model: TutorialNetwork, samples: Split) -> Loop:
    """PyTorch as it can be written by hand: data in memory as normalised tensors, autograd, fused Adam.

    It trains the model that it is given, on its device and in its dtype.
    """
    draw = _batches(model, samples)
    optimizer = torch.optim.Adam(model.parameters(), lr=LR, fused=True)

    def step() -> None:
        images, digits, above_five = draw()
        digit, above = model.losses(model.trunk(images), digits, above_five)
        (digit + above).backward()
        optimizer.step()
        optimizer.zero_grad()

    return Loop(step)


def torchjd(model: TutorialNetwork, samples: Split, aggregator: GramianWeightedAggregator) -> Loop:
    """TorchJD's loop for tasks with a shared trunk as its README writes it, with Adam as it comes; data as `eager`."""
    draw = _batches(model, samples)
    optimizer = torch.optim.Adam(model.parameters(), lr=LR)

    def step() -> None:
        images, digits, above_five = draw()
        shared = model.trunk(images)
        mtl_backward(model.losses(shared, digits, above_five), features=shared)
        jac_to_grad(model.trunk.parameters(), aggregator)
        optimizer.step()
        optimizer.zero_grad()

    return Loop(step)


def fastest_torchjd(model: TutorialNetwork, samples: Split, aggregator: GramianWeightedAggregator) -> Loop:
    """The same with fused Adam and what else makes it fast.

    Of its options these were the fastest here: tasks differentiated one after the other rather than by vmap, the
    Gramian summed over parameters rather than made from one joined Jacobian, and parameters named rather than searched.
    """
    draw = _batches(model, samples)
    optimizer = torch.optim.Adam(model.parameters(), lr=LR, fused=True)
    trunk = list(model.trunk.parameters())
    heads = [list(head.parameters()) for head in (model.digit, model.above_five)]

    def step() -> None:
        images, digits, above_five = draw()
        shared = model.trunk(images)
        losses = model.losses(shared, digits, above_five)
        mtl_backward(losses, features=shared, tasks_params=heads, shared_params=trunk, parallel_chunk_size=1)
        jac_to_grad(trunk, aggregator, optimize_gramian_computation=True)
        optimizer.step()
        optimizer.zero_grad()

    return Loop(step)


def balancer(model: TutorialNetwork, samples: Split, strategy: str) -> Loop:
    """A strategy of ours in the loop of `eager`, through autograd."""
    draw = _batches(model, samples)
    optimizer = torch.optim.Adam(model.parameters(), lr=LR, fused=True)
    balance = Balancer(strategy, tasks=2, shared=model.trunk)

    def step() -> None:
        images, digits, above_five = draw()
        balance(model.losses(model.trunk(images), digits, above_five)).backward()
        optimizer.step()
        optimizer.zero_grad()

    return Loop(step)


def _batches(model: nn.Module, samples: Split) -> Callable[[], tuple[Tensor, Tensor, Tensor]]:
    """Draws normalised images, digits and whether these are above five, pass after pass, each in a new order."""
    like = next(model.parameters())
    images = samples.inputs.to(like).mul_(MNIST.scale).add_(MNIST.shift)
    digits = samples.targets[:, 0].to(like.device)
    above_five = samples.targets[:, 1].to(like)

    def orders() -> Iterator[Tensor]:
        while True:
            rows = torch.randperm(len(samples), device=like.device)
            yield from rows[: len(rows) // BATCH * BATCH].split(BATCH)

    source = orders()

    def draw() -> tuple[Tensor, Tensor, Tensor]:
        rows = next(source)
        return images.index_select(0, rows), digits.index_select(0, rows), above_five.index_select(0, rows)

    return draw
