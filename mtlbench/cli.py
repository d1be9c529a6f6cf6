"""The command line. Everything that needs torch is imported by the command that needs it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from mtlbench import __version__
from mtlbench.errors import UserError
from mtlbench.seeds import FIRST_TUNING_SEED

if TYPE_CHECKING:
    from mtlbench.tasks import Setup

LOG_WIDTH = 120
MOST_SEEDS = 10_000
DEFAULT_SETUP = "mnist"

app = typer.Typer(
    name="mtlbench",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="""
Compare loss-weighting strategies for multi-task learning: accuracy, auxiliary error, throughput.

Examples:

- `mtlbench bench` trains every strategy on MNIST and writes results/default

- `mtlbench bench --name quick --epochs 1 --seeds 3` is done in about a minute

- `mtlbench list gradnorm` tells what a strategy computes and which hyper-parameters it has

- `mtlbench report quick` makes tables and plots again from the stored runs
""",
)

BENCH_HELP = """
Train strategies on setups and compare them; what is already there is not computed again.

Examples:

- `mtlbench bench --name alpha --strategies "gradnorm:alpha=0.5 gradnorm:alpha=1.5"`

- `mtlbench bench --name weights --strategies "fixed:weights=[1,0.1]" --epochs 5`

- `mtlbench bench --name mine --plugin mine.py --strategies mine --seeds 0,3,7`

- `mtlbench bench --name scales --setup "mnist mnist-aux-x100" --strategies "gradnorm imtl-l"`

- `mtlbench bench --name tuned --tuned --front` after `mtlbench tune --name tuned`

`fixed` (equal weights) and each task trained alone always take part. Exit code 1: a strategy failed; 2: what was
asked cannot be done.
"""

OutOption = Annotated[Path, typer.Option(help="Folder that benches are kept in.")]
PluginOption = Annotated[
    list[Path] | None, typer.Option("--plugin", help="Python file with further strategies; may be repeated.")
]


TUNE_HELP = """
Try hyper-parameters of strategies, the same number of settings for each, and keep the best by validation.

The first trial is the strategy as given; the others spread over the learning rate and the spaces that its
hyper-parameters declare, for `fixed` its weights. Trials run on seeds that no bench uses, are compared by the main
task's validation score, and cannot read the test set. `mtlbench bench --tuned` under that name uses what they chose.

Example: `mtlbench tune --name tuned --strategies "gradnorm cagrad" --trials 16`

