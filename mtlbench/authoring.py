"""Commands for those who write a strategy; what needs torch is imported when they run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mtlbench.console import open_console, warn
from mtlbench.options import PluginOption


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
    kept = [show(subject, check(subject), console) for subject in chosen]
    if not all(kept):
        raise typer.Exit(1)


def run_new(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="What the strategy is to be called: lower-case words joined by dashes."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for both files; by default strategies and tests, where there are such folders."),
    ] = None,
) -> None:
    """Write a strategy to start from and its test: a small published method, with comments on what is where and why.

    Both pass `mtlbench check` and pytest as they are.

    Example: `mtlbench new inverse-loss`
    """
    from mtlbench import scaffold

    console = open_console()
    strategy, test = scaffold.write(name, out)
    for line in (f"wrote {strategy}", f"wrote {test}", *scaffold.next_steps(name, strategy, test)):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
