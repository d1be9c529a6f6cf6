"""The output of `mtlbench list`, and the README's table of strategies."""

from __future__ import annotations

import inspect
import json
import typing
from dataclasses import asdict, dataclass
from itertools import groupby

from rich.console import Console
from rich.markup import escape

from mtlbench.cli.console import plain, table_of
from mtlbench.contracts.collection import Declared
from mtlbench.contracts.setup import Setup
from mtlbench.contracts.strategy import Family, Strategy
from mtlbench.plugins.explain import cited
from mtlbench.plugins.needs import NEEDS, UNKNOWN, family_of, needs_of
from mtlbench.plugins.registry import SMOOTH, TORCHJD, Registry, torchjd_methods
from mtlbench.plugins.spec_text import defaults
from mtlbench.records.roles import SINGLE

FAMILIES = (*typing.get_args(Family), UNKNOWN)


@dataclass(frozen=True)
class Entry:
    """A row on one strategy: its family, its source, what it needs and takes, and hyper-parameters with defaults."""

    name: str
    family: str
    source: str
    needs: str
    losses: str
    heads: str
    hyper: list[str]


def entries(registry: Registry) -> list[Entry]:
    """All strategies of the registry by family; within a family, those that need least first."""
    rows = [entry_of(entry.value, registry) for entry in registry.strategies.values()]
    return sorted(rows, key=lambda row: (FAMILIES.index(row.family), _cost(row.needs)))


def entry_of(cls: type[Strategy], registry: Registry) -> Entry:
    """The row on one strategy."""
    source, needs = cited(inspect.getdoc(cls) or ""), needs_of(cls)
    hyper = defaults(registry.hyper_parameters(cls.name))
    return Entry(cls.name, family_of(cls, needs), source, needs, cls.losses, cls.heads, hyper)


def _cost(needs: str) -> int:
    return NEEDS.index(needs) if needs in NEEDS else len(NEEDS)


def markdown(registry: Registry) -> str:
    """The README's table of strategies."""
    headers = ("strategy", "family", "source", "needs", "losses", "heads", "hyper-parameters")
    lines = [f"| {' | '.join(headers)} |", "| --- " * len(headers) + "|"]
    for row in entries(registry):
        hyper = ", ".join(f"`{item}`" for item in row.hyper)
        cells = (f"`{row.name}`", row.family, row.source, row.needs, row.losses, row.heads, hyper)
        lines.append(f"| {' | '.join(cells)} |".replace("  ", " "))
    return "\n".join(lines)


def as_json(registry: Registry) -> str:
    """The rows of all strategies as a JSON list of objects."""
    return json.dumps([asdict(row) for row in entries(registry)], indent=2)


def show_all(registry: Registry, console: Console) -> None:
    """Print all strategies by family, then baselines and setups."""
    table = table_of("strategy", "source", "needs", "losses", "heads", "hyper-parameters")
    for family, rows in groupby(entries(registry), key=lambda row: row.family):
        table.add_row(f"[bold]{family}[/bold]")
        for row in rows:
            hyper = escape(", ".join(row.hyper))
            table.add_row(f"  {row.name}", escape(row.source), row.needs, row.losses, row.heads, hyper)
        table.add_section()
    table.add_row("[bold]baselines[/bold]")
    for task in dict.fromkeys(task for one in registry.setups.values() for task in one.value.task_names):
        table.add_row(f"  {SINGLE}:{task}", f"{task} trained alone")
    console.print(table)
    console.print("losses: positive is for methods with logarithms or ratios of losses", highlight=False)
    console.print("heads: weighted is w_t dL_t for head t, own is dL_t; set it with NAME:heads=...\n", highlight=False)
    for one in registry.setups.values():
        console.print(f"setup {one.name}: {one.value.about} ({one.file.name})", highlight=False, markup=False)
    console.print(f"{SMOOTH}:NAME averages the weights of a strategy over the steps (CR-MOGM)", highlight=False)
    console.print(f"{TORCHJD}:NAME is a method of TorchJD; see mtlbench list {TORCHJD}", highlight=False)


def show_torchjd(registry: Registry, console: Console) -> None:
    """Print the methods of TorchJD that can be named as `torchjd:NAME`.

    Raises:
        UserError: TorchJD is not installed.
    """
    table = table_of("strategy", "description", "hyper-parameters")
    for name in (f"{TORCHJD}:{method}" for method in torchjd_methods()):
        first = (inspect.getdoc(registry.get(name)) or "").partition("\n")[0]
        table.add_row(name, escape(first), escape(", ".join(defaults(registry.hyper_parameters(name)))))
    console.print(table)


def show_one(registry: Registry, name: str, console: Console) -> None:
    """Print the description of a strategy or setup; `torchjd` means all methods of TorchJD.

    Raises:
        UserError: no strategy or setup has that name.
    """
    if name == TORCHJD:
        show_torchjd(registry, console)
        return
    if name in registry.setups and name not in registry.strategies:
        _show_setup(registry.setups[name], console)
        return
    cls = registry.get(name)
    console.print(inspect.getdoc(cls) or "", highlight=False, markup=False)
    hyper = ", ".join([*defaults(registry.hyper_parameters(name)), f"heads={cls.heads}"])
    if (needs := needs_of(cls)) != UNKNOWN:
        console.print(f"\nFamily: {family_of(cls, needs)}", highlight=False, markup=False)
        console.print(f"Needs: {needs}", highlight=False, markup=False)
    console.print(f"Losses: {cls.losses}", highlight=False, markup=False)
    console.print(f"Hyper-parameters: {hyper}", highlight=False, markup=False)
    if spaces := registry.spaces(name):
        tuned = ", ".join(f"{key} in {space}" for key, space in spaces.items())
        console.print(f"Tuned over: {tuned}", highlight=False, markup=False)
    plain(console, f"File: {registry.source(name)}")


def _show_setup(declared: Declared[Setup], console: Console) -> None:
    setup = declared.value
    trunk = "-".join(map(str, setup.widths))
    console.print(setup.about, highlight=False, markup=False)
    for t, task in enumerate(setup.tasks):
        values = "real numbers" if task.classes is None else f"{task.classes} classes"
        main = ", the main task" if t == 0 else ""
        line = f"Task {task.name}: {values}, scored by {task.metric} ({task.better} is better){main}"
        console.print(line, highlight=False, markup=False)
    passes = f", {setup.passes} passes an epoch" if setup.passes > 1 else ""
    console.print(f"Training samples: {setup.training_size:,}{passes}; trunk {trunk}", highlight=False, markup=False)
    plain(console, f"File: {declared.file}")
