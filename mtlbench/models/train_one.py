"""One seed of one strategy, trained as in a bench, with its network kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mtlbench.bench import jobs, planning
from mtlbench.bench.display import Display, Shown
from mtlbench.bench.jobs import PRELOAD
from mtlbench.bench.processes import Processes
from mtlbench.contracts.setup import Setup
from mtlbench.models import model_file
from mtlbench.records.history import Result
from mtlbench.records.records import Settings, Spec


@dataclass(frozen=True)
class PlannedTraining:
    """A training that has been found sound; `problems` are lines on plugins that were left out.

    `plugins` are the files and `origins` all the plugins that strategy and setup are from.
    """

    setup: Setup
    spec: Spec
    settings: Settings
    plugins: tuple[Path, ...]
    origins: frozenset[str]
    problems: Sequence[str]


def plan(
    strategy: str,
    setup: str,
    seed: int,
    *,
    epochs: int,
    batch_size: int,
    lr: float,
    device: str,
    plugins: Sequence[Path],
) -> PlannedTraining:
    """Check a training of one seed as that of a bench is checked.

    Raises:
        UserError: something about it cannot be.
    """
    request = planning.Request(
        name="",
        out=Path(),
        setups=[setup],
        strategies=[strategy],
        seeds=(seed,),
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        device=device,
        jobs=None,
        plugins=tuple(path.resolve() for path in plugins),
        command="",
    )
    (chosen,), conditions, registry = planning.check(request)
    spec = registry.parse(strategy, chosen)
    settings = planning.settings_on(chosen, conditions)
    origins = registry.needed([spec.name], chosen.name)
    return PlannedTraining(chosen, spec, settings, planning.files_needed(request, origins), origins, registry.problems)


def train(planned: PlannedTraining, save: Path, display: Display) -> Result:
    """Train in a process of its own, as every run is, and keep the network unless its training diverged.

    Raises:
        ProcessError: training failed, or the file cannot be written.
    """
    shown = Shown(display, planned.spec.label, planned.settings.epochs)
    stack = jobs.StackJob(
        planned.spec, planned.settings, planned.settings.seeds, planned.plugins, packages=planned.origins
    )
    workers = Processes(PRELOAD)
    try:
        result = workers.call(train_model, ModelJob(stack, save.resolve()), shown.report)
        shown.end("done")
    finally:
        workers.stop()
    return result


@dataclass(frozen=True)
class ModelJob:
    """Train one seed of a strategy and keep the network in the file `save`."""

    stack: jobs.StackJob
    save: Path


def train_model(job: ModelJob, report: jobs.Notify) -> Result:
    """Likewise for one seed; the network is kept as it is after the last epoch, unless its training diverged."""
    result, trainer, setup, samples = jobs.trained(job.stack, report)
    spec, settings = job.stack.spec, job.stack.settings
    if not trainer.network.parameters.isfinite().all():  # the last update is seen by no loss
        updates = settings.epochs * trainer.steps_per_epoch
        return replace(result, diverged=[updates if at is None else at for at in result.diverged])
    if result.diverged == [None]:
        model_file.save(job.save, model_file.of(trainer.network, setup, samples, spec, settings, result))
    return result
