"""Files are written atomically, and unreadable files are named."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

from mtlbench.errors import UserError
from mtlbench.records.history import Evaluation, Result, Trajectory
from mtlbench.records.records import RunRecord, Settings, Spec, TaskInfo
from mtlbench.records.store import Store

SETTINGS = Settings(setup="mnist", seeds=(0, 1), epochs=1, batch_size=64, lr=1e-3, device="cpu")


def record(label: str = "fixed", value: float = 0.5) -> RunRecord:
    matrix = [[value, 0.1], [0.7, 0.2]]
    evaluation = Evaluation(matrix, matrix)
    return RunRecord(
        key="k",
        spec=Spec(label=label, name="fixed", hyper={}),
        settings=SETTINGS,
        tasks=[
            TaskInfo(name="digit", metric="accuracy", better="higher"),
            TaskInfo(name="above_five", metric="error", better="lower"),
        ],
        source_file="fixed.py",
        source="",
        stacks=[[0, 1]],
        result=Result([evaluation], Trajectory([1.0], [matrix], [matrix], None, None), [None, None], 1.0, evaluation),
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "bench")
    made.prepare()
    return made


def test_a_run_survives_the_round_trip(store: Store) -> None:
    store.write_run(record())
    assert store.run("mnist", "fixed") == record()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_nonfinite_values_survive(store: Store, value: float) -> None:
    store.write_run(record(value=value))
    found = store.run("mnist", "fixed")
    assert found is not None
    assert found.result is not None
    assert repr(found.result.test.scores[0][0]) == repr(value)


@pytest.mark.parametrize("broken", ["replace", "fsync"])
def test_a_failed_write_keeps_only_the_old_file(store: Store, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    store.write_run(record())

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, broken, fail)
    with pytest.raises(OSError, match="disk full"):
        store.write_run(record(value=0.9))
    assert store.run("mnist", "fixed") == record()
    assert [path.name for path in (store.folder / "runs" / "mnist").iterdir()] == ["fixed.json"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 1}', record().model_dump_json()[:-20], "\x00"])
def test_an_unreadable_file_is_named(store: Store, text: str) -> None:
    path = store.folder / "runs" / "mnist" / "fixed.json"
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(UserError, match=r"fixed\.json") as error:
        store.run("mnist", "fixed")
    assert "delete it" in str(error.value)


def test_labels_that_differ_only_in_punctuation_have_separate_files(store: Store) -> None:
    labels = ["fixed:weights=[1,2]", "fixed:weights=[12]", "fixed-weights=-1-2"]
    for position, label in enumerate(labels):
        store.write_run(record(label, value=float(position)))
    assert [store.run("mnist", label) for label in labels] == [
        record(label, float(i)) for i, label in enumerate(labels)
    ]


@pytest.mark.parametrize("length", [235, 236, 10_000])
def test_long_labels_have_separate_files(store: Store, length: int) -> None:
    labels = ["x" * length, "x" * length + "y", "odd:" + "x" * length, "odd:" + "x" * length + "y"]
    failed = {"result": None, "error": "ValueError: no"}
    for label in labels:
        store.write_run(record(label).model_copy(update=failed), "Traceback ...")
        assert len(store.checkpoint("mnist", label, 0).parent.name) <= 235
    assert [store.run("mnist", label) for label in labels] == [
        record(label).model_copy(update=failed) for label in labels
    ]
    assert (store.folder / "runs" / "mnist" / f"{'x' * 235}.json").exists() == (length == 235)


def test_a_folder_that_cannot_be_created_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        Store(tmp_path / "file" / "bench").prepare()


def test_differences_name_each_condition() -> None:
    other = SETTINGS.model_copy(update={"epochs": 5, "seeds": (0, 1, 2)})
    assert SETTINGS.differences(other) == ["seeds 0,1, not 0-2", "epochs 1, not 5"]


def test_a_locked_bench_is_refused(store: Store) -> None:
    with store.locked(), pytest.raises(UserError, match=r"another process is working on .*bench"), store.locked():
        pass
    with store.locked():
        pass


def test_scratch_files_of_interrupted_writes_are_removed(store: Store) -> None:
    store.write_run(record())
    kept = {path for path in store.folder.rglob("*") if path.is_file()}
    (store.folder / "runs" / "mnist" / ".x1-fixed.json").write_text("{")
    state = store.checkpoint("mnist", "fixed", 0)
    state.parent.mkdir(parents=True)
    state.write_bytes(b"kept")
    (state.parent / ".x2-0.safetensors").write_bytes(b"half")
    with store.locked():
        pass
    assert {path for path in store.folder.rglob("*") if path.is_file()} == kept | {state, store.folder / ".lock"}
    store.drop_checkpoints("mnist", "fixed")
    assert not (store.folder / "checkpoints").exists()


def test_a_successful_run_removes_its_earlier_error(store: Store) -> None:
    store.write_run(record().model_copy(update={"result": None, "error": "ValueError: no"}), "Traceback ...")
    told = store.folder / "runs" / "mnist" / "fixed.error.txt"
    assert told.read_text() == "Traceback ...\n"
    store.write_run(record())
    assert not told.exists()
