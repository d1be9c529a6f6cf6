"""Commands for those who write a strategy or a setup; what needs torch is imported when they run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mtlbench.cli.console import open_console, warn
from mtlbench.cli.options import PluginOption

if TYPE_CHECKING:
    from rich.console import Console

FolderOption = Annotated[
    Path | None,
    typer.Option(
        "--out", help="Folder for both files; by default strategies or setups, and tests, where there are such folders."
    ),
]


def run_check(
    targets: Annotated[
        list[str], typer.Argument(metavar="NAME|FILE...", help="Strategies as name:hyper=value, or their Python files.")
    ],
    plugin: PluginOption = None,
) -> None:
    """Prove that a strategy keeps the contract, before it is benchmarked: one line for each property.

    A property that fails is shown by the smallest example that was found. Of a file, every strategy that it registers
    is checked.

    Examples: `mtlbench check mine.py`, `mtlbench check gradnorm:alpha=0.5 cagrad`

    Exit code 1: a property fails; 2: there is no such strategy or file, or it cannot be loaded.
    """
    import torch

    from mtlbench.check import check, show, subjects

    torch.set_num_threads(1)  # these tensors are too small to share out
    chosen = subjects(targets, plugin or [])
    warn(chosen[0].registry.problems)
    console = open_console()
    kept = [show(f"{subject.spec.label}  {subject.file}", check(subject), console) for subject in chosen]
    if not all(kept):
        raise typer.Exit(1)


def run_check_setup(
    targets: Annotated[
        list[str], typer.Argument(metavar="NAME|FILE...", help="Setups by name, or the Python files of some.")
    ],
    plugin: PluginOption = None,
) -> None:
    """Prove that a setup is what it declares, before anything is trained on it: one line for each property.

    A property that fails is shown by the first sample or the numbers that show it. Of a file, every setup that it
    registers is checked.

    Examples: `mtlbench check-setup mine.py`, `mtlbench check-setup toy-regression`

    Exit code 1: a property fails; 2: there is no such setup or file, or it cannot be loaded.
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
        str,
        typer.Argument(metavar="NAME", help="What the strategy is to be called: lower-case words joined by dashes."),
    ],
    out: FolderOption = None,
) -> None:
    """Write a strategy to start from and its test: a small published method, with comments on what is where and why.

    Both pass `mtlbench check` and pytest as they are.

    Example: `mtlbench new inverse-loss`
    """
    from mtlbench.cli import scaffold

    console = open_console()
    strategy, test = scaffold.write(name, out)
    _say(console, strategy, test, scaffold.next_steps(name, strategy, test))


def run_new_setup(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="What the setup is to be called: lower-case words joined by dashes.")
    ],
    out: FolderOption = None,
) -> None:
    """Write a setup to start from and its test: data, tasks and network, with comments on what is where and why.

    Both pass `mtlbench check-setup` and pytest as they are.

    Example: `mtlbench new-setup noisy-digits`
    """
    from mtlbench.cli import scaffold

    console = open_console()
    setup, test = scaffold.write_setup(name, out)
    _say(console, setup, test, scaffold.next_steps_of_setup(name, setup, test))


def _say(console: Console, plugin: Path, test: Path, steps: list[str]) -> None:
    for line in (f"wrote {plugin}", f"wrote {test}", *steps):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
