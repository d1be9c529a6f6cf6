"""One seed of one strategy, trained as in a bench, with its network kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from mtlbench import jobs, planning
from mtlbench.execution import PRELOAD, Display, Shown
from mtlbench.metrics import named_score
from mtlbench.models import Card
from mtlbench.records import Settings, Spec
from mtlbench.results import Result
from mtlbench.tasks import Setup
from mtlbench.workers import Workers


@dataclass(frozen=True)
class Planned:
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
) -> Planned:
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
    return Planned(chosen, spec, settings, planning.files_needed(request, origins), origins, registry.problems)


def train(planned: Planned, save: Path, display: Display) -> Result:
    """Train in a process of its own, as every run is, and keep the network unless its training diverged.

    Raises:
        WorkerError: training failed, or the file cannot be written.
    """
    shown = Shown(display, planned.spec.label, planned.settings.epochs)
    stack = jobs.StackJob(
        planned.spec, planned.settings, planned.settings.seeds, planned.plugins, packages=planned.origins
    )
    workers = Workers(PRELOAD)
    try:
        result = workers.call(jobs.train_model, jobs.ModelJob(stack, save.resolve()), shown.report)
        shown.end("done")
    finally:
        workers.stop()
    return result


def scores(card: Card) -> Table:
    """A model's losses and scores, a row for each task."""
    table = Table(box=SIMPLE_HEAD, header_style="bold", pad_edge=False)
    table.add_column("task")
    for split in ("validation", "test"):
        table.add_column(f"{split} loss", justify="right")
        table.add_column(f"{split} score", justify="right")
    for task in card.tasks:
        cells = (
            cell
            for each in (task.validation, task.test)
            for cell in (f"{each.loss:.4f}", named_score(each.score, task.metric))
        )
        table.add_row(escape(task.name), *cells)
    return table
