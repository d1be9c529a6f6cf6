"""Whole benches with real worker processes, kept tiny."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from mtlbench.bench import execution, train_runs
from mtlbench.bench.display import ShownJob
from mtlbench.bench.planning import Plan
from mtlbench.errors import UserError
from mtlbench.records.records import RunRecord
from mtlbench.stats import frames
from tests.helpers.tiny_bench import SETUP, Silent, execute, plan, write


def stored(asked: Plan, label: str) -> RunRecord:
    run = asked.store.run(SETUP, label)
    assert run is not None
    return run


def test_only_missing_runs_are_computed(tmp_path: Path) -> None:
    mine, other = write(tmp_path, "mine"), write(tmp_path, "other", "return 2 * step.losses.sum(-1)")
    first = plan(tmp_path / "out", ["mine"], [mine, other])
    complete, display = execute(first)
    assert complete
    assert sorted({title.partition(" ")[0] for title in display.titles}) == [
        "fixed", "mine", "single:above_five", "single:digit",
    ]  # fmt: skip
    assert any("fixed and mine gave identical numbers" in note for note in display.notes)
    files = {path: path.read_bytes() for path in [*(tmp_path / "out/tiny/runs" / SETUP).iterdir()]}
    costs = (tmp_path / "out/tiny/costs.json").read_bytes()

    complete, display = execute(plan(tmp_path / "out", ["mine"], [mine, other]))
    assert complete
    assert display.titles == []
    assert {path: path.read_bytes() for path in files} == files
    assert (tmp_path / "out/tiny/costs.json").read_bytes() == costs

    assert execute(plan(tmp_path / "out", ["other"], [mine, other]))[1].titles == ["other"]
    write(tmp_path, "mine", "return step.losses.mean(-1)")
    edited = plan(tmp_path / "out", ["mine", "other"], [mine, other])
    assert execute(edited)[1].titles == ["mine"]
    assert [run.spec.label for run in edited.store.runs(SETUP)] == [
        "fixed", "mine", "other", "single:digit", "single:above_five",
    ]  # fmt: skip

    with pytest.raises(UserError, match="epochs 1, not 2"):
        plan(tmp_path / "out", ["mine"], [mine, other], epochs=2)


def test_a_failed_run_is_tried_again(tmp_path: Path) -> None:
    plugin = write(tmp_path, "mine", "raise RuntimeError('not today')")
    asked = plan(tmp_path / "out", ["mine"], [plugin])
    for _ in range(2):
        complete, display = execute(asked)
        assert not complete
        assert "mine" in display.titles
    complete, display = execute(plan(tmp_path / "out", ["mine"], [write(tmp_path, "mine")]))
    assert complete
    assert display.titles == ["mine"]


def test_results_do_not_depend_on_other_runs(tmp_path: Path) -> None:
    found: list[list[RunRecord]] = []
    for jobs in (1, 2):
        asked = plan(tmp_path / str(jobs), ["gradnorm", "uncertainty"], jobs=jobs)
        assert execute(asked)[0]
        found.append(asked.store.runs(SETUP))
    for one, other in zip(*found, strict=True):
        assert one.key == other.key
        assert one.result is not None
        assert other.result is not None
        assert one.result.test == other.result.test
        assert one.result.trajectory == other.result.trajectory
        assert one.result.validation == other.result.validation
    runs = frames.runs_frame(found[0])
    assert set(runs.loc[runs["strategy"] == "single:digit", "task"]) == {"digit"}
    gradnorm = frames.curves_frame(found[0]).query("strategy == 'gradnorm' and split == 'training'")
    assert gradnorm["gradient_norm"].gt(0).all()
    assert gradnorm["cosine"].between(-1, 1).all()


def test_results_are_identical_for_any_order_and_number_of_jobs(tmp_path: Path) -> None:
    """With a strategy for each signal and hook; `test_checkpoint` trains every strategy twice and compares all bits."""
    names = ["fixed", "rlw", "dwa", "gradnorm", "famo", "mgda", "graddrop", "modo"]

    def trained(strategies: Sequence[str], jobs: int) -> dict[str, dict[str, Any]]:
        asked = plan(tmp_path / str(jobs), strategies, jobs=jobs)
        execution.write_request(asked)
        with execution.processes_for(asked.request) as processes:
            place = execution.place_of(asked.request, "cpu", processes)
            assert len(train_runs.train_missing(asked, set(), place, Silent())) == len(asked.runs)
        stored = {run.spec.label: run.model_dump() for run in asked.store.runs(SETUP)}
        for run in stored.values():
            del run["result"]["training_seconds"]
        return stored

    one, other = trained(names, 1), trained(names[::-1], 2)
    assert set(one) == {*names, "single:digit", "single:above_five"}
    for label, run in one.items():
        assert repr(run) == repr(other[label]), label


def test_an_interrupted_bench_keeps_finished_runs_and_resumes(tmp_path: Path) -> None:
    class Impatient(Silent):
        def ended(self, job: ShownJob) -> None:
            raise KeyboardInterrupt

    asked = plan(tmp_path / "out", ["uncertainty"], jobs=1)
    with pytest.raises(KeyboardInterrupt):
        execution.execute(asked, Impatient())
    assert [run.spec.label for run in asked.store.runs(SETUP) if run.result] == ["fixed"]
    before = (tmp_path / "out/tiny/runs" / SETUP / "fixed.json").read_bytes()
    complete, display = execute(plan(tmp_path / "out", ["uncertainty"]))
    assert complete
    assert "fixed" not in display.titles
    assert (tmp_path / "out/tiny/runs" / SETUP / "fixed.json").read_bytes() == before


def test_a_run_fails_if_its_file_is_edited_during_training(tmp_path: Path) -> None:
    mine = write(tmp_path, "mine")

    class Editor(Silent):
        def moved(self, job: ShownJob) -> None:
            if job.title == "mine":
                write(tmp_path, "mine", "return step.losses.mean(-1)")

    asked = plan(tmp_path / "out", ["mine"], [mine])
    assert not execution.execute(asked, Editor())
    assert "edited" in (stored(asked, "mine").error or "")
    assert stored(asked, "fixed").result is not None
    complete, display = execute(plan(tmp_path / "out", ["mine"], [mine]))
    assert complete
    assert display.titles == ["mine"]


def test_only_the_run_whose_file_is_removed_during_training_fails(tmp_path: Path) -> None:
    mine = write(tmp_path, "mine")

    class Remover(Silent):
        def moved(self, job: ShownJob) -> None:
            if job.title == "mine":
                mine.unlink(missing_ok=True)

    asked = plan(tmp_path / "out", ["mine", "famo"], [mine])
    assert not execution.execute(asked, Remover())
    error = stored(asked, "mine").error or ""
    assert str(mine) in error
    assert "No such file" in error
    for label in ("fixed", "famo"):
        assert stored(asked, label).result is not None
    write(tmp_path, "mine")
    complete, display = execute(plan(tmp_path / "out", ["mine", "famo"], [mine]))
    assert complete
    assert display.titles == ["mine"]
