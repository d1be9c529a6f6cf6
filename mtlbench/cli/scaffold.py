"""Writes the file of a new strategy or setup and its test, from templates."""

from __future__ import annotations

import builtins
import importlib.util
import os
import re
from pathlib import Path

from mtlbench import files
from mtlbench.contracts import space, strategy
from mtlbench.contracts.collection import Kind
from mtlbench.errors import UserError
from mtlbench.plugins.discovery import setups_folder, strategies_folder
from mtlbench.plugins.registry import Registry
from mtlbench.templating import environment

LONGEST_NAME = 40

EXAMPLES: dict[Kind, str] = {"strategy": "inverse-loss", "setup": "noisy-digits"}


def write(kind: Kind, name: str, out: Path | None = None) -> tuple[Path, Path]:
    """Write the file of a strategy or setup and its test; returns their paths.

    Both are written to `out`. By default the first goes to the folder `strategies` or `setups` and the test to
    `tests`, or to the current folder if there is no such folder.

    Raises:
        UserError: the name is malformed or taken, a file exists already, or it cannot be written.
    """
    values = {"name": name, "class_name": _checked_class_name(kind, name)}
    stem = name.replace("-", "_")
    folder, tests = (
        out or (Path(home) if Path(home).is_dir() else Path())
        for home in ("strategies" if kind == "strategy" else "setups", "tests")
    )
    paths = folder / f"{stem}.py", tests / f"test_{stem}.py"
    for path in paths:
        if path.exists():
            raise UserError(f"{path} already exists: choose another name, or move it away")
    if importlib.util.find_spec(stem) is not None:
        raise UserError(f"{stem}.py would hide the module {stem}: choose another name than {name!r}")
    templates = environment("mtlbench.cli", autoescape=False)
    path_between = Path(os.path.relpath(paths[0], tests)).as_posix()
    try:
        for path, template in zip(paths, (f"{kind}.py.j2", f"test_{kind}.py.j2"), strict=True):
            text = templates.get_template(template).render(values, path=path_between)
            with files.replaced(path) as scratch:
                scratch.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}") from None
    return paths


def next_steps(kind: Kind, name: str, written: Path, test: Path) -> list[str]:
    """What to do with the two files, as commands."""
    is_strategy = kind == "strategy"
    home = strategies_folder() if is_strategy else setups_folder()
    with_file = "" if written.resolve().parent == home else f" --plugin {written}"
    chosen = f"--strategies {name}" if is_strategy else f'--setup {name} --strategies "uncertainty gradnorm"'
    return [
        f"check it:   mtlbench {'check' if is_strategy else 'check-setup'} {written}",
        f"test it:    python -m pytest {test}",
        f"{'compare it:' if is_strategy else 'compare on:'} mtlbench bench --name {name}{with_file} {chosen}",
    ]


def _checked_class_name(kind: Kind, name: str) -> str:
    """The name of the class in the file; raises if the name is malformed or taken, or the class would hide another."""
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name) or len(name) > LONGEST_NAME:
        raise UserError(
            f"the name of a new {kind} must be lower-case words joined by dashes, at most {LONGEST_NAME} characters, "
            f"as in {EXAMPLES[kind]}; found {name!r}"
        )
    if kind == "strategy" and name in strategy.RESERVED:
        raise UserError(f"a strategy must not be called {name!r}, which means something else before a colon")
    registry = Registry.load()
    taken = (registry.strategies if kind == "strategy" else registry.setups).get(name)
    if taken is not None:
        raise UserError(f"the name {name!r} is already taken by {taken.file}")
    class_name = "".join(part.capitalize() for part in name.split("-"))
    if kind == "strategy" and (hasattr(builtins, class_name) or class_name in {*vars(strategy), *vars(space)}):
        raise UserError(f"a class {class_name} would hide another one: choose another name than {name!r}")
    return class_name
