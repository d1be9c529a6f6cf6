"""What `mtlbench list` shows, and the README's table of strategies."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass

import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch import Tensor

from mtlbench.declaration import Declared
from mtlbench.labels import written
from mtlbench.plugins import contained
from mtlbench.registry import TORCHJD, Registry, torchjd_methods
from mtlbench.roles import SINGLE
from mtlbench.strategy import Step, Strategy

TASKS, FEATURES = 2, 3
UNKNOWN = "?"
HOOKS = {"epoch_end": "epoch means of losses", "after_update": "losses after the update"}
NEEDS = ("losses", *HOOKS.values(), "Gramian (last layer)", "Gramian", "Gramian of two more batches", "Jacobian")


@dataclass(frozen=True)
class Entry:
    """One strategy in a line: where it is from, what it asks a step for, its hyper-parameters with defaults."""

    name: str
    source: str
    needs: str
    heads: str
    hyper: list[str]


def entries(registry: Registry) -> list[Entry]:
    """Every strategy of the registry, those that need least first."""
    found = [
        Entry(name, cited(inspect.getdoc(cls) or ""), needs_of(cls), cls.heads, hyper_of(registry, name))
        for name, cls in registry.strategies.items()
    ]
    return sorted(found, key=lambda entry: NEEDS.index(entry.needs) if entry.needs in NEEDS else len(NEEDS))


def hyper_of(registry: Registry, name: str) -> list[str]:
    """Hyper-parameters with their defaults, as they are written on the command line."""
    found = registry.parameters(name).items()
    return [f"{key}={written(parameter.default)}" for key, parameter in found if key != "heads"]


def cited(description: str) -> str:
    """The first paper that a strategy's description names behind `Source:`, as first author and year; else empty.

    It is written as authors, "title", venue year; anything else is taken as it stands, up to the first year.
    """
    found = re.search(r"^Source:\s*(.*?\b(?:19|20)\d\d)\b", description, re.DOTALL | re.MULTILINE)
    text = " ".join(found[1].split()) if found else ""
    paper = re.fullmatch(r'(?P<authors>[^"]+), "[^"]+", (?P<venue>[^"]+)', text)
    if paper is None:
        return text
    authors = re.split(r", | & ", paper["authors"])
    names = f"{authors[0]} et al." if len(authors) > 2 else " & ".join(authors)
    return f"{names}, {paper['venue']}"


def needs_of(cls: type[Strategy]) -> str:
    """What a strategy looks at besides the losses of the step: seen by giving it one, and by the hooks it has."""
    signals = _Asked()
    try:
        with contained():
            strategy = cls((1, TASKS))
            strategy.allocate(FEATURES)
            losses = torch.ones(1, TASKS, requires_grad=True)
            now = torch.zeros((), dtype=torch.int64)
            strategy(Step(losses, signals, index=now, epoch=now, seeds=torch.zeros(1, dtype=torch.int64)))
    except (Exception, SystemExit):  # a plugin may fail in any way; what it asked for until then is known
        signals.needs.append(UNKNOWN)
    hooks = [what for hook, what in HOOKS.items() if cls.overrides(hook)]
    return ", ".join(dict.fromkeys([*signals.needs, *hooks])) or "losses"


def markdown(registry: Registry) -> str:
    """The README's table of strategies."""
    lines = ["| strategy | source | needs | heads | hyper-parameters |", "| --- | --- | --- | --- | --- |"]
    for entry in entries(registry):
        hyper = ", ".join(f"`{item}`" for item in entry.hyper)
        lines.append(
            f"| `{entry.name}` | {entry.source} | {entry.needs} | {entry.heads} | {hyper} |".replace("  ", " ")
        )
    return "\n".join(lines)


