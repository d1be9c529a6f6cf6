"""Training speed against the loop of the tutorial, and of each strategy against fixed weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from mtlbench import catalogue, data
from mtlbench.cost import endless
from mtlbench.registry import Registry
from mtlbench.setups import MNIST
from mtlbench.trainer import Trainer
from tests.benchmarks.conftest import Ratios, in_turns

BATCH = 64


def stack(registry: Registry, label: str, replicas: int) -> Callable[[], None]:
    """Training steps of a stack on MNIST."""
    spec = registry.parse(label, MNIST)
    trainer = Trainer(
        MNIST,
        partial(registry.build, spec),
        range(replicas),
        MNIST.samples()[0],
        batch_size=BATCH,
        lr=1e-3,
        device=torch.device("cpu"),
    )
    return endless(trainer)


def repeated(step: Callable[[], None], times: int) -> Callable[[], None]:
    def turn() -> None:
        for _ in range(times):
            step()

    return turn


class TutorialNetwork(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Flatten(), nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU())
        self.digit = nn.Linear(256, 10)
        self.above_five = nn.Linear(256, 1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        shared = self.trunk(images)
        return self.digit(shared), self.above_five(shared).squeeze(1)


def tutorial_loop(root: Path) -> Callable[[], None]:
    """One step a call of the loop everybody writes: DataLoader, torchvision transforms, one model, Adam."""
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in data.MNIST.checksums:
        (raw / name).symlink_to(data.MNIST.folder / name)
    normalise = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])
    loader = DataLoader(datasets.MNIST(str(root), transform=normalise), batch_size=BATCH, shuffle=True)
    model = TutorialNetwork()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield from loader

    source = batches()

    def step() -> None:
        images, labels = next(source)
        digit, above_five = model(images)
        loss = nn.functional.cross_entropy(digit, labels)
        loss = loss + nn.functional.binary_cross_entropy_with_logits(above_five, (labels > 5).float())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


@pytest.mark.benchmark(group="fixed weights, 10 seeds, all cores")
@pytest.mark.usefixtures("all_cores")
def test_fixed_against_the_tutorials_loop(
    benchmark: BenchmarkFixture, ratios: Ratios, registry: Registry, tmp_path: Path
) -> None:
    replicas, steps = 10, 4
    ours = repeated(stack(registry, "fixed", replicas), steps)
    tutorial = repeated(tutorial_loop(tmp_path), steps * replicas)
    seconds = in_turns(benchmark, ours, tutorial, rounds=15)
    gain = [1 / ratio for ratio in seconds]
    assert ratios.add("samples/s of fixed, 10 seeds, over the tutorial's loop", gain, ">= 7") >= 7


STRATEGIES = {entry.name: entry.needs for entry in catalogue.entries(Registry.load())}
# What more than a Gramian costs is measured and held to nothing: forward passes and Jacobians have their price.
BOUNDS = {"losses": 1.10, "epoch means of losses": 1.10, "Gramian (last layer)": 1.35, "Gramian": 1.45}
SINGLY = ("uncertainty", "gradnorm")  # also measured as one replica


@pytest.mark.benchmark(group="step of a strategy, one thread")
@pytest.mark.parametrize(
    ("label", "replicas"),
    [(label, 10) for label in STRATEGIES if label != "fixed"] + [(label, 1) for label in SINGLY],
)
def test_strategy_against_fixed(
    benchmark: BenchmarkFixture, ratios: Ratios, registry: Registry, label: str, replicas: int
) -> None:
    steps = max(1, 20 // replicas)
    mine = repeated(stack(registry, label, replicas), steps)
    fixed = repeated(stack(registry, "fixed", replicas), steps)
    cost = in_turns(benchmark, mine, fixed, rounds=25)
    bound = BOUNDS.get(STRATEGIES[label], math.inf)
    wanted = f"<= {bound:.2f}" if math.isfinite(bound) else "-"
    assert ratios.add(f"step time of {label} over fixed, K = {replicas}", cost, wanted) <= bound
