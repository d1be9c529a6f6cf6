"""A full disk, simulated by the system: one line, nothing is lost, and the bench resumes."""

from __future__ import annotations

import contextlib
import resource
import sys
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import pytest

from mtlbench.bench import execution, jobs
from mtlbench.bench.jobs import Notify, StackJob
from mtlbench.cli import app
from mtlbench.records.history import Result
from tests.helpers.tiny_bench import SETUP, Silent, execute, plan, write

ROOM = 30_000  # bytes: more than is stored of a run, but for its strategy's file


@contextlib.contextmanager
def room_for(size: int) -> Generator[None]:
    """Context manager in which no file of this process can grow beyond `size` bytes: writing more raises OSError."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def train_without_room(job: StackJob, report: Notify) -> Result:
    with room_for(100):
        return jobs.train(job, report)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_only_the_run_that_cannot_be_stored_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    large = write(tmp_path, "large")
    large.write_text(large.read_text() + "# much to say\n" * ROOM)
    asked = plan(tmp_path, ["large"], [large], jobs=1)
    options = {"--setup": SETUP, "--batch-size": "100", "--epochs": "1", "--seeds": "2", "--strategies": "large"}
    options["--plugin"] = str(large)
    command = ["mtlbench", "bench", "--jobs", "1", "--out", str(tmp_path), "--name", "tiny"]
    monkeypatch.setattr(sys, "argv", [*command, *(word for pair in options.items() for word in pair)])
    with pytest.raises(SystemExit) as ended, room_for(ROOM):
        app.main()
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "File too large" in line
    assert "--out" in line
    before = files_of(tmp_path / "tiny" / "runs")
    assert list(before) == [f"{SETUP}/fixed.json"]
    assert [run.spec.label for run in asked.store.runs(SETUP) if run.result] == ["fixed"]

    complete, display = execute(asked)
    assert complete
    assert sorted({title.partition(" ")[0] for title in display.titles}) == [
        "large", "single:above_five", "single:digit",
    ]  # fmt: skip
    after = files_of(tmp_path / "tiny" / "runs")
    assert {name: after[name] for name in before} == before


def test_a_checkpoint_that_cannot_be_written_is_reported_and_harmless(tmp_path: Path) -> None:
    asked = plan(tmp_path, ["fixed"], epochs=2)
    run = asked.runs[0]
    job = StackJob(run.spec, run.settings, (0, 1), (), "key", tmp_path / "state.safetensors")
    messages: list[object] = []
    with execution.processes_for(asked.request) as processes:
        result = processes.call(train_without_room, job, messages.append)
        whole = processes.call(jobs.train, replace(job, checkpoint=None), lambda _: None)
    first, second = (text for text in messages if isinstance(text, str))
    assert "epoch 1" in first
    assert "epoch 2" in second
    assert "File too large" in first
    assert list(tmp_path.iterdir()) == []
    assert replace(result, training_seconds=0.0) == replace(whole, training_seconds=0.0)


def test_nothing_starts_if_the_request_cannot_be_stored(tmp_path: Path) -> None:
    display = Silent()
    with pytest.raises(OSError, match="File too large"), room_for(100):
        execution.execute(plan(tmp_path, ["fixed"]), display)
    assert display.titles == []
    assert set(files_of(tmp_path / "tiny")) <= {".lock"}
