"""What `mtlbench list` shows."""

from __future__ import annotations

import inspect

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mtlbench.registry import SINGLE, TORCHJD, Registry, torchjd_methods, written
from mtlbench.setups import SETUPS


def show_all(registry: Registry, console: Console) -> None:
    """Every strategy with what it is, its hyper-parameters and their defaults; then baselines and setups."""
    table = Table(header_style="bold", pad_edge=False)
    for header in ("strategy", "what it is", "hyper-parameters"):
        table.add_column(header, overflow="fold")
    for name, cls in registry.strategies.items():
        first = (inspect.getdoc(cls) or "").partition("\n")[0]
        hyper = "\n".join(f"{key}={written(p.default)}" for key, p in registry.parameters(name).items())
        table.add_row(name, escape(first), escape(hyper))
    for setup in SETUPS.values():
        for task in setup.task_names:
            table.add_row(f"{SINGLE}:{task}", f"baseline: {task} of {setup.name} trained alone", "")
    console.print(table)
    for setup in SETUPS.values():
        console.print(f"setup {setup.name}: {setup.about}", highlight=False, markup=False)
    console.print(f"{TORCHJD}:NAME is a method of TorchJD; mtlbench list {TORCHJD} names them", highlight=False)


def show_torchjd(registry: Registry, console: Console) -> None:
    """The methods of TorchJD that can be named as `torchjd:NAME`.

    Raises:
        UserError: TorchJD is not installed.
    """
    table = Table(header_style="bold", pad_edge=False)
    for header in ("strategy", "what it is", "hyper-parameters"):
        table.add_column(header, overflow="fold")
    for name in (f"{TORCHJD}:{method}" for method in torchjd_methods()):
        first = (inspect.getdoc(registry.get(name)) or "").partition("\n")[0]
        hyper = ", ".join(f"{key}={written(p.default)}" for key, p in registry.parameters(name).items())
        table.add_row(name, escape(first), escape(hyper))
    console.print(table)


def show_one(registry: Registry, name: str, console: Console) -> None:
    """The description of one strategy, its hyper-parameters and its file; `torchjd` stands for all of TorchJD's.

    Raises:
        UserError: no strategy has that name.
    """
    if name == TORCHJD:
        show_torchjd(registry, console)
        return
    cls = registry.get(name)
    console.print(inspect.getdoc(cls) or "", highlight=False, markup=False)
    hyper = ", ".join(f"{key}={written(p.default)}" for key, p in registry.parameters(name).items())
    console.print(f"\nHyper-parameters: {hyper}", highlight=False, markup=False)
    console.print(f"File: {registry.source(name)}", highlight=False, markup=False, soft_wrap=True)
