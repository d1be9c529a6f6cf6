"""`make gpu-check`: compares CUDA with the CPU for every strategy step by step, and measures the captured step.

Exit code 1 if a strategy differs or fails, 2 if there is no CUDA device.
"""

from __future__ import annotations

import math
import statistics
import sys
from functools import partial

import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch import Tensor

from mtlbench.contracts.setup import Setup, Split
from mtlbench.engine.speed import endless, interleave, waiter
from mtlbench.engine.trainer import Trainer
from mtlbench.errors import in_one_line
from mtlbench.plugins.registry import Registry
from mtlbench.records.environment import describe
from mtlbench.setups import MNIST
from mtlbench.setups.multimnist import MULTIMNIST
from tests.benchmarks.loops import BATCH, LR
from tests.benchmarks.peers import TutorialNetwork, eager

STEPS, SEEDS = 20, (0, 1, 2)
TOLERANCES = {
    torch.float64: {"losses": 1e-5, "weights": 1e-5, "parameters": 1e-5},
    torch.float32: {"losses": 0.05},
}
"""Limits of the largest relative difference. In float32, weights and parameters of correct programs may differ by up
to 1, because ratios of small gradients and Adam's first steps amplify rounding; in float64 by less than 1e-6."""
CONVOLVED = ("fixed", "mgda", "modo", "moco")
STACKS, ROUNDS, TURN_SECONDS = (1, 10, 64), 5, 0.1


def random_split(size: int) -> Split:
    """Noise and random labels in the shape of MNIST and MultiMNIST, so that nothing has to be fetched."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (size, MNIST.widths[0]), dtype=torch.uint8, generator=generator)
    digits = torch.randint(0, 10, (size,), generator=generator)
    return Split(images, torch.stack([digits, (digits > 5).long()], dim=-1))


def make_trainer(
    registry: Registry,
    name: str,
    seeds: range | tuple[int, ...],
    samples: Split,
    device: str,
    dtype: torch.dtype = torch.float32,
    setup: Setup = MNIST,
) -> Trainer:
    build = partial(registry.build, registry.parse(name, setup))
    where = torch.device(device)
    return Trainer(setup, build, seeds, samples, batch_size=BATCH, lr=LR, device=where, dtype=dtype)


def course(trainer: Trainer) -> list[dict[str, Tensor]]:
    """Losses and weights `[K, T]` and parameters `[K * P]` after each of the first steps, on the host."""
    trainer.start_epoch(0)
    states: list[dict[str, Tensor]] = []
    for index in range(STEPS):
        trainer.step()
        traced = {name: trainer.traces[name][index] for name in ("losses", "weights")}
        states.append({name: value.cpu().clone() for name, value in traced.items()})
        states[-1]["parameters"] = trainer.network.parameters.cpu().clone()
    return states


def largest_differences(actual: list[dict[str, Tensor]], expected: list[dict[str, Tensor]]) -> dict[str, float]:
    """The largest `|actual - expected| / |expected|` of each quantity over the steps, in the Euclidean norm.

    A value that is not finite counts as infinitely different.
    """
    return {
        name: max(_difference(one[name], other[name]) for one, other in zip(actual, expected, strict=True))
        for name in expected[0]
    }


def _difference(actual: Tensor, expected: Tensor) -> float:
    tiny = torch.finfo(expected.dtype).tiny
    relative = float((actual - expected).norm() / expected.norm().clamp_min(tiny))
    return relative if math.isfinite(relative) else math.inf


def compare(
    registry: Registry, name: str, samples: Split, device: str, dtype: torch.dtype, setup: Setup = MNIST
) -> dict[str, float]:
    """The largest differences between a run on the device and the same run on the CPU."""
    actual, expected = (
        course(make_trainer(registry, name, SEEDS, samples, where, dtype, setup)) for where in (device, "cpu")
    )
    return largest_differences(actual, expected)


def compare_all(registry: Registry, device: str, console: Console) -> list[str]:
    """Print the differences of every strategy, and of some on convolutions; return those that differ or fail."""
    samples = random_split(STEPS * BATCH)
    table = Table(
        title=f"{device} against cpu: largest relative difference in {STEPS} steps, and its limit",
        box=SIMPLE_HEAD,
        header_style="bold",
        title_justify="left",
    )
    table.add_column("strategy")
    for dtype, limits in TOLERANCES.items():
        for quantity, limit in limits.items():
            table.add_column(f"{quantity}\n{str(dtype).removeprefix('torch.')}\n<= {limit:.0e}", justify="right")
    table.add_column("")
    wrong: list[str] = []
    rows = {name: (name, MNIST) for name in registry.strategies}
    rows |= {f"{name} on {MULTIMNIST.name}": (name, MULTIMNIST) for name in CONVOLVED if name in registry.strategies}
    for title, (name, setup) in rows.items():
        cells: list[str] = []
        remark = "same"
        try:
            for dtype, limits in TOLERANCES.items():
                differences = compare(registry, name, samples, device, dtype, setup)
                cells += [f"{differences[quantity]:.0e}" for quantity in limits]
                if any(differences[quantity] > limit for quantity, limit in limits.items()):
                    remark = "[red]differs[/red]"
        except Exception as error:  # one strategy that fails must not hide the others
            cells += [""] * (sum(map(len, TOLERANCES.values())) - len(cells))
            remark = f"[red]{escape(in_one_line(error))}[/red]"
        if remark != "same":
            wrong.append(title)
        table.add_row(title, *cells, remark)
    console.print(table)
    return wrong


def measure_all(registry: Registry, names: list[str], device: str, console: Console) -> None:
    """Print samples/s of the captured step of each strategy, in rounds interleaved with eager PyTorch.

    One strategy is on the device at a time, because stacks of 64 of all of them may not fit into its memory.
    """
    samples = random_split(MNIST.training_size)
    wait = waiter(torch.device(device))
    title = f"samples/s on {device} (times those of eager PyTorch, one model), median of {ROUNDS} rounds"
    table = Table(title=title, box=SIMPLE_HEAD, header_style="bold", title_justify="left")
    table.add_column("strategy")
    for replicas in STACKS:
        table.add_column(f"K = {replicas}", justify="right")
    other = eager(TutorialNetwork().to(device), samples).run
    for name in names:
        cells: list[str] = []
        for replicas in STACKS:
            ours = endless(make_trainer(registry, name, range(replicas), samples, device))
            timings = interleave({"ours": ours, "eager": other}, ROUNDS, TURN_SECONDS, wait)
            pairs = zip(timings["ours"], timings["eager"], strict=True)
            gain = statistics.median(replicas * eager_seconds / seconds for seconds, eager_seconds in pairs)
            cells.append(f"{BATCH * replicas / statistics.median(timings['ours']):,.0f} ({gain:.1f}x)")
        table.add_row(name, *cells)
    console.print(table)


def main() -> int:
    """Compare, then measure the strategies that agree."""
    if not torch.cuda.is_available():
        print("gpu-check needs a CUDA device; torch finds none", file=sys.stderr)
        return 2
    console = Console() if sys.stdout.isatty() else Console(width=150)
    environment = describe("cuda")
    console.print(f"{environment.machine}; torch {environment.versions['torch']}, CUDA {environment.versions['cuda']}")
    registry = Registry.load()
    wrong = compare_all(registry, "cuda", console)
    measure_all(registry, [name for name in registry.strategies if name not in wrong], "cuda", console)
    if wrong:
        comparisons = len(registry.strategies) + len(CONVOLVED)
        console.print(f"{len(wrong)} of {comparisons} comparisons differ from the CPU: {', '.join(wrong)}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
