"""What a worker process does: train one run, or measure speeds. Both start from names, not from objects."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from mtlbench import cost, harness, sealed, setups
from mtlbench.harness import Progress
from mtlbench.records import REFERENCE, Result, Settings, Spec, Trial
from mtlbench.registry import Registry
from mtlbench.strategy import Strategy
from mtlbench.tasks import Setup, Split
from mtlbench.trainer import Trainer

THREADS = 1
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of <malloc.h>


@dataclass(frozen=True)
class RunJob:
    """Train one strategy under the bench's settings."""

    spec: Spec
    settings: Settings
    plugins: tuple[Path, ...]


@dataclass(frozen=True)
class CostJob:
    """Measure strategies against fixed weights, for each of some stacks."""

    specs: tuple[Spec, ...]
    settings: Settings
    plugins: tuple[Path, ...]
    stacks: tuple[int, ...]
    rounds: int
    turn_seconds: float


@dataclass(frozen=True)
class Timing:
    """Seconds per step in each round, of a strategy and of fixed weights beside it."""

    label: str
    replicas: int
    step_seconds: list[float]
    baseline_seconds: list[float]
    peak_memory: int | None


def train(job: RunJob, report: Callable[[Progress], None]) -> Result:
    """Carry out a run."""
    prepare()
    setup = setups.find(job.settings.setup)
    return harness.tested(_fit(setup, job, report), setup)


def try_out(job: RunJob, report: Callable[[Progress], None]) -> Trial:
    """Carry out a trial of tuning, in a process from which the test set cannot be read."""
    sealed.seal_test_set()
    prepare()
    fitted = _fit(sealed.without_test_split(setups.find(job.settings.setup)), job, report)
    return Trial(
        hyper=job.spec.hyper, lr=job.settings.lr, validation=fitted.validation[-1], seconds=fitted.training_seconds
    )


def _fit(setup: Setup, job: RunJob, report: Callable[[Progress], None]) -> harness.Fitted:
    return harness.fit(
        setup,
        partial(Registry.load(job.plugins).build, job.spec),
        seeds=job.settings.seeds,
        epochs=job.settings.epochs,
        batch_size=job.settings.batch_size,
        lr=job.settings.lr,
        device=job.settings.device,
        watched=setup.task_names.index(job.spec.only) if job.spec.only else 0,
        report=report,
    )


def measure(job: CostJob, report: Callable[[str], None]) -> list[Timing]:
    """Carry out a cost measurement; fixed weights take part in every round whether asked for or not."""
    prepare()
    registry = Registry.load(job.plugins)
    setup = setups.find(job.settings.setup)
    samples, _ = setup.samples()
    device = torch.device(job.settings.device)
    builds: dict[str, Callable[[tuple[int, int]], Strategy]] = {REFERENCE: partial(registry.get(REFERENCE))}
    builds |= {spec.label: partial(registry.build, spec) for spec in job.specs}
    timings: list[Timing] = []
    for replicas in job.stacks:
        report(f"{len(builds)} strategies, stack of {replicas}")
        make = partial(_trainer, job.settings, samples, replicas, device)
        speeds = cost.measure(make, builds, rounds=job.rounds, turn_seconds=job.turn_seconds, device=device)
        baseline = speeds[REFERENCE].step_seconds
        timings += [
            Timing(spec.label, replicas, speed.step_seconds, baseline, speed.peak_memory)
            for spec in job.specs
            for speed in [speeds[spec.label]]
        ]
    return timings


def _trainer(
    settings: Settings,
    samples: Split,
    replicas: int,
    device: torch.device,
    build: Callable[[tuple[int, int]], Strategy],
) -> Trainer:
    return Trainer(
        setups.find(settings.setup),
        build,
        settings.seeds[:replicas],
        samples,
        batch_size=settings.batch_size,
        lr=settings.lr,
        device=device,
    )


def prepare() -> None:
    """One thread, so that runs side by side do not take each other's cores; denormals cost time and no digit."""
    torch.set_num_threads(THREADS)
    torch.set_flush_denormal(True)
    _keep_freed_memory()


def _keep_freed_memory() -> None:
    """Have glibc keep large blocks: it would map a Jacobian anew in every step, and Linux clear it page by page."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
