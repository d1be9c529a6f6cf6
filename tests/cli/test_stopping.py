"""A command that is stopped prints one line, and its exit code tells the signal."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mtlbench.cli.stopping import stoppable
from tests.helpers.commands import Run


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ("os.kill(os.getpid(), signal.SIGINT)", 130),
        ("os.kill(os.getpid(), signal.SIGTERM)", 143),
        ("raise KeyboardInterrupt", 130),
    ],
)
@pytest.mark.parametrize("command", ["list", "check", "bench"])
def test_a_command_stopped_while_loading_says_so(run: Run, tmp_path: Path, command: str, how: str, code: int) -> None:
    path = tmp_path / "stops.py"
    path.write_text(f"import os, signal\n{how}\n")
    targets = ("fixed",) if command == "check" else ()
    ended, _, err = run(command, *targets, "--plugin", str(path))
    assert ended == code
    (line,) = err.splitlines()
    assert "stopped" in line


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("mtlbench.report.writing.write_report", ("report",)),
        ("mtlbench.stats.selftest.run", ("selftest-stats",)),
        ("mtlbench.stats.two_benches.versus", ("compare", "a", "b")),
    ],
)
def test_a_command_stopped_at_work_says_so(
    run: Run, monkeypatch: pytest.MonkeyPatch, name: str, command: tuple[str, ...]
) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(name, stopped)
    code, _, err = run(*command)
    assert code == 130
    (line,) = err.splitlines()
    assert "stopped" in line


def test_the_innermost_message_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Exception, match="130"), stoppable("outer"), stoppable("inner"):
        raise KeyboardInterrupt
    assert capsys.readouterr().err == "mtlbench: stopped; inner\n"


def test_a_closed_pipe_ends_a_command_quietly() -> None:
    program = str(Path(sys.executable).parent / "mtlbench")
    with subprocess.Popen([program, "list"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141