def show_all(registry: Registry, console: Console) -> None:
    """Every strategy with its source, what it needs and its hyper-parameters; then baselines and setups."""
    table = Table(box=SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for header in ("strategy", "source", "needs", "heads", "hyper-parameters"):
        table.add_column(header, overflow="fold")
    for entry in entries(registry):
        table.add_row(entry.name, escape(entry.source), entry.needs, entry.heads, escape(", ".join(entry.hyper)))
    for task in dict.fromkeys(task for one in registry.setups.values() for task in one.setup.task_names):
        table.add_row(f"{SINGLE}:{task}", f"baseline: {task} trained alone")
    console.print(table)
    console.print("heads: weighted is w_t dL_t for head t, own is dL_t; set it with NAME:heads=...\n", highlight=False)
    for one in registry.setups.values():
        console.print(f"setup {one.setup.name}: {one.setup.about} ({one.file.name})", highlight=False, markup=False)
    console.print(f"{TORCHJD}:NAME is a method of TorchJD; mtlbench list {TORCHJD} names them", highlight=False)


def show_torchjd(registry: Registry, console: Console) -> None:
    """The methods of TorchJD that can be named as `torchjd:NAME`.

    Raises:
        UserError: TorchJD is not installed.
    """
    table = Table(box=SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for header in ("strategy", "what it is", "hyper-parameters"):
        table.add_column(header, overflow="fold")
    for name in (f"{TORCHJD}:{method}" for method in torchjd_methods()):
        first = (inspect.getdoc(registry.get(name)) or "").partition("\n")[0]
        table.add_row(name, escape(first), escape(", ".join(hyper_of(registry, name))))
    console.print(table)


def show_one(registry: Registry, name: str, console: Console) -> None:
    """What a strategy is, needs and takes, or what a setup is made of, and its file.

    `torchjd` stands for all of TorchJD's methods.

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
    hyper = ", ".join([*hyper_of(registry, name), f"heads={cls.heads}"])
    if (needs := needs_of(cls)) != UNKNOWN:
        console.print(f"\nNeeds: {needs}", highlight=False, markup=False)
    console.print(f"Hyper-parameters: {hyper}", highlight=False, markup=False)
    if spaces := registry.spaces(name):
        tuned = ", ".join(f"{key} in {space}" for key, space in spaces.items())
        console.print(f"Tuned over: {tuned}", highlight=False, markup=False)
    console.print(f"File: {registry.source(name)}", highlight=False, markup=False, soft_wrap=True)


def _show_setup(declared: Declared, console: Console) -> None:
    setup = declared.setup
    trunk = "-".join(map(str, setup.widths))
    console.print(setup.about, highlight=False, markup=False)
    for t, task in enumerate(setup.tasks):
        values = "real numbers" if task.classes is None else f"{task.classes} classes"
        main = ", the main task" if t == 0 else ""
        line = f"Task {task.name}: {values}, scored by {task.metric} ({task.better} is better){main}"
        console.print(line, highlight=False, markup=False)
    passes = f", {setup.passes} passes an epoch" if setup.passes > 1 else ""
    console.print(f"Training samples: {setup.training_size:,}{passes}; trunk {trunk}", highlight=False, markup=False)
    console.print(f"File: {declared.file}", highlight=False, markup=False, soft_wrap=True)


class _Asked:
    """Signals of a step with orthogonal gradients that remember what was asked for."""

    def __init__(self) -> None:
        self.needs: list[str] = []

    def gramian(self, *, last: bool = False) -> Tensor:
        self.needs.append("Gramian (last layer)" if last else "Gramian")
        return torch.eye(TASKS).unsqueeze(0)

    def jacobian(self) -> Tensor:
        self.needs.append("Jacobian")
        return torch.eye(TASKS, FEATURES).unsqueeze(0)

    def independent_gramian(self) -> Tensor:
        self.needs.append("Gramian of two more batches")
        return torch.eye(TASKS).unsqueeze(0)

    def representation_gradients(self) -> Tensor:
        self.needs.append("representation gradients")
        return torch.eye(TASKS, FEATURES).view(1, TASKS, 1, FEATURES)
