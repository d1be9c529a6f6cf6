"""The command line. Everything that needs torch is imported by the command that needs it."""

from __future__ import annotations

import errno
import shlex
import signal
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mtlbench import __version__, authoring
from mtlbench.console import complain, open_console, warn
from mtlbench.errors import UserError
from mtlbench.options import (
    BENCH_HELP,
    DEFAULT_SETUP,
    MOST_SEEDS,
    TUNE_HELP,
    BatchOption,
    ClusterOption,
    DeviceOption,
    EpochsOption,
    FrontOption,
    JobsOption,
    LrOption,
    NameOption,
    OutOption,
    PluginOption,
    RunMemoryOption,
    RunTimeoutOption,
    SeedsOption,
    SetupOption,
    StrategiesOption,
    TrialsOption,
    TunedOption,
    TuningSeedsOption,
    check_name,
    seeds_of,
    words_of,
)

if TYPE_CHECKING:
    from rich.console import Console

    from mtlbench.tasks import Setup

CANNOT_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)

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

- `mtlbench new mine` writes a strategy to start from, `mtlbench check mine.py` proves it
""",
)


@app.command("bench", help=BENCH_HELP)
def run_bench(
    strategies: StrategiesOption = None,
    seeds: SeedsOption = "12",
    epochs: EpochsOption = 2,
    batch_size: BatchOption = 64,
    lr: LrOption = 1e-3,
    setup: SetupOption = None,
    tuned: TunedOption = False,
    front: FrontOption = False,
    device: DeviceOption = "auto",
    jobs: JobsOption = None,
    run_timeout: RunTimeoutOption = None,
    run_memory: RunMemoryOption = None,
    cluster: ClusterOption = None,
    name: NameOption = "default",
    out: OutOption = Path("results"),
    plugin: PluginOption = None,
) -> None:
    """Train strategies on setups and compare them."""
    chosen = seeds_of(seeds)
    check_name(name)
    console = open_console()
    console.print("starting: loading torch and the strategies", highlight=False)
    from mtlbench import bench, progress, report, terminal
    from mtlbench.planning import Request, plan

    planned = plan(
        Request(
            name=name,
            out=out,
            setups=words_of(setup) or [DEFAULT_SETUP],
            strategies=_strategies(strategies),
            seeds=chosen,
            epochs=epochs,
            batch_size=batch_size,
            lr=lr,
            device=device,
            jobs=jobs,
            run_timeout=run_timeout,
            run_memory=run_memory,
            cluster=cluster,
            plugins=tuple(path.resolve() for path in plugin or []),
            command=shlex.join(["mtlbench", *sys.argv[1:]]),
            tuned=tuned,
            front=front,
        )
    )
    warn(planned.registry.problems)
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
    trials: TrialsOption = 16,
    tuning_seeds: TuningSeedsOption = 2,
    epochs: EpochsOption = 2,
    batch_size: BatchOption = 64,
    lr: LrOption = 1e-3,
    setup: SetupOption = None,
    device: DeviceOption = "auto",
    jobs: JobsOption = None,
    run_timeout: RunTimeoutOption = None,
    run_memory: RunMemoryOption = None,
    cluster: ClusterOption = None,
    name: NameOption = "default",
    out: OutOption = Path("results"),
    plugin: PluginOption = None,
) -> None:
    """Try hyper-parameters of strategies under one budget."""
    if not 1 <= tuning_seeds <= MOST_SEEDS:
        raise UserError(f"--tuning-seeds must be between 1 and {MOST_SEEDS}, not {tuning_seeds}")
    check_name(name)
    console = open_console()
    console.print("starting: loading torch and the strategies", highlight=False)
    from mtlbench import progress, tune
    from mtlbench.planning import Request

    planned = tune.plan_tuning(
        Request(
            name=name,
            out=out,
            setups=words_of(setup) or [DEFAULT_SETUP],
            strategies=_strategies(strategies),
            seeds=tune.tuning_seeds(tuning_seeds),
            epochs=epochs,
            batch_size=batch_size,
            lr=lr,
            device=device,
            jobs=jobs,
            run_timeout=run_timeout,
            run_memory=run_memory,
            cluster=cluster,
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
    check_name(name)
    from mtlbench import report, terminal
    from mtlbench.store import Store

    terminal.show(report.make(Store(out / name)), open_console())


@app.command("compare")
def run_compare(
    before: Annotated[str, typer.Argument(help="Name of the earlier bench.")],
    after: Annotated[str, typer.Argument(help="Name of the later bench.")],
    out: OutOption = Path("results"),
) -> None:
    """Say what changed between two benches: conditions that differ, and every common run, paired by seed.

    Example: `mtlbench compare reference mine`
    """
    check_name(before)
    check_name(after)
    from mtlbench import versus
    from mtlbench.store import Store

    versus.show(versus.versus(Store(out / before), Store(out / after)), open_console())


@app.command("selftest-stats")
def run_selftest(
    name: Annotated[str, typer.Argument(help="A bench of at least 12 seeds.")] = "reference",
    resamplings: Annotated[int, typer.Option(help="Comparisons of each kind per run and task.", min=1)] = 200,
    out: OutOption = Path("results"),
) -> None:
    """Test the tests on stored runs: halves of the same seeds against each other, and with a planted difference.

    Exit code 1: differences are declared where there are none, or planted ones are missed.
    """
    check_name(name)
    from mtlbench import selftest
    from mtlbench.store import Store

    if not selftest.show(*selftest.run(Store(out / name), resamplings), open_console()):
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
    warn(registry.problems)
    console = open_console()
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

    console = open_console()
    for dataset in (data.MNIST, data.FASHION_MNIST):
        where = data.fetch(dataset, lambda text: console.print(text, highlight=False))
        console.print(f"{dataset.title} is verified in {where}", highlight=False, soft_wrap=True)


app.command("check")(authoring.run_check)
app.command("new")(authoring.run_new)


def _fetch(setups: Sequence[Setup], console: Console) -> None:
    """Have the data of these setups in the cache."""
    from mtlbench import data

    for dataset in {setup.dataset.title: setup.dataset for setup in setups if setup.dataset}.values():
        data.fetch(dataset, lambda text: console.print(text, highlight=False))


@contextmanager
def _stoppable() -> Generator[None]:
    """Within this, Ctrl-C and SIGTERM end the program with a line that says how to go on."""
    received = signal.SIGINT

    def stop(number: int, _: object) -> None:
        nonlocal received
        received = signal.Signals(number)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except KeyboardInterrupt:
        complain("stopped; finished runs and epochs are kept, and the same command goes on from there")
        raise typer.Exit(128 + received) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _strategies(texts: list[str] | None) -> list[str]:
    from mtlbench.labels import split_specs

    return split_specs(texts or [])


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
        complain(str(error))
        code = 2
    except typer.Abort:
        code = 130
    except OSError as error:
        if error.errno not in CANNOT_WRITE:
            raise
        complain(
            f"{error.filename or 'a file'} cannot be used ({error.strerror}): make room, or choose another folder "
            f"with --out; what is stored is whole, and the same command goes on from there"
        )
        code = 2
    except Exception as error:
        # Usage errors of the command-line library, whichever module it takes them from.
        shown = getattr(error, "format_message", None)
        if shown is None:
            raise
        if shown():  # without arguments the help has been printed, and nothing is left to say
            complain(f"{shown().rstrip('.')}; see --help")
        code = 2
    sys.exit(code if isinstance(code, int) else 0)
