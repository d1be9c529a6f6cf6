"""The jobs of worker processes: train a stack, or measure speeds. Jobs hold names, which the process looks up."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mtlbench.contracts.strategy import Strategy
from mtlbench.engine import fitting, speed
from mtlbench.engine.fitting import Progress
from mtlbench.engine.products import Products
from mtlbench.engine.trainer import Trainer
from mtlbench.engine.turns import Turns, trainer_of
from mtlbench.errors import first_line
from mtlbench.plugins.registry import Registry
from mtlbench.records import checkpoint
from mtlbench.records.history import History, Result
from mtlbench.records.records import Settings, Spec, StepSpeed, Trial
from mtlbench.records.roles import REFERENCE
from mtlbench.setups import sealed_test_set, splits

# torch.optim imports torch._dynamo on first use: importing it once here saves seconds in each worker.
PRELOAD = ["mtlbench.bench.jobs", "torch._dynamo"]
THREADS = 1
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of <malloc.h>

Build = Callable[[tuple[int, int]], Strategy]
Notify = Callable[[Progress | str], None]
"""Receives the progress of a job, or a line about it."""


@dataclass(frozen=True)
class StackJob:
    """Train one strategy with the settings of a run, for some of its seeds.

    `plugins` (files) and `packages` (origins of entry points; None means all) are only those that strategy and setup
    come from, so that the imports of other plug-ins cannot affect the job. The file `checkpoint` keeps the state after
    each epoch, under `key`; None keeps nothing.
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
    """Measure strategies, by the keys of their runs, for stacks of several sizes; plug-ins are as in `StackJob`.

    The strategies take turns in one process, so the imports of one plug-in do affect the others.
    """

    specs: dict[str, Spec]
    settings: Settings
    plugins: tuple[Path, ...]
    stacks: tuple[int, ...]
    rounds: int
    turn_seconds: float
    packages: frozenset[str] | None = None


class Training:
    """A stack in its worker process; with `sealed`, the process cannot read the test set."""

    def __init__(self, job: StackJob, report: Notify, *, sealed: bool = False) -> None:
        if sealed:
            sealed_test_set.seal_test_set()
        registry = _loaded(job.plugins, job.packages)
        setup = registry.setup(job.settings.setup)
        self.job, self._report = job, report
        self.setup = sealed_test_set.without_test_split(setup) if sealed else setup
        self.samples, self._held_out = splits.samples(self.setup)
        self._watched = setup.tasks[setup.task_names.index(job.spec.only) if job.spec.only else 0]
        report(Progress(0.0, None, None, self._watched.metric))
        build = partial(registry.build, job.spec)
        self.trainer: Trainer | Turns = trainer_of(
            self.setup, build, job.seeds, self.samples, **_arguments(job.settings)
        )

    def fit(self) -> History:
        """Train the epochs that are missing, starting from the last checkpoint if there is one."""
        job = self.job
        stored = checkpoint.read(job.checkpoint, job.key) if job.checkpoint else None
        if stored is not None:
            self.trainer.restore(stored.state)
        return fitting.fit(
            self.trainer,
            self._held_out,
            epochs=job.settings.epochs,
            watched=self._watched,
            report=self._report,
            so_far=stored.history if stored else None,
            keep=self._keep,
        )

    def result(self) -> Result:
        """Train, then test."""
        return fitting.tested(self.fit(), self.trainer, splits.test(self.setup))

    def _keep(self, history: History) -> None:
        if self.job.checkpoint is not None:
            try:
                checkpoint.write(self.job.checkpoint, self.job.key, self.trainer.state, history)
            except OSError as error:
                epoch = len(history.validation)
                self._report(f"the state after epoch {epoch} could not be kept: {first_line(error)}")


def train(job: StackJob, report: Notify) -> Result:
    """Train and test one stack of a run."""
    return Training(job, report).result()


def try_out(job: StackJob, report: Notify) -> Trial:
    """Carry out one trial of tuning, in a process that cannot read the test set."""
    history = Training(job, report, sealed=True).fit()
    last, seconds = history.validation[-1], history.training_seconds
    return Trial(hyper=job.spec.hyper, lr=job.settings.lr, validation=last, seconds=seconds)


def measure(job: SpeedJob, report: Notify) -> list[StepSpeed]:
    """Measure speeds relative to fixed weights, which are part of every round."""
    registry = _loaded(job.plugins, job.packages)
    setup = registry.setup(job.settings.setup)
    samples, _ = splits.samples(setup)
    builds: dict[str, Build] = {REFERENCE: partial(registry.get(REFERENCE))}
    builds |= {spec.label: partial(registry.build, spec) for spec in job.specs.values()}
    device = torch.device(job.settings.device)
    measured: list[StepSpeed] = []
    for replicas in job.stacks:
        report(f"{len(builds)} strategies, stack of {replicas}")
        # Stacks that take turns are alike, so one of them is measured.
        products = Products(job.settings.products, job.settings.precision)
        stack = job.settings.seeds[: products.replicas(setup.dense_weights, replicas)]
        make = partial(Trainer, setup, seeds=stack, samples=samples, **_arguments(job.settings))
        speeds = speed.measure(make, builds, rounds=job.rounds, turn_seconds=job.turn_seconds, device=device)
        for key, spec in job.specs.items():
            steps, baseline = speeds[spec.label].step_seconds, speeds[REFERENCE].step_seconds
            measured.append(
                StepSpeed(
                    key=key,
                    label=spec.label,
                    replicas=replicas,
                    samples_per_second=[job.settings.batch_size * len(stack) / seconds for seconds in steps],
                    ratios=[seconds / base for seconds, base in zip(steps, baseline, strict=True)],
                    peak_memory=speeds[spec.label].peak_memory,
                )
            )
    return measured


def _arguments(settings: Settings) -> dict[str, Any]:
    """The arguments of a trainer that settings determine."""
    products = Products(settings.products, settings.precision)
    device = torch.device(settings.device)
    return {"batch_size": settings.batch_size, "lr": settings.lr, "device": device, "products": products}


def _loaded(plugins: tuple[Path, ...], packages: frozenset[str] | None) -> Registry:
    """The registry with these plug-ins; the process is prepared again after their imports, which may change it."""
    prepare()
    registry = Registry.load(plugins, packages)
    prepare()
    return registry


def prepare() -> None:
    """Use one thread, since runs share the cores, and flush denormals, which are slow and do not matter."""
    torch.set_num_threads(THREADS)
    torch.set_default_dtype(torch.float32)
    torch.set_flush_denormal(True)
    # Make glibc keep large freed blocks: otherwise each step maps its Jacobian anew and Linux zeroes every page.
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
