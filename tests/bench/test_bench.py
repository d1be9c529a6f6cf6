"""Whole benches with real worker processes, kept tiny."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from mtlbench.bench import execution, train_runs
from mtlbench.bench.places import workers_of
from mtlbench.bench.planning import Plan, Request
from mtlbench.bench.planning import plan as lay_out
from mtlbench.engine.fitting import Progress
from mtlbench.errors import UserError
from mtlbench.plugins.registry import Registry
from mtlbench.records.records import RunRecord
from mtlbench.stats import frames
from tests.helpers.toy import TINY

GOOD = """
from mtlbench import Strategy, register

@register("{name}")
class Mine(Strategy):
    def forward(self, step):
        {body}
"""
SUM = "return step.losses.sum(-1)"
SETUP = TINY.name


class Silent:
    """A display that keeps what it was told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.started: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def run_started(self, label: str, epochs: int) -> None:
        self.started.append(label)

    def run_moved(self, label: str, progress: Progress) -> None:
        assert 0 < progress.done <= 1

    def run_ended(self, label: str, outcome: str) -> None:
        self.notes.append(f"{label}: {outcome}")


@pytest.fixture(autouse=True)
def few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "ROUNDS", 6)
    monkeypatch.setattr(execution, "TURN_SECONDS", 0.01)


def write(folder: Path, name: str, body: str = SUM) -> Path:
    path = folder / f"{name}.py"
    path.write_text(GOOD.format(name=name, body=body))
    return path


def plan(out: Path, strategies: Sequence[str], plugins: Sequence[Path] = (), jobs: int = 2, **asked: int) -> Plan:
    return lay_out(
        Request(
            name="tiny",
            out=out,
            setups=[SETUP],
            strategies=strategies,
            seeds=(0, 1),
            epochs=asked.get("epochs", 1),
            batch_size=100,
            lr=1e-3,
            device="cpu",
            jobs=jobs,
            plugins=tuple(plugins),
            command="test",
        )
    )


def execute(asked: Plan) -> tuple[bool, Silent]:
    display = Silent()
    return execution.execute(asked, display), display


def stored(asked: Plan, label: str) -> RunRecord:
    run = asked.store.run(SETUP, label)
    assert run is not None
    return run


def test_only_what_is_missing_is_computed(tmp_path: Path) -> None:
    mine, other = write(tmp_path, "mine"), write(tmp_path, "other", "return 2 * step.losses.sum(-1)")
    first = plan(tmp_path / "out", ["mine"], [mine, other])
    complete, display = execute(first)
    assert complete
    assert sorted({title.partition(" ")[0] for title in display.started}) == [
        "fixed", "mine", "single:above_five", "single:digit",
    ]  # fmt: skip
    assert any("fixed and mine gave identical numbers" in note for note in display.notes)
    files = {path: path.read_bytes() for path in [*(tmp_path / "out/tiny/runs" / SETUP).iterdir()]}
    costs = (tmp_path / "out/tiny/costs.json").read_bytes()

    complete, display = execute(plan(tmp_path / "out", ["mine"], [mine, other]))
    assert complete
    assert display.started == []
    assert {path: path.read_bytes() for path in files} == files
    assert (tmp_path / "out/tiny/costs.json").read_bytes() == costs

    assert execute(plan(tmp_path / "out", ["other"], [mine, other]))[1].started == ["other"]
    write(tmp_path, "mine", "return step.losses.mean(-1)")
    edited = plan(tmp_path / "out", ["mine", "other"], [mine, other])
    assert execute(edited)[1].started == ["mine"]
    assert [run.spec.label for run in edited.store.runs(SETUP)] == [
        "fixed", "mine", "other", "single:digit", "single:above_five",
    ]  # fmt: skip

    with pytest.raises(UserError, match="epochs 1, not 2"):
        plan(tmp_path / "out", ["mine"], [mine, other], epochs=2)


