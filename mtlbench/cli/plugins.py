"""Commands on strategies and setups: `list`, `check`, `check-setup`, `new` and `new-setup`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mtlbench.cli.console import open_console, plain, warn
from mtlbench.cli.options import PluginOption

if TYPE_CHECKING:
    from mtlbench.contracts.collection import Kind

FolderOption = Annotated[
    Path | None,
    typer.Option(
        "--out", help="Folder for both files; by default `strategies` or `setups`, and `tests`, if these folders exist."
    ),
]


def run_list(
    name: Annotated[str | None, typer.Argument(help="A strategy or setup to describe.")] = None,
    plugin: PluginOption = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the README's table of strategies.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the strategies as a JSON list of objects.")] = False,
) -> None:
    """List strategies by family with their hyper-parameters, and setups; with a name, describe that one.

    With --json, each strategy is an object with `name`, `family`, `source`, `needs`, `losses` (`any` or `positive`),
    `heads` and `hyper`, the hyper-parameters with their defaults as on the command line.

    Example: `mtlbench list gradnorm`
    """
    from mtlbench.cli import listing
    from mtlbench.plugins.registry import Registry

    registry = Registry.load(tuple(plugin or []))
    warn(registry.problems)
    console = open_console()
    if as_json:
        typer.echo(listing.as_json(registry))
    elif markdown:
        plain(console, listing.markdown(registry))
    elif name is None:
        listing.show_all(registry, console)
    else:
        listing.show_one(registry, name, console)


def run_check(
    targets: Annotated[
        list[str], typer.Argument(metavar="NAME|FILE...", help="Strategies as name:hyper=value, or their Python files.")
    ],
    plugin: PluginOption = None,
) -> None:
    """Check that strategies keep the contract before they are benchmarked, with one line per property.

    A failing property is shown with the smallest counterexample found. All strategies that a file registers are
    checked.

    Examples: `mtlbench check mine.py`, `mtlbench check gradnorm:alpha=0.5 cagrad`

    Exit code 1: a property fails; 2: a strategy or file does not exist or cannot be loaded.
    """
    import torch

    from mtlbench.check import check, show, subjects

    torch.set_num_threads(1)  # these tensors are too small for more threads
    chosen = subjects(targets, plugin or [])
    warn(chosen[0].registry.problems)
    console = open_console()
    kept = [show(f"{subject.spec.label}  {subject.file}", check(subject), console) for subject in chosen]
    if not all(kept):
        raise typer.Exit(1)


def run_check_setup(
    targets: Annotated[
        list[str], typer.Argument(metavar="NAME|FILE...", help="Names of setups, or their Python files.")
    ],
    plugin: PluginOption = None,
) -> None:
    """Check that setups are what they declare before anything is trained on them, with one line per property.

    A failing property is shown with the first sample or the numbers that violate it. All setups that a file registers
    are checked.

    Examples: `mtlbench check-setup mine.py`, `mtlbench check-setup toy-regression`

    Exit code 1: a property fails; 2: a setup or file does not exist or cannot be loaded.
    """
    import torch

    from mtlbench.check import check_setup, setup_subjects, show
    from mtlbench.cli.data import fetch

    torch.set_num_threads(1)
    chosen = setup_subjects(targets, plugin or [])
    warn(chosen[0].registry.problems)
    console = open_console()
    fetch([subject.setup for subject in chosen], console)
    kept = [show(f"{subject.setup.name}  {subject.file}", check_setup(subject), console) for subject in chosen]
    if not all(kept):
        raise typer.Exit(1)


def run_new(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Name of the new strategy: lower-case words joined by dashes.")
    ],
    out: FolderOption = None,
) -> None:
    """Write a strategy to start from and its test: a small published method with explanatory comments.

    Both pass `mtlbench check` and pytest as they are.

    Example: `mtlbench new inverse-loss`
    """
    _write("strategy", name, out)


def run_new_setup(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Name of the new setup: lower-case words joined by dashes.")
    ],
    out: FolderOption = None,
) -> None:
    """Write a setup to start from and its test: data, tasks and network with explanatory comments.

    Both pass `mtlbench check-setup` and pytest as they are.

    Example: `mtlbench new-setup noisy-digits`
    """
    _write("setup", name, out)


def _write(kind: Kind, name: str, out: Path | None) -> None:
    from mtlbench.cli import scaffold

    console = open_console()
    plugin, test = scaffold.write(kind, name, out)
    for line in (f"wrote {plugin}", f"wrote {test}", *scaffold.next_steps(kind, name, plugin, test)):
        plain(console, line)