Exit code 1: a strategy could not be tuned; 2: what was asked cannot be done.
"""

StrategiesOption = Annotated[
    list[str] | None,
    typer.Option(help="Strategies as name:hyper=value, separated by spaces; all by default. May be repeated."),
]
EpochsOption = Annotated[int, typer.Option(help="Passes over the training data.")]
BatchOption = Annotated[int, typer.Option(help="Samples of a step.")]
LrOption = Annotated[float, typer.Option(help="Learning rate of Adam.")]
SetupOption = Annotated[
    list[str] | None,
    typer.Option(help="Tasks, data and network, or several, separated by spaces (mnist); see `mtlbench list`."),
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
JobsOption = Annotated[int | None, typer.Option(help="Runs at a time; on cpu one per core by default.")]
NameOption = Annotated[str, typer.Option(help="Name of the bench, its folder under --out.")]


@app.command("bench", help=BENCH_HELP)
def run_bench(
    strategies: StrategiesOption = None,
    seeds: Annotated[str, typer.Option(help="How many (12), or which (0,3,7; one seed as 3,).")] = "12",
    epochs: EpochsOption = 2,
    batch_size: BatchOption = 64,
    lr: LrOption = 1e-3,
    setup: SetupOption = None,
    tuned: Annotated[bool, typer.Option("--tuned", help="Also run what `mtlbench tune` has chosen.")] = False,
    front: Annotated[bool, typer.Option("--front", help="Also sweep fixed weights over main-task shares.")] = False,
    device: DeviceOption = "auto",
    jobs: JobsOption = None,
    name: NameOption = "default",
    out: OutOption = Path("results"),
    plugin: PluginOption = None,
) -> None:
    """Train strategies on setups and compare them."""
    chosen = _seeds(seeds)
    _check_name(name)
    console = _console()
    console.print("starting: loading torch and the strategies", highlight=False)
    from mtlbench import bench, progress, report, terminal
    from mtlbench.planning import Request, plan

    planned = plan(
        Request(
            name=name,
            out=out,
            setups=_words(setup) or [DEFAULT_SETUP],
            strategies=_strategies(strategies),
            seeds=chosen,
            epochs=epochs,
            batch_size=batch_size,
            lr=lr,
            device=device,
            jobs=jobs,
            plugins=tuple(path.resolve() for path in plugin or []),
            command=shlex.join(["mtlbench", *sys.argv[1:]]),
            tuned=tuned,
            front=front,
        )
    )
    _warn(planned.registry.problems)
    planned.store.prepare()
    _fetch([run.setup for run in planned.runs], console)
    with _stoppable(), progress.display(console) as display:
        complete = bench.execute(planned, display)
    console.print("making tables and plots", highlight=False)
    terminal.show(report.make(planned.store), console)
    if not complete:
        raise typer.Exit(1)


@app.command("tune", help=TUNE_HELP)
def run_tune(
    strategies: StrategiesOption = None,
    trials: Annotated[int, typer.Option(help="Settings tried per strategy, the same number for each.")] = 16,
    tuning_seeds: Annotated[int, typer.Option(help="Seeds of each trial.")] = 2,
    epochs: EpochsOption = 2,
    batch_size: BatchOption = 64,
    lr: LrOption = 1e-3,
    setup: SetupOption = None,
    device: DeviceOption = "auto",
    jobs: JobsOption = None,
    name: NameOption = "default",
    out: OutOption = Path("results"),
    plugin: PluginOption = None,
) -> None:
    """Try hyper-parameters of strategies under one budget."""
    if not 1 <= tuning_seeds <= MOST_SEEDS:
        raise UserError(f"--tuning-seeds must be between 1 and {MOST_SEEDS}, not {tuning_seeds}")
    _check_name(name)
    console = _console()
    console.print("starting: loading torch and the strategies", highlight=False)
    from mtlbench import progress, tune
    from mtlbench.planning import Request

    planned = tune.plan_tuning(
        Request(
            name=name,
            out=out,
            setups=_words(setup) or [DEFAULT_SETUP],
            strategies=_strategies(strategies),
            seeds=tune.tuning_seeds(tuning_seeds),
            epochs=epochs,
            batch_size=batch_size,
            lr=lr,
            device=device,
            jobs=jobs,
            plugins=tuple(path.resolve() for path in plugin or []),
            command=shlex.join(["mtlbench", *sys.argv[1:]]),
        ),
        trials,
    )
    planned.store.prepare()
    _fetch([tuning.setup for tuning in planned.tunings], console)
    with _stoppable(), progress.display(console) as display:
        complete = tune.execute(planned, display)
    if not complete:
        raise typer.Exit(1)


@app.command("report")
def run_report(
    name: Annotated[str, typer.Argument(help="Name of the bench.")] = "default",
    out: OutOption = Path("results"),
) -> None:
    """Make the tables, plots and README of a bench again from its stored runs.

    Example: `mtlbench report reference`
    """
    _check_name(name)
    from mtlbench import report, terminal
    from mtlbench.store import Store

    terminal.show(report.make(Store(out / name)), _console())


@app.command("compare")
def run_compare(
    before: Annotated[str, typer.Argument(help="Name of the earlier bench.")],
    after: Annotated[str, typer.Argument(help="Name of the later bench.")],
    out: OutOption = Path("results"),
) -> None:
    """Say what changed between two benches: conditions that differ, and every common run, paired by seed.

    Example: `mtlbench compare reference mine`
    """
    _check_name(before)
    _check_name(after)
    from mtlbench import versus
    from mtlbench.store import Store

    versus.show(versus.versus(Store(out / before), Store(out / after)), _console())


@app.command("selftest-stats")
def run_selftest(
    name: Annotated[str, typer.Argument(help="A bench of at least 12 seeds.")] = "reference",
    resamplings: Annotated[int, typer.Option(help="Comparisons of each kind per run and task.", min=1)] = 200,
    out: OutOption = Path("results"),
) -> None:
    """Test the tests on stored runs: halves of the same seeds against each other, and with a planted difference.

    Exit code 1: differences are declared where there are none, or planted ones are missed.
    """
    _check_name(name)
    from mtlbench import selftest
    from mtlbench.store import Store

    if not selftest.show(*selftest.run(Store(out / name), resamplings), _console()):
        raise typer.Exit(1)


@app.command("list")
def run_list(
    name: Annotated[str | None, typer.Argument(help="A strategy, to read what it computes.")] = None,
    plugin: PluginOption = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="The table of strategies as in the README.")] = False,
) -> None:
    """List strategies with their hyper-parameters and setups; with a name, that strategy's description.

    Example: `mtlbench list gradnorm`
    """
    from mtlbench import catalogue
    from mtlbench.registry import Registry

    registry = Registry.load(tuple(plugin or []))
    _warn(registry.problems)
    console = _console()
    if markdown:
        console.print(catalogue.markdown(registry), highlight=False, markup=False, soft_wrap=True)
    elif name is None:
        catalogue.show_all(registry, console)
    else:
        catalogue.show_one(registry, name, console)


@app.command("data")
def run_data() -> None:
    """Fetch MNIST and Fashion-MNIST into the cache, verify them, and say where they are.

    The cache is $MTLBENCH_DATA, by default `mtlbench` in the user's cache folder.
    """
    from mtlbench import data

    console = _console()
    for dataset in (data.MNIST, data.FASHION_MNIST):
        where = data.fetch(dataset, lambda text: console.print(text, highlight=False))
        console.print(f"{dataset.title} is verified in {where}", highlight=False, soft_wrap=True)


def _fetch(setups: Sequence[Setup], console: Console) -> None:
    """Have the data of these setups in the cache."""
    from mtlbench import data

    for dataset in {setup.dataset.title: setup.dataset for setup in setups if setup.dataset}.values():
        data.fetch(dataset, lambda text: console.print(text, highlight=False))


@contextmanager
def _stoppable() -> Generator[None]:
    """Within this, Ctrl-C ends the program with a line that says how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        _complain("stopped; what is finished is kept, and the same command goes on from there")
        raise typer.Exit(130) from None


