"""The command line. Everything that needs torch is imported by the command that needs it."""

from __future__ import annotations

import errno
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from mtlbench import __version__
from mtlbench.cli import authoring, bench, models
from mtlbench.cli.console import complain, open_console, warn
from mtlbench.cli.options import BENCH_HELP, TUNE_HELP, OutOption, PluginOption, check_name
from mtlbench.cli.stopping import stoppable
from mtlbench.errors import UserError

CANNOT_WRITE = (
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ENOENT,
    errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.EIO,
)  # fmt: skip


class Stoppable(TyperGroup):
    """The commands, each of which says when it is stopped that nothing is broken by that."""

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 - the context is that of whichever library typer is built on
        """Carry out a command."""
        with stoppable("what is stored is whole"):
            return super().invoke(ctx)


app = typer.Typer(
    name="mtlbench",
    cls=Stoppable,
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

- `mtlbench new-setup mine` and `mtlbench check-setup mine.py` do the same for data and tasks of one's own
""",
)


app.command("bench", help=BENCH_HELP)(bench.run_bench)
app.command("tune", help=TUNE_HELP)(bench.run_tune)


@app.command("report")
def run_report(
    name: Annotated[str, typer.Argument(help="Name of the bench.")] = "default",
    out: OutOption = Path("results"),
) -> None:
    """Make the tables, plots and README of a bench again from its stored runs.

    Example: `mtlbench report reference`
    """
    check_name(name)
    from mtlbench.records.store import Store
    from mtlbench.report import terminal
    from mtlbench.report.writing import write_report

    terminal.show(write_report(Store(out / name)), open_console())


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
    from mtlbench.cli import compare
    from mtlbench.records.store import Store
    from mtlbench.stats.two_benches import versus

    compare.show(versus(Store(out / before), Store(out / after)), open_console())


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
    from mtlbench.cli import selftest as shown
    from mtlbench.records.store import Store
    from mtlbench.stats import selftest

    if not shown.show(*selftest.run(Store(out / name), resamplings), open_console()):
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
    from mtlbench.cli import listing
    from mtlbench.plugins.registry import Registry

    registry = Registry.load(tuple(plugin or []))
    warn(registry.problems)
    console = open_console()
    if markdown:
        console.print(listing.markdown(registry), highlight=False, markup=False, soft_wrap=True)
    elif name is None:
        listing.show_all(registry, console)
    else:
        listing.show_one(registry, name, console)


@app.command("data")
def run_data() -> None:
    """Fetch MNIST and Fashion-MNIST into the cache, verify them, and say where they are.

    The cache is $MTLBENCH_DATA, by default `mtlbench` in the user's cache folder.
    """
    from mtlbench.data import datasets

    console = open_console()
    for dataset in (datasets.MNIST, datasets.FASHION_MNIST):
        where = datasets.fetch(dataset, lambda text: console.print(text, highlight=False))
        console.print(f"{dataset.title} is verified in {where}", highlight=False, soft_wrap=True)


app.command("check")(authoring.run_check)
app.command("new")(authoring.run_new)
app.command("check-setup")(authoring.run_check_setup)
app.command("new-setup")(authoring.run_new_setup)
app.command("train")(models.run_train)
app.command("predict")(models.run_predict)


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
        file = error.filename2 or error.filename or "a file"
        complain(
            f"{file} cannot be used ({error.strerror}): make room, or choose another folder with --out; "
            f"what is stored is whole, and the same command goes on from there"
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
