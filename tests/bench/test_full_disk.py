"""A disk that is full, as the system itself says it: one line, nothing lost, and the bench goes on from there."""

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
from mtlbench.bench.places import workers_of
from mtlbench.cli import app
from mtlbench.records.history import Result
from tests.bench.test_bench import SETUP, Silent, execute, few_rounds, plan, write

__all__ = ["few_rounds"]  # a fixture that is used as it is there

ROOM = 30_000  # bytes: more than is stored of a run, but for its strategy's file


@contextlib.contextmanager
def room_for(size: int) -> Generator[None]:
    """Within this, no file of this process grows beyond so many bytes: writing more raises OSError."""
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


def test_a_run_that_cannot_be_stored_is_all_that_is_missing(
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
    assert capsys.readouterr().err.splitlines() == [
        "mtlbench: a file cannot be used (File too large): make room, or choose another folder with --out; "
        "what is stored is whole, and the same command goes on from there"
    ]
    before = files_of(tmp_path / "tiny" / "runs")
    assert list(before) == [f"{SETUP}/fixed.json"]
    assert [run.spec.label for run in asked.store.runs(SETUP) if run.result] == ["fixed"]

    complete, display = execute(asked)
    assert complete
    assert sorted({title.partition(" ")[0] for title in display.started}) == [
        "large", "single:above_five", "single:digit",
    ]  # fmt: skip
    after = files_of(tmp_path / "tiny" / "runs")
    assert {name: after[name] for name in before} == before


def test_a_state_that_cannot_be_kept_is_said_and_changes_nothing(tmp_path: Path) -> None:
    asked = plan(tmp_path, ["fixed"], epochs=2)
    run = asked.runs[0]
    job = StackJob(run.spec, run.settings, (0, 1), (), "key", tmp_path / "state.safetensors")
    workers = workers_of(asked.request)
    try:
        said: list[object] = []
        found = workers.call(train_without_room, job, said.append)
        whole = workers.call(jobs.train, replace(job, checkpoint=None), lambda _: None)
    finally:
        workers.stop()
    texts = [text for text in said if isinstance(text, str)]
    assert [text.partition(" could not be kept: ")[0] for text in texts] == [
        f"the state after epoch {epoch}" for epoch in (1, 2)
    ]
    assert all("File too large" in text for text in texts)
    assert list(tmp_path.iterdir()) == []
    assert replace(found, training_seconds=0.0) == replace(whole, training_seconds=0.0)


def test_what_was_asked_that_cannot_be_stored_starts_nothing(tmp_path: Path) -> None:
    display = Silent()
    with pytest.raises(OSError, match="File too large"), room_for(100):
        execution.execute(plan(tmp_path, ["fixed"]), display)
    assert display.started == []
    assert set(files_of(tmp_path / "tiny")) <= {".lock"}
