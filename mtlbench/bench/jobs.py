"""What a worker process does: train a stack, or measure speeds. Each starts from names, not from objects."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from mtlbench.contracts.setup import Setup, Split, Task
from mtlbench.contracts.strategy import Strategy
from mtlbench.engine import fitting, speed
from mtlbench.engine.fitting import Progress
from mtlbench.engine.trainer import Trainer
from mtlbench.errors import first_line
from mtlbench.plugins.needs import needs_of
from mtlbench.plugins.registry import Registry
from mtlbench.records import checkpoint
from mtlbench.records.history import History, Result
from mtlbench.records.records import Settings, Spec, Trial
from mtlbench.records.roles import REFERENCE
from mtlbench.setups import sealed_test_set, splits

# torch.optim imports torch._dynamo when it is first used: done once here, not for seconds in each worker.
PRELOAD = ["mtlbench.bench.jobs", "torch._dynamo"]
THREADS = 1
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of <malloc.h>


Notify = Callable[[Progress | str], None]
"""Told how far a job is, or a line that is worth saying of it."""


@dataclass(frozen=True)
class StackJob:
    """Train one strategy under the bench's settings, for some of its seeds.

    Of plugins it names those that the strategy and the setup are from, files and entry points: what the others do when
    they are imported must not reach it. `packages` None is all entry points.
    `checkpoint` is the file that its state is kept in from epoch to epoch, under `key`; None keeps nothing.
    """

    spec: Spec
    settings: Settings
    seeds: tuple[int, ...]
    plugins: tuple[Path, ...]
    key: str = ""
    checkpoint: Path | None = None
    packages: frozenset[str] | None = None


@dataclass(frozen=True)
class SpeedJob:
    """Measure strategies against fixed weights, for each of some stacks; plugins are those that they are from.

    They take turns in one process, so that what the file of one changes when it is imported does reach the others.
    """

    specs: tuple[Spec, ...]
    settings: Settings
    plugins: tuple[Path, ...]
    stacks: tuple[int, ...]
    rounds: int
    turn_seconds: float
    packages: frozenset[str] | None = None


@dataclass(frozen=True)
class Timing:
    """Seconds per step in each round, of a strategy and of fixed weights beside it."""

    label: str
    replicas: int
    step_seconds: list[float]
    baseline_seconds: list[float]
    peak_memory: int | None


def train(job: StackJob, report: Notify) -> Result:
    """Carry out a stack of a run, from its last checkpoint if there is one."""
    return trained(job, report)[0]


def trained(job: StackJob, report: Notify) -> tuple[Result, Trainer, Setup, Split]:
    """What a stack leaves, the trainer in its last state, the setup and its training split."""
    registry = _loaded(job.plugins, job.packages)
    setup = registry.setup(job.settings.setup)
    samples, held_out = splits.samples(setup)
    report(_begun(setup, job.spec))
    trainer = _trainer(job, registry, setup, samples)
    found = checkpoint.read(job.checkpoint, job.key) if job.checkpoint else None
    if found is not None:
        trainer.restore(found.state)

    def keep(history: History) -> None:
        if job.checkpoint is not None:
            try:
                checkpoint.write(job.checkpoint, job.key, trainer.state, history)
            except OSError as error:
                report(f"the state after epoch {len(history.validation)} could not be kept: {first_line(error)}")

    history = fitting.fit(
        trainer,
        held_out,
        epochs=job.settings.epochs,
        watched=_watched(setup, job.spec),
        report=report,
        so_far=found.history if found else None,
        keep=keep,
    )
    return fitting.tested(history, trainer, splits.test(setup)), trainer, setup, samples


def try_out(job: StackJob, report: Notify) -> Trial:
    """Carry out a trial of tuning, in a process from which the test set cannot be read."""
    sealed_test_set.seal_test_set()
    registry = _loaded(job.plugins, job.packages)
    setup = sealed_test_set.without_test_split(registry.setup(job.settings.setup))
    samples, held_out = splits.samples(setup)
    report(_begun(setup, job.spec))
    history = fitting.fit(
        _trainer(job, registry, setup, samples),
        held_out,
        epochs=job.settings.epochs,
        watched=_watched(setup, job.spec),
        report=report,
    )
    return Trial(
        hyper=job.spec.hyper, lr=job.settings.lr, validation=history.validation[-1], seconds=history.training_seconds
    )


def strategy_needs(plugins: tuple[Path, ...], report: Notify) -> dict[str, str]:
    """What each strategy asks a step for, by name; here, since their code has to be run to see it."""
    prepare()
    return {name: needs_of(cls) for name, cls in Registry.load(plugins).strategies.items()}


def _begun(setup: Setup, spec: Spec) -> Progress:
    return Progress(0.0, None, None, _watched(setup, spec).metric)


def _watched(setup: Setup, spec: Spec) -> Task:
    return setup.tasks[setup.task_names.index(spec.only) if spec.only else 0]


def _trainer(job: StackJob, registry: Registry, setup: Setup, samples: Split) -> Trainer:
    build = partial(registry.build, job.spec)
    return _make_trainer(setup, job.settings, job.seeds, samples, torch.device(job.settings.device), build)


def measure(job: SpeedJob, report: Notify) -> list[Timing]:
    """Carry out a cost measurement; fixed weights take part in every round whether asked for or not."""
    registry = _loaded(job.plugins, job.packages)
    setup = registry.setup(job.settings.setup)
    samples, _ = splits.samples(setup)
    device = torch.device(job.settings.device)
    builds: dict[str, Callable[[tuple[int, int]], Strategy]] = {REFERENCE: partial(registry.get(REFERENCE))}
    builds |= {spec.label: partial(registry.build, spec) for spec in job.specs}
    timings: list[Timing] = []
    for replicas in job.stacks:
        report(f"{len(builds)} strategies, stack of {replicas}")
        seeds = job.settings.seeds[:replicas]
        make = partial(_make_trainer, setup, job.settings, seeds, samples, device)
        speeds = speed.measure(make, builds, rounds=job.rounds, turn_seconds=job.turn_seconds, device=device)
        baseline = speeds[REFERENCE].step_seconds
        timings += [
            Timing(spec.label, replicas, speed.step_seconds, baseline, speed.peak_memory)
            for spec in job.specs
            for speed in [speeds[spec.label]]
        ]
    return timings


def _make_trainer(
    setup: Setup,
    settings: Settings,
    seeds: tuple[int, ...],
    samples: Split,
    device: torch.device,
    build: Callable[[tuple[int, int]], Strategy],
) -> Trainer:
    return Trainer(setup, build, seeds, samples, batch_size=settings.batch_size, lr=settings.lr, device=device)


def _loaded(plugins: tuple[Path, ...], packages: frozenset[str] | None) -> Registry:
    """What these plugins and mtlbench itself register, in a process that is prepared, whatever they do to it."""
    prepare()
    registry = Registry.load(plugins, packages)
    prepare()
    return registry


def prepare() -> None:
    """One thread, so that runs side by side do not take each other's cores; denormals cost time and no digit."""
    torch.set_num_threads(THREADS)
    torch.set_default_dtype(torch.float32)
    torch.set_flush_denormal(True)
    _keep_freed_memory()


def _keep_freed_memory() -> None:
    """Have glibc keep large blocks: it would map a Jacobian anew in every step, and Linux clear it page by page."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
