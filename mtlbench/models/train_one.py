"""Trains one seed of one strategy as in a bench, and keeps the network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mtlbench.bench import jobs, planning
from mtlbench.bench.display import Display, ShownJob
from mtlbench.bench.processes import Processes
from mtlbench.contracts.setup import Setup
from mtlbench.engine.trainer import Trainer
from mtlbench.models import model_file
from mtlbench.records.history import Result


@dataclass(frozen=True)
class PlannedTraining:
    """A valid training of one seed; `problems` are lines on plug-ins that could not be loaded."""

    job: jobs.StackJob
    setup: Setup
    problems: Sequence[str]


@dataclass(frozen=True)
class ModelJob:
    """Train one seed of a strategy, and keep the network in the file `save`."""

    stack: jobs.StackJob
    save: Path


def plan(request: planning.TrainingRequest) -> PlannedTraining:
    """Plan the training of the one strategy, setup and seed of a request; a UserError if it is invalid."""
    (setup,), conditions, registry = planning.check(request)
    spec, settings = registry.parse(request.strategies[0], setup), planning.settings_on(setup, conditions)
    job = planning.stack_job(registry, request.plugins, spec, settings)
    return PlannedTraining(job, setup, registry.problems)


def train(planned: PlannedTraining, save: Path, display: Display) -> Result:
    """Train in a separate process, and keep the network unless training diverged.

    Raises:
        ProcessError: training failed, or the file cannot be written.
    """
    job = planned.job
    shown = ShownJob(display, job.spec.label, job.settings.epochs)
    with Processes(jobs.PRELOAD) as processes:
        result = processes.call(train_model, ModelJob(job, save.resolve()), shown.report)
    shown.end("done")
    return result


def train_model(job: ModelJob, report: jobs.Notify) -> Result:
    """Carry out a job in its process; the network is kept as it is after the last epoch, unless training diverged."""
    training = jobs.Training(job.stack, report)
    result, trainer = training.result(), training.trainer
    assert isinstance(trainer, Trainer)  # one seed needs no turns
    spec, settings = job.stack.spec, job.stack.settings
    if not trainer.network.parameters.isfinite().all():  # no loss shows the last update
        updates = settings.epochs * trainer.steps_per_epoch
        return replace(result, diverged=[updates if step is None else step for step in result.diverged])
    if result.diverged == [None]:
        model = model_file.of(trainer.network, training.setup, training.samples, spec, settings, result)
        model_file.save(job.save, model)
    return result
