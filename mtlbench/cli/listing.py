"""The output of `mtlbench list`, and the README's table of strategies."""

from __future__ import annotations

import inspect
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape

from mtlbench.cli.console import plain, table_of
from mtlbench.contracts.collection import Declared
from mtlbench.contracts.setup import Setup
from mtlbench.plugins.explain import cited
from mtlbench.plugins.needs import NEEDS, UNKNOWN, needs_of
from mtlbench.plugins.registry import TORCHJD, Registry, torchjd_methods
from mtlbench.plugins.spec_text import defaults
from mtlbench.records.roles import SINGLE


@dataclass(frozen=True)
class Entry:
    """A row on one strategy: its source, what it needs from a step, and its hyper-parameters with defaults."""

    name: str
    source: str
    needs: str
    heads: str
    hyper: list[str]


def entries(registry: Registry) -> list[Entry]:
    """All strategies of the registry, those that need least first."""
    rows = [
        Entry(
            name,
            cited(inspect.getdoc(entry.value) or ""),
            needs_of(entry.value),
            entry.value.heads,
            defaults(registry.hyper_parameters(name)),
        )
        for name, entry in registry.strategies.items()
    ]
    return sorted(rows, key=lambda entry: NEEDS.index(entry.needs) if entry.needs in NEEDS else len(NEEDS))


def markdown(registry: Registry) -> str:
    """The README's table of strategies."""
    lines = ["| strategy | source | needs | heads | hyper-parameters |", "| --- | --- | --- | --- | --- |"]
    for entry in entries(registry):
        hyper = ", ".join(f"`{item}`" for item in entry.hyper)
        line = f"| `{entry.name}` | {entry.source} | {entry.needs} | {entry.heads} | {hyper} |"
        lines.append(line.replace("  ", " "))
    return "\n".join(lines)


def show_all(registry: Registry, console: Console) -> None:
    """Print all strategies with source, needs and hyper-parameters, then baselines and setups."""
    table = table_of("strategy", "source", "needs", "heads", "hyper-parameters")
    for entry in entries(registry):
        table.add_row(entry.name, escape(entry.source), entry.needs, entry.heads, escape(", ".join(entry.hyper)))
    for task in dict.fromkeys(task for one in registry.setups.values() for task in one.value.task_names):
        table.add_row(f"{SINGLE}:{task}", f"baseline: {task} trained alone")
    console.print(table)
    console.print("heads: weighted is w_t dL_t for head t, own is dL_t; set it with NAME:heads=...\n", highlight=False)
    for one in registry.setups.values():
        console.print(f"setup {one.name}: {one.value.about} ({one.file.name})", highlight=False, markup=False)
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
        console.print(f"\nNeeds: {needs}", highlight=False, markup=False)
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
