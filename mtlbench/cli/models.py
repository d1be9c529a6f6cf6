"""Commands for those who want one network: train and keep it, and apply it; what needs torch is imported in them."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from mtlbench.cli.console import complain, open_console, warn
from mtlbench.cli.options import DEFAULT_SETUP, BatchOption, DeviceOption, EpochsOption, LrOption, PluginOption
from mtlbench.cli.stopping import stoppable
from mtlbench.contracts.metrics import named_score
from mtlbench.errors import UserError
from mtlbench.records.roles import FIRST_TUNING_SEED

if TYPE_CHECKING:
    from mtlbench.models.model_file import Card


def run_train(
    strategy: Annotated[str, typer.Argument(metavar="STRATEGY", help="As name:hyper=value.")],
    save: Annotated[Path, typer.Option(help="File to keep the network in (.safetensors).")],
    force: Annotated[bool, typer.Option("--force", help="Replace that file if it is there.")] = False,
    setup: Annotated[str, typer.Option(help="Tasks, data and network; see `mtlbench list`.")] = DEFAULT_SETUP,
    seed: Annotated[int, typer.Option(help="Fixes initial weights and the order of the data.")] = 0,
    epochs: EpochsOption = 2,
    batch_size: BatchOption = 64,
    lr: LrOption = 1e-3,
    device: DeviceOption = "auto",
    plugin: PluginOption = None,
) -> None:
    """Train one network with one strategy and keep it in a file for `mtlbench predict`, or for plain torch.

    It is the training of a bench with that seed. The file is in safetensors format: parameters by plain names
    (trunk.0.weight, ..., heads.TASK.weight) and, as metadata, all that is needed to use them.

    Example: `mtlbench train gradnorm:alpha=0.5 --save digits.safetensors --epochs 5`

    Exit code 1: training failed or diverged, and nothing was kept; 2: what was asked cannot be done.
    """
    if not 0 <= seed < FIRST_TUNING_SEED:
        raise UserError(f"--seed must be >= 0 and < 2^62 (the others tune), not {seed}")
    _check_target(save, force=force)
    console = open_console()
    console.print("starting: loading torch and the strategies", highlight=False)
    from mtlbench.bench.processes import ProcessError
    from mtlbench.cli import progress
    from mtlbench.data import datasets
    from mtlbench.models import model_file, train_one

    planned = train_one.plan(
        strategy, setup, seed, epochs=epochs, batch_size=batch_size, lr=lr, device=device, plugins=plugin or []
    )
    warn(planned.problems)
    if planned.setup.dataset is not None:
        datasets.fetch(planned.setup.dataset, lambda text: console.print(text, highlight=False))
    try:
        with stoppable("nothing was kept"), progress.display(console) as display:
            result = train_one.train(planned, save, display)
    except ProcessError as error:
        complain(f"{planned.spec.label} failed, and nothing was kept: {error}")
        raise typer.Exit(1) from None
    if result.diverged != [None]:
        complain(
            f"{planned.spec.label} diverged at step {result.diverged[0]:,}, and nothing was kept: try a lower --lr"
        )
        raise typer.Exit(1)
    console.print(scores(model_file.load(save).card))
    console.print(f"kept in {save}", highlight=False, markup=False, soft_wrap=True)


def run_predict(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="What `mtlbench train` has kept.")],
    pictures: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="PNG or JPEG pictures, or idx files of any number of images."),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="A list of objects instead of a table.")] = False,
) -> None:
    """Say what a trained network sees in pictures: for each task its answer and how probable it holds it.

    A picture may have any size and colours, dark on light or light on dark: the figure is found, scaled and placed as
    in the images that were trained on. Images of 28 x 28 in an idx file are taken as they are.

    With --json, an object per image: `file`; `index`, its place in an idx file (null for a picture); and under `tasks`,
    by the task's name, `class` and its `probability`, or `answer` (true or false) and the `probability` of that answer,
    or `value`, or for a task of one's own its `outputs`.

    Example: `mtlbench predict digits.safetensors seven.png scan.jpg --json`

    Exit code 2: a file could not be used, which a line on standard error says; the others are answered.
    """
    from mtlbench.models import model_file, predictions

    trained = model_file.load(model)
    predictions.check(trained.card)
    answered: list[predictions.Prediction] = []
    failed = False
    for path in pictures:
        found, problems = predictions.predict(trained, path)
        answered += found
        warn(problems)
        failed = failed or bool(problems)
    if as_json:
        typer.echo(predictions.as_json(answered))
    elif answered:
        open_console().print(predictions.table(trained.card, answered))
    if failed:
        raise typer.Exit(2)


def _check_target(path: Path, *, force: bool) -> None:
    """See, before anything is trained, that a file can be written.

    Raises:
        UserError: it cannot, or it is there.
    """
    if path.is_dir():
        raise UserError(f"--save {path} is a folder: name a file in it")
    if path.exists() and not force:
        raise UserError(f"--save {path} is already there: name another file, or replace it with --force")
    if not path.parent.is_dir():
        raise UserError(f"--save {path}: there is no folder {path.parent}")
    try:
        with tempfile.NamedTemporaryFile(prefix=".", suffix=f"-{path.name}", dir=path.parent):
            pass
    except OSError as error:
        raise UserError(f"--save {path} cannot be written: {error.strerror}") from None


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