def _words(texts: list[str] | None) -> list[str]:
    return [word for text in texts or [] for word in text.replace(",", " ").split()]


def _strategies(texts: list[str] | None) -> list[str]:
    from mtlbench.labels import split_specs

    return split_specs(texts or [])


def _console() -> Console:
    """Of the terminal's width; in a log, wide enough for the table."""
    console = Console()
    return console if console.is_terminal else Console(width=LOG_WIDTH)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mtlbench {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Options of the program itself."""


def main() -> None:
    """Run the command line; a `UserError` becomes one line and exit code 2."""
    try:
        code = app(standalone_mode=False)
    except UserError as error:
        _complain(str(error))
        code = 2
    except typer.Abort:
        code = 130
    except Exception as error:
        # Usage errors of the command-line library, whichever module it takes them from.
        shown = getattr(error, "format_message", None)
        if shown is None:
            raise
        if shown():  # without arguments the help has been printed, and nothing is left to say
            _complain(f"{shown().rstrip('.')}; see --help")
        code = 2
    sys.exit(code if isinstance(code, int) else 0)


def _seeds(text: str) -> tuple[int, ...]:
    """`10` is 0 to 9; `0,3,7` is those; `3,` is 3 alone."""
    try:
        values = [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise UserError(f"--seeds takes a count (10) or a list (0,3,7), not {text!r}") from None
    if "," not in text and len(values) == 1 and values[0] > MOST_SEEDS:
        raise UserError(f"--seeds takes at most {MOST_SEEDS} seeds, not {text}")
    if "," not in text and len(values) == 1:
        values = list(range(values[0]))
    if not values or min(values) < 0 or max(values) >= FIRST_TUNING_SEED:
        raise UserError(f"--seeds takes at least one seed, each >= 0 and < 2^62 (the others tune), not {text!r}")
    repeated = sorted({seed for seed in values if values.count(seed) > 1})
    if repeated:
        raise UserError(f"--seeds names {', '.join(map(str, repeated))} more than once")
    return tuple(values)


def _check_name(name: str) -> None:
    if not name or not all(char.isalnum() or char in "-_." for char in name) or name.startswith("."):
        raise UserError(f"a bench's name is letters, digits, dashes, dots and underscores, not {name!r}")


def _warn(problems: list[str]) -> None:
    for problem in problems:
        _complain(problem)


def _complain(text: str) -> None:
    typer.echo(f"mtlbench: {text}", err=True)
