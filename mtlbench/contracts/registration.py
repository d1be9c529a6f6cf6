"""Registering a setup under its name, and the rules that its parts must keep."""

from __future__ import annotations

import math
import re
from types import NoneType
from typing import Any, cast

from mtlbench.contracts.collection import declare
from mtlbench.contracts.convolutions import Convolutions, is_count
from mtlbench.contracts.metrics import DELTA_M, SHARES
from mtlbench.contracts.setup import Setup, Task
from mtlbench.data.datasets import Dataset

LONGEST_NAME, LONGEST_TASK, LONGEST_METRIC = 60, 40, 40  # characters; plots must have room for them
NAME = re.compile(r"[a-z0-9]+([.-][a-z0-9]+)*")
TASK_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
TYPES: dict[str, tuple[tuple[type[Any], ...], str]] = {
    "name": ((str,), "a string"),
    "about": ((str,), "a string"),
    "tasks": ((tuple, list), "a tuple"),
    "widths": ((tuple, list), "a tuple"),
    "scale": ((int, float), "a number"),
    "shift": ((int, float), "a number"),
    "convolutions": ((Convolutions, NoneType), "Convolutions(...) or None"),
    "dataset": ((Dataset, NoneType), "a mtlbench.data.Dataset or None"),
}


def register_setup(setup: Setup) -> Setup:
    """Register a setup under its name, and return it.

    Raises:
        ValueError: a part of it breaks a rule, or another setup has its name.
    """
    if not isinstance(cast("object", setup), Setup):  # a plug-in is not type-checked
        raise ValueError(f"register_setup must be given a Setup; found {type(setup).__name__}")
    where = setup.name if isinstance(cast("object", setup.name), str) else "setup"
    for part, (kinds, text) in TYPES.items():
        _check_type(where, part, getattr(setup, part), kinds, text)
    for part in ("samples", "test"):
        _check(where, part, type(value := getattr(setup, part)), "a function", callable(value))
    name_rule = f"lower-case words and numbers joined by dashes or dots, at most {LONGEST_NAME} characters"
    _check(where, "name", setup.name, name_rule, NAME.fullmatch(where) and len(where) <= LONGEST_NAME)
    _check(where, "the number of tasks", len(setup.tasks), "at least 2", len(setup.tasks) >= 2)
    for task in setup.tasks:
        _check_task(where, task)
    distinct = len(set(setup.task_names)) == len(setup.tasks)
    _check(where, "names of tasks", setup.task_names, "different from each other", distinct)
    widths_rule = "at least two whole numbers >= 1, the features of the input and of each trunk layer"
    _check(where, "widths", setup.widths, widths_rule, len(setup.widths) >= 2 and all(map(is_count, setup.widths)))
    for part in ("training_size", "passes"):
        _check(where, part, value := getattr(setup, part), "a whole number >= 1", is_count(value))
    for part in ("scale", "shift"):
        _check(where, part, value := getattr(setup, part), "finite", math.isfinite(value))
    declare("setup", setup.name, setup)
    return setup


def _check_task(setup: str, task: Task) -> None:
    _check_type(setup, "each task", task, (Task,), "a Task, such as classification(...) makes")
    where = f"{setup}: task {task.name!r}"
    for part in ("name", "metric"):
        _check_type(where, part, getattr(task, part), (str,), "a string")
    better = SHARES.get(task.metric, task.better)
    for part, rule, holds in (
        (
            "name",
            f"a letter, then letters, digits, dashes and underscores, at most {LONGEST_TASK} characters",
            TASK_NAME.fullmatch(task.name) and len(task.name) <= LONGEST_TASK,
        ),
        ("columns", "a whole number >= 1", is_count(task.columns)),
        ("better", "'higher' or 'lower'", task.better in ("higher", "lower")),
        (
            "metric",
            f"what the score counts, in 1 to {LONGEST_METRIC} printable characters, and not {DELTA_M!r}",
            task.metric.strip() not in ("", DELTA_M)
            and task.metric.isprintable()
            and len(task.metric) <= LONGEST_METRIC,
        ),
        ("better", f"{better!r} for the metric {task.metric!r}; or rename the metric", better == task.better),
        ("loss", "a function", callable(task.loss)),
        ("score", "a function", callable(task.score)),
    ):
        _check(where, part, getattr(task, part), rule, holds)


def _check_type(where: str, part: str, value: object, kinds: tuple[type[Any], ...], text: str) -> None:
    _check(where, part, type(value), text, isinstance(value, kinds) and not isinstance(value, bool))


def _check(where: str, part: str, value: object, rule: str, holds: object) -> None:
    if not holds:
        found = value.__name__ if isinstance(value, type) else repr(value)
        raise ValueError(f"{where}: {part} must be {rule}; found {found}")
