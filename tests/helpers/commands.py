"""Calls of the command line in this process."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mtlbench.cli import app

Run = Callable[..., tuple[int, str, str]]
"""The fixture `run`: exit code, standard output and standard error of a command in an empty folder."""


def call(*arguments: str | Path) -> int:
    """Exit code of a command."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr(sys, "argv", ["mtlbench", *map(str, arguments)])
        app.main()
    return int(ended.value.code or 0)


def errors(capsys: pytest.CaptureFixture[str], code: int, *arguments: str | Path) -> list[str]:
    """The lines on standard error of a command that ends with this code."""
    capsys.readouterr()
    assert call(*arguments) == code
    lines = capsys.readouterr().err.splitlines()
    assert all(line.startswith("mtlbench: ") for line in lines)
    return lines


def refused(run: Run, *arguments: str) -> str:
    """The one line on standard error of a command that ends with exit code 2."""
    code, _, err = run(*arguments)
    assert code == 2
    (line,) = err.splitlines()
    assert line.startswith("mtlbench: ")
    return line
