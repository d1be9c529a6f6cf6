"""The command line as it is typed, in this process."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mtlbench.cli import app

Run = Callable[..., tuple[int, str, str]]
"""What the fixture `run` is: exit code, standard output and standard error of a command in a folder of its own."""


def call(*arguments: str | Path) -> int:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr(sys, "argv", ["mtlbench", *map(str, arguments)])
        app.main()
    return int(ended.value.code or 0)


def errors(capsys: pytest.CaptureFixture[str], code: int, *arguments: str | Path) -> list[str]:
    capsys.readouterr()
    assert call(*arguments) == code
    lines = capsys.readouterr().err.splitlines()
    assert all(line.startswith("mtlbench: ") for line in lines)
    return lines


def refused(run: Run, *arguments: str) -> str:
    code, _, err = run(*arguments)
    assert code == 2
    (line,) = err.splitlines()
    assert line.startswith("mtlbench: ")
    return line
