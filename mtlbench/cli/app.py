"""The program: its commands and exit codes. Each command imports torch only if it needs it."""

from __future__ import annotations

import errno
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from mtlbench import __version__
from mtlbench.cli import bench, compare, data, models, plugins, report, selftest
from mtlbench.cli.console import complain
from mtlbench.cli.stopping import stoppable
from mtlbench.errors import UserError

CANNOT_WRITE = (
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ENOENT,
    errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.EIO,
)  # fmt: skip
COMMANDS = {
    "bench": bench.run_bench,
    "tune": bench.run_tune,
    "report": report.run_report,
    "compare": compare.run_compare,
    "selftest-stats": selftest.run_selftest,
    "list": plugins.run_list,
    "data": data.run_data,
    "check": plugins.run_check,
    "new": plugins.run_new,
    "check-setup": plugins.run_check_setup,
    "new-setup": plugins.run_new_setup,
    "train": models.run_train,
    "predict": models.run_predict,
}


class Stoppable(TyperGroup):
    """Commands that can be stopped at any time without damage, and then say so."""

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 - the context class depends on typer's version
        """Carry out a command."""
        with stoppable("stored results are intact"):
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

- `mtlbench bench --name quick --epochs 1 --seeds 3` takes about a minute

- `mtlbench list gradnorm` describes a strategy and its hyper-parameters

- `mtlbench report quick` makes tables and plots again from the stored runs

- `mtlbench new mine` writes a strategy to start from, `mtlbench check mine.py` checks it

- `mtlbench new-setup mine` and `mtlbench check-setup mine.py` do the same for your own data and tasks
""",
)
for name, command in COMMANDS.items():
    app.command(name)(command)


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
            f"stored results are intact: rerun the command to resume"
        )
        code = 2
    except Exception as error:
        # Usage errors of the command-line library, whose module depends on typer's version.
        message = getattr(error, "format_message", None)
        if message is None:
            raise
        if message():  # empty if the help was printed because there were no arguments
            complain(f"{message().rstrip('.')}; see --help")
        code = 2
    sys.exit(code if isinstance(code, int) else 0)
