"""The command line as it is typed, in this process."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mtlbench import cli


def call(*arguments: str | Path) -> int:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr(sys, "argv", ["mtlbench", *map(str, arguments)])
        cli.main()
    return int(ended.value.code or 0)


def errors(capsys: pytest.CaptureFixture[str], code: int, *arguments: str | Path) -> list[str]:
    capsys.readouterr()
    assert call(*arguments) == code
    lines = capsys.readouterr().err.splitlines()
    assert all(line.startswith("mtlbench: ") for line in lines)
    return lines
