"""How a setup becomes known by its name, and what it must declare for that."""

from __future__ import annotations

import inspect
import math
import re
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, UnionType
from typing import cast

from mtlbench.contracts.convolutions import Convolutions, is_count
from mtlbench.contracts.metrics import DELTA_M, SHARES
from mtlbench.contracts.setup import Setup, Task
from mtlbench.data.datasets import Dataset

LONGEST_NAME, LONGEST_TASK, LONGEST_METRIC = 60, 40, 40  # letters; plots have to hold them
NAME = re.compile(r"[a-z0-9]+([.-][a-z0-9]+)*")
TASK_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


@dataclass(frozen=True)
class Declared:
    """A setup, and the file and module that registered it."""

    setup: Setup
    file: Path
    module: str


registered: dict[str, Declared] = {}
_ever: dict[tuple[str, str], Declared] = {}  # by module and name: a module is imported once, and read many times


def register_setup(setup: Setup) -> Setup:
    """Make a setup known under its name (lower-case words and numbers, joined by dashes or dots); returns it.

    Raises:
        ValueError: it declares something that cannot be, or another one has its name.
    """
    given = cast("object", setup)  # a plugin is not type-checked
    if not isinstance(given, Setup):
        raise ValueError(f"register_setup takes a Setup, not {type(given).__name__}")
    _check_types(setup)
    check_name(setup.name)
    _check_parts(setup)
    frame = inspect.currentframe()
    assert frame is not None
    assert frame.f_back is not None
    caller = frame.f_back
    declared = Declared(setup, Path(caller.f_code.co_filename), str(caller.f_globals["__name__"]))
    registered[setup.name] = _ever[declared.module, setup.name] = declared
    return setup


def register_again(found: ModuleType | Setup) -> None:
    """Make known what a module, or a package's modules, registered when it was imported; or one setup of it.

    Raises:
        ValueError: a name is taken by another, or a setup was never registered.
    """
    if isinstance(found, Setup):
        wanted = [declared for declared in _ever.values() if declared.setup is found]
        if not wanted:
            raise ValueError(f"the setup {found.name!r} was not registered: call register_setup on it")
    else:
        wanted = [declared for declared in _ever.values() if f"{declared.module}.".startswith(f"{found.__name__}.")]
    for declared in wanted:
        if registered.setdefault(declared.setup.name, declared) is not declared:
            raise ValueError(_taken(declared.setup.name))


def check_name(name: str) -> None:
    """Refuse a name that a setup cannot have.

    Raises:
        ValueError: it is malformed, or taken.
    """
    if not NAME.fullmatch(name) or len(name) > LONGEST_NAME:
        raise ValueError(
            f"a setup's name is lower-case words joined by dashes, at most {LONGEST_NAME} letters in all, not {name!r}"
        )
    if name in registered:
        raise ValueError(_taken(name))


def _check_types(setup: Setup) -> None:
    """Refuse what is not of its type, before anything is asked of it."""
    _check_type("setup", "name", setup.name, str, "a text")
    where = setup.name
    _check_type(where, "about", setup.about, str, "a text")
    for name in ("tasks", "widths"):
        _check_type(where, name, getattr(setup, name), tuple | list, "a tuple")
    for name in ("scale", "shift"):
        _check_type(where, name, getattr(setup, name), int | float, "a number")
    for name in ("samples", "test"):
        if not callable(getattr(setup, name)):
            raise ValueError(f"{where}: {name} is a function, not {type(getattr(setup, name)).__name__}")
    _check_type(where, "convolutions", setup.convolutions, Convolutions | None, "Convolutions(...)")
    _check_type(where, "dataset", setup.dataset, Dataset | None, "a mtlbench.data.Dataset")
    for task in setup.tasks:
        _check_type(where, "a task", task, Task, "a Task, as classification(...) makes one")
        _check_type(where, "a task's name", task.name, str, "a text")
        _check_type(f"{where}: task {task.name!r}", "metric", task.metric, str, "a text")


def _check_type(where: str, name: str, value: object, kind: type | UnionType, what: str) -> None:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f"{where}: {name} is {what}, not {type(value).__name__}")


def _check_parts(setup: Setup) -> None:
    """Refuse a setup whose parts cannot be what they are for; says which part, the rule and the value."""
    if len(setup.tasks) < 2:
        raise ValueError(f"{setup.name}: a setup has at least two tasks, not {len(setup.tasks)}")
    for task in setup.tasks:
        _check_task(setup.name, task)
    if len(set(setup.task_names)) < len(setup.tasks):
        raise ValueError(f"{setup.name}: tasks must have different names, not {', '.join(setup.task_names)}")
    if len(setup.widths) < 2 or not all(is_count(width) for width in setup.widths):
        raise ValueError(
            f"{setup.name}: widths are the features of the input and of each trunk layer, at least two whole numbers "
            f">= 1, not {setup.widths}"
        )
    for name, value in (("training_size", setup.training_size), ("passes", setup.passes)):
        if not is_count(value):
            raise ValueError(f"{setup.name}: {name} is a whole number >= 1, not {value!r}")
    for name, value in (("scale", setup.scale), ("shift", setup.shift)):
        if not math.isfinite(value):
            raise ValueError(f"{setup.name}: {name} must be finite, not {value}")


def _check_task(setup: str, task: Task) -> None:
    where = f"{setup}: task {task.name!r}"
    if not TASK_NAME.fullmatch(task.name) or len(task.name) > LONGEST_TASK:
        raise ValueError(
            f"{where}: a task's name is letters, digits, dashes and underscores, at most {LONGEST_TASK} of them"
        )
    if not is_count(task.columns):
        raise ValueError(f"{where}: columns is a whole number >= 1, not {task.columns!r}")
    if task.better not in ("higher", "lower"):
        raise ValueError(f"{where}: better is 'higher' or 'lower', not {task.better!r}")
    if not task.metric.strip() or not task.metric.isprintable() or task.metric == DELTA_M:
        raise ValueError(f"{where}: metric is what its score counts, in a few words, not {task.metric!r}")
    if len(task.metric) > LONGEST_METRIC:
        raise ValueError(f"{where}: metric is at most {LONGEST_METRIC} letters, not {task.metric!r}")
    if SHARES.get(task.metric, task.better) != task.better:
        raise ValueError(f"{where}: of {task.metric}, {SHARES[task.metric]} is better; give the score another name")
    for name in ("loss", "score"):
        if not callable(getattr(task, name)):
            raise ValueError(f"{where}: {name} is a function, not {type(getattr(task, name)).__name__}")


def _taken(name: str) -> str:
    return f"the name {name!r} is already taken by {registered[name].file}"
