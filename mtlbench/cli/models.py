"""The commands `train` and `predict`, for one network; what needs torch is imported when they run."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from mtlbench.cli.console import complain, open_console, plain, table_of, warn
from mtlbench.cli.data import fetch
from mtlbench.cli.options import (
    DEFAULT_SETUP,
    BatchOption,
    DeviceOption,
    EpochsOption,
    LrOption,
    PluginOption,
    PrecisionOption,
    ProductsOption,
)
from mtlbench.cli.stopping import stoppable
from mtlbench.contracts.metrics import named_score
from mtlbench.errors import UserError
from mtlbench.records.roles import FIRST_TUNING_SEED

if TYPE_CHECKING:
    from rich.table import Table

    from mtlbench.models.model_file import Card


def run_train(
    strategy: Annotated[str, typer.Argument(metavar="STRATEGY", help="A strategy as name:hyper=value.")],
    save: Annotated[Path, typer.Option(help="File to save the network to (.safetensors).")],
    force: Annotated[bool, typer.Option("--force", help="Replace that file if it exists.")] = False,
    setup: Annotated[str, typer.Option(help="Tasks, data and network; see `mtlbench list`.")] = DEFAULT_SETUP,
    seed: Annotated[int, typer.Option(help="Fixes the initial weights and the order of the samples.")] = 0,
    epochs: EpochsOption = 2,
    batch_size: BatchOption = 64,
    lr: LrOption = 1e-3,
    device: DeviceOption = "auto",
    products: ProductsOption = "auto",
    precision: PrecisionOption = "float32",
    plugin: PluginOption = None,
) -> None:
    """Train one network with one strategy and save it to a file, for `mtlbench predict` or plain torch.

    Training is the same as in a bench with that seed. The file has safetensors format: parameters with plain names
    (trunk.0.weight, ..., heads.TASK.weight) and, as metadata, everything that is needed to use them.

    Example: `mtlbench train gradnorm:alpha=0.5 --save digits.safetensors --epochs 5`

    Exit code 1: training failed or diverged, and nothing was saved; 2: the request is invalid.
    """
    if not 0 <= seed < FIRST_TUNING_SEED:
        raise UserError(f"--seed must be >= 0 and < 2^62 (larger seeds are for tuning); found {seed}")
    _check_target(save, force=force)
    console = open_console()
    console.print("starting: loading torch and the strategies", highlight=False)
    from mtlbench.bench.planning import TrainingRequest
    from mtlbench.bench.processes import ProcessError
    from mtlbench.cli import progress
    from mtlbench.models import model_file, train_one

    request = TrainingRequest(
        setups=[setup],
        strategies=[strategy],
        seeds=(seed,),
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        device=device,
        products=products,
        precision=precision,
        plugins=tuple(path.resolve() for path in plugin or []),
    )
    planned = train_one.plan(request)
    label = planned.job.spec.label
    warn(planned.problems)
    fetch([planned.setup], console)
    try:
        with stoppable("nothing was saved"), progress.display(console) as display:
            result = train_one.train(planned, save, display)
    except ProcessError as error:
        complain(f"{label} failed, and nothing was saved: {error}")
        raise typer.Exit(1) from None
    if result.diverged != [None]:
        complain(f"{label} diverged at step {result.diverged[0]:,}, and nothing was saved: try a lower --lr")
        raise typer.Exit(1)
    console.print(scores(model_file.load(save).card))
    plain(console, f"saved to {save}")


def run_predict(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A file saved by `mtlbench train`.")],
    pictures: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="PNG or JPEG pictures, or idx files with any number of images."),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list of objects instead of a table.")] = False,
) -> None:
    """Predict every task for pictures with a trained network; show each answer with its probability.

    A picture may have any size and colours, dark on light or light on dark: the figure is located, scaled and placed
    as in the training images. Images of 28 x 28 pixels in an idx file are used as they are.

    With --json, each image is an object with `file`, `index` (its index in an idx file, null for a picture) and
    `tasks`. For each task by name, this holds `class` and `probability`; or `answer` (true or false) and its
    `probability`; or `value`; or, for a task of another kind, `outputs`.

    Example: `mtlbench predict digits.safetensors seven.png scan.jpg --json`

    Exit code 2: a file could not be used, as a line on standard error says; the others are predicted.
    """
    from mtlbench.models import model_file, predictions

    trained = model_file.load(model)
    predictions.check(trained.card)
    predicted: list[predictions.Prediction] = []
    failed = False
    for path in pictures:
        of_file, problems = predictions.predict(trained, path)
        predicted += of_file
        warn(problems)
        failed |= bool(problems)
    if as_json:
        typer.echo(predictions.as_json(predicted))
    elif predicted:
        open_console().print(predictions.table(trained.card, predicted))
    if failed:
        raise typer.Exit(2)


def _check_target(path: Path, *, force: bool) -> None:
    """Check, before anything is trained, that a file can be written."""
    if path.is_dir():
        raise UserError(f"--save must be a file; found the folder {path}")
    if path.exists() and not force:
        raise UserError(f"--save {path} already exists: choose another file, or replace it with --force")
    if not path.parent.is_dir():
        raise UserError(f"--save must be in an existing folder; found {path}")
    try:
        with tempfile.NamedTemporaryFile(prefix=".", suffix=f"-{path.name}", dir=path.parent):
            pass
    except OSError as error:
        raise UserError(f"--save {path} cannot be written: {error.strerror}") from None


def scores(card: Card) -> Table:
    """Table of a model's losses and scores, with one row per task."""
    table = table_of("task", "validation loss", "validation score", "test loss", "test score", left=1)
    for task in card.tasks:
        row = [escape(task.name)]
        for split in (task.validation, task.test):
            row += [f"{split.loss:.4f}", named_score(split.score, task.metric)]
        table.add_row(*row)
    return table