def test_a_run_that_failed_is_tried_again(tmp_path: Path) -> None:
    plugin = write(tmp_path, "mine", "raise RuntimeError('not today')")
    asked = plan(tmp_path / "out", ["mine"], [plugin])
    for _ in range(2):
        complete, display = execute(asked)
        assert not complete
        assert "mine" in display.started
    complete, display = execute(plan(tmp_path / "out", ["mine"], [write(tmp_path, "mine")]))
    assert complete
    assert display.started == ["mine"]


def test_results_do_not_depend_on_what_runs_beside(tmp_path: Path) -> None:
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


def test_every_strategy_is_the_same_bit_for_bit_whatever_runs_beside_and_in_whatever_order(
    tmp_path: Path, registry: Registry
) -> None:
    def trained(strategies: Sequence[str], jobs: int) -> dict[str, dict[str, Any]]:
        asked = plan(tmp_path / str(jobs), strategies, jobs=jobs)
        execution.write_asked(asked)
        workers = workers_of(asked.request)
        try:
            assert len(train_runs.train_missing(asked, set(), workers, Silent())) == len(asked.runs)
        finally:
            workers.stop()
        stored = {run.spec.label: run.model_dump() for run in asked.store.runs(SETUP)}
        for run in stored.values():
            del run["result"]["training_seconds"]
        return stored

    names = list(registry.strategies)
    one, other = trained(names, 1), trained(names[::-1], 2)
    assert set(one) == {*names, "single:digit", "single:above_five"}
    for label, run in one.items():
        assert repr(run) == repr(other[label]), label


def test_a_bench_that_is_stopped_keeps_finished_runs_and_goes_on_from_there(tmp_path: Path) -> None:
    class Impatient(Silent):
        def run_ended(self, label: str, outcome: str) -> None:
            raise KeyboardInterrupt

    asked = plan(tmp_path / "out", ["uncertainty"], jobs=1)
    with pytest.raises(KeyboardInterrupt):
        execution.execute(asked, Impatient())
    assert [run.spec.label for run in asked.store.runs(SETUP) if run.result] == ["fixed"]
    before = (tmp_path / "out/tiny/runs" / SETUP / "fixed.json").read_bytes()
    complete, display = execute(plan(tmp_path / "out", ["uncertainty"]))
    assert complete
    assert "fixed" not in display.started
    assert (tmp_path / "out/tiny/runs" / SETUP / "fixed.json").read_bytes() == before


def test_a_run_whose_file_is_edited_meanwhile_is_not_taken_for_either_version(tmp_path: Path) -> None:
    mine = write(tmp_path, "mine")

    class Editor(Silent):
        def run_moved(self, label: str, progress: Progress) -> None:
            if label == "mine":
                write(tmp_path, "mine", "return step.losses.mean(-1)")

    asked = plan(tmp_path / "out", ["mine"], [mine])
    assert not execution.execute(asked, Editor())
    assert "edited" in (stored(asked, "mine").error or "")
    assert stored(asked, "fixed").result is not None
    complete, display = execute(plan(tmp_path / "out", ["mine"], [mine]))
    assert complete
    assert display.started == ["mine"]


def test_a_run_whose_file_is_removed_meanwhile_has_failed_and_the_others_are_kept(tmp_path: Path) -> None:
    mine = write(tmp_path, "mine")

    class Remover(Silent):
        def run_moved(self, label: str, progress: Progress) -> None:
            if label == "mine":
                mine.unlink(missing_ok=True)

    asked = plan(tmp_path / "out", ["mine", "famo"], [mine])
    assert not execution.execute(asked, Remover())
    assert stored(asked, "mine").error == (
        f"{mine} cannot be read any more (No such file or directory): put it back and run the bench again"
    )
    for label in ("fixed", "famo"):
        assert stored(asked, label).result is not None
    write(tmp_path, "mine")
    complete, display = execute(plan(tmp_path / "out", ["mine", "famo"], [mine]))
    assert complete
    assert display.started == ["mine"]
