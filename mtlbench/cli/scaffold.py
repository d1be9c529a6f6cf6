"""The file of a new strategy or setup and its test, written from templates."""

from __future__ import annotations

import builtins
import importlib.util
import os
import re
from pathlib import Path

from mtlbench.contracts import registration, space, strategy
from mtlbench.errors import UserError, first_line
from mtlbench.plugins.discovery import setups_folder, strategies_folder
from mtlbench.plugins.registry import Registry
from mtlbench.templating import environment

LONGEST_NAME = 40


def write(name: str, out: Path | None = None) -> tuple[Path, Path]:
    """Write the file of a strategy and its test; says where they are.

    Both go to `out`. Without it the strategy goes to `strategies` and the test to `tests`, each to the folder that
    one is in where there is no such folder.

    Raises:
        UserError: the name is malformed or taken, there is such a file, or it cannot be written.
    """
    class_name = _checked_strategy(name)
    return _write(name, out, "strategies", ("strategy.py.j2", "test_strategy.py.j2"), {"class_name": class_name})


def write_setup(name: str, out: Path | None = None) -> tuple[Path, Path]:
    """Likewise of a setup, which goes to `setups`.

    Raises:
        UserError: likewise.
    """
    _check_setup(name)
    return _write(name, out, "setups", ("setup.py.j2", "test_setup.py.j2"), {})


def next_steps(name: str, written: Path, test: Path) -> list[str]:
    """What to do with the two files of a strategy, as commands."""
    with_file = "" if written.resolve().parent == strategies_folder() else f" --plugin {written}"
    return [
        f"prove it:   mtlbench check {written}",
        f"test it:    python -m pytest {test}",
        f"compare it: mtlbench bench --name {name}{with_file} --strategies {name}",
    ]


def next_steps_of_setup(name: str, written: Path, test: Path) -> list[str]:
    """What to do with the two files of a setup, as commands."""
    with_file = "" if written.resolve().parent == setups_folder() else f" --plugin {written}"
    return [
        f"prove it:   mtlbench check-setup {written}",
        f"test it:    python -m pytest {test}",
        f'compare on: mtlbench bench --name {name}{with_file} --setup {name} --strategies "uncertainty gradnorm"',
    ]


def _write(
    name: str, out: Path | None, home: str, templates: tuple[str, str], values: dict[str, str]
) -> tuple[Path, Path]:
    stem = name.replace("-", "_")
    here = Path()
    folder = out or (here / home if (here / home).is_dir() else here)
    tests = out or (here / "tests" if (here / "tests").is_dir() else here)
    paths = folder / f"{stem}.py", tests / f"test_{stem}.py"
    for path in paths:
        if path.exists():
            raise UserError(f"{path} is already there; choose another name, or move it away")
    if importlib.util.find_spec(stem) is not None:
        raise UserError(f"{stem}.py would hide the module {stem}; choose another name than {name!r}")
    templates_of_commands = environment("mtlbench.cli", autoescape=False)
    path_between = Path(os.path.relpath(paths[0], tests)).as_posix()
    try:
        for path, template in zip(paths, templates, strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            text = templates_of_commands.get_template(template).render(values, name=name, path=path_between)
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write into {folder}: {error.strerror}") from None
    return paths


def _check_form(kind: str, name: str, example: str) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name) or len(name) > LONGEST_NAME:
        raise UserError(
            f"a new {kind}'s name is lower-case words joined by dashes, at most {LONGEST_NAME} letters in all, "
            f"as in {example}, not {name!r}"
        )


def _check_setup(name: str) -> None:
    """Refuse a name that cannot be a setup's or a file's, or is taken.

    Raises:
        UserError: it is.
    """
    _check_form("setup", name, "noisy-digits")
    Registry.load()
    try:
        registration.check_name(name)
    except ValueError as error:
        raise UserError(first_line(error)) from None


def _checked_strategy(name: str) -> str:
    """The class name for a strategy's name.

    Raises:
        UserError: the name cannot be a strategy's, a file's or a class's, or is taken.
    """
    _check_form("strategy", name, "inverse-loss")
    Registry.load()
    try:
        strategy.check_name(name)
    except ValueError as error:
        raise UserError(first_line(error)) from None
    class_name = "".join(part.capitalize() for part in name.split("-"))
    if hasattr(builtins, class_name) or class_name in {*vars(strategy), *vars(space)}:
        raise UserError(f"a class {class_name} would hide one that is there already; choose another name than {name!r}")
    return class_name
