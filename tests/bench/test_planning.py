"""Planning: the runs of each setup, their settings and keys, and refused requests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from mtlbench.bench import tune
from mtlbench.bench.planning import Plan, Request, bench_runs, plan
from mtlbench.errors import UserError
from mtlbench.records.history import Evaluation
from mtlbench.records.records import BenchRecord, Environment, Trial
from mtlbench.records.roles import FIRST_TUNING_SEED, tuning_seeds
from mtlbench.records.store import Store

PLUGIN = """
from mtlbench import Strategy, register

@register("mine")
class Mine(Strategy):
    def forward(self, step):
        return {body}
"""


def request(out: Path, **changes: object) -> Request:
    asked = Request(
        name="b",
        out=out,
        setups=["mnist"],
        strategies=["gradnorm"],
        seeds=(0, 1),
        epochs=2,
        batch_size=64,
        lr=1e-3,
        device="cpu",
        jobs=None,
        plugins=(),
        command="mtlbench bench",
    )
    return replace(asked, **changes)  # pyright: ignore[reportArgumentType]


def labels(found: Plan, setup: str = "mnist") -> list[str]:
    return [run.spec.label for run in found.runs if run.setup.name == setup]


def tune_by_hand(asked: Request, scores: Sequence[float], error: str | None = None) -> None:
    """Store trials of fixed and gradnorm whose mean validation accuracies are given."""
    seeds = tuning_seeds(1)
    planned = tune.plan_tuning(replace(asked, seeds=seeds, tuned=False), len(scores))
    for tuning in planned.tunings:
        trials = [
            Trial(hyper=hyper, lr=lr, validation=Evaluation([[1.0, 1.0]], [[score, 0.1]]), error=error)
            for (hyper, lr), score in zip(tuning.trials, scores, strict=True)
        ]
        planned.store.write_tuning(tuning.record.model_copy(update={"trials": trials}))


def test_fixed_weights_and_single_tasks_are_always_included(tmp_path: Path) -> None:
    found = plan(request(tmp_path, setups=["mnist", "mnist-8-tasks", "mnist"]))
    assert labels(found) == ["fixed", "gradnorm", "single:digit", "single:above_five"]
    assert labels(found, "mnist-8-tasks")[:2] == ["fixed", "gradnorm"]
    assert len(labels(found, "mnist-8-tasks")) == 2 + 8
    assert len({run.name for run in found.runs}) == len({run.key for run in found.runs}) == len(found.runs)


def test_the_key_changes_with_everything_that_determines_a_run(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(PLUGIN.format(body="step.losses.sum(-1)"))
    asked = request(tmp_path, strategies=["mine", "gradnorm"], plugins=(file,))
    changed = [
        asked,
        replace(asked, strategies=["mine", "gradnorm:alpha=0.5"]),
        replace(asked, setups=["mnist-aux-x100"]),
        replace(asked, seeds=(0, 2)),
        replace(asked, epochs=3),
        replace(asked, batch_size=32),
        replace(asked, lr=2e-3),
    ]
    found = [plan(one).runs[2].key for one in changed]
    assert len(set(found)) == len(changed)
    before = plan(asked).runs[1].key
    file.write_text(PLUGIN.format(body="step.losses.mean(-1)"))
    assert plan(asked).runs[1].key != before
    assert plan(asked).runs[2].key == found[0]


def test_the_front_spans_all_shares_of_the_main_task(tmp_path: Path) -> None:
    found = plan(request(tmp_path, front=True, setups=["mnist", "mnist-8-tasks"]))
    weights = [run.spec.hyper["weights"] for run in found.runs if run.spec.label.startswith("front:")]
    two, eight = weights[:10], weights[10:]
    assert two[0] == [0, 2]
    assert two[-1] == [2, 0]
    assert all(isinstance(pair, list) and sum(pair) == pytest.approx(len(pair), rel=1e-5) for pair in weights)
    assert eight[-2] == pytest.approx([7.2, *[0.8 / 7] * 7], rel=1e-5)
    assert len(weights) == 20  # equal weights are fixed itself


@pytest.mark.parametrize("share", ["1.5", "-0.1", "nan", "x", ""])
def test_a_share_lies_between_0_and_1(tmp_path: Path, share: str) -> None:
    with pytest.raises(UserError, match="0 to 1"):
        plan(request(tmp_path, strategies=[f"front:{share}"]))


def test_tuned_settings_have_the_best_validation_score(tmp_path: Path) -> None:
    asked = request(tmp_path, tuned=True)
    tune_by_hand(asked, [0.9, 0.95, 0.93])
    found = plan(asked)
    assert labels(found)[2:4] == ["tuned:fixed", "tuned:gradnorm"]
    for run, name in zip(found.runs[2:4], ("fixed", "gradnorm"), strict=True):
        record = found.store.tuning("mnist", name)
        assert record is not None
        assert record.chosen == record.trials[1]
        assert (run.spec.hyper, run.settings.lr) == (record.trials[1].hyper, record.trials[1].lr)
        assert run.settings.seeds == asked.seeds


def test_untuned_strategies_are_named(tmp_path: Path) -> None:
    asked = request(tmp_path, tuned=True)
    tune_by_hand(asked, [0.9])
    (note,) = plan(replace(asked, strategies=["gradnorm", "rlw", "mgda"])).notes
    assert "not tuned on mnist" in note
    assert note.endswith(": rlw, mgda")
    assert plan(asked).notes == []


def test_strategies_that_do_not_leave_their_warm_up_are_named_once(tmp_path: Path) -> None:
    asked = request(tmp_path, setups=["mnist", "mnist-aux-x100"], strategies=["dwa", "gradnorm", "stch:warm_up=3"])
    (note,) = plan(asked).notes
    assert [note.count(name) for name in ("dwa", "stch:warm_up=3", "gradnorm")] == [1, 1, 0]
    (note,) = plan(replace(asked, epochs=3)).notes
    assert "dwa" not in note
    assert plan(replace(asked, epochs=4)).notes == []


def test_bench_and_tuning_never_share_a_seed() -> None:
    assert min(tuning_seeds(5)) == FIRST_TUNING_SEED


def test_tuned_runs_need_a_tuning(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="mtlbench tune --name b --setup mnist"):
        plan(request(tmp_path, tuned=True))
    with pytest.raises(UserError, match="--tuned"):
        plan(request(tmp_path, strategies=["tuned:gradnorm"]))


def test_a_tuning_with_a_failed_trial_chooses_nothing(tmp_path: Path) -> None:
    asked = request(tmp_path, tuned=True)
    tune_by_hand(asked, [0.9, 0.95], error="RuntimeError: no")
    with pytest.raises(UserError, match="has not been tuned"):
        plan(asked)


def test_tuning_for_other_conditions_is_refused(tmp_path: Path) -> None:
    asked = request(tmp_path, tuned=True)
    tune_by_hand(asked, [0.9])
    with pytest.raises(UserError, match="tuned with epochs 2, not 3"):
        plan(replace(asked, epochs=3))


def test_an_edited_strategy_must_be_tuned_again(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(PLUGIN.format(body="step.losses.sum(-1)"))
    asked = request(tmp_path, tuned=True, strategies=["mine"], plugins=(file,))
    tune_by_hand(asked, [0.9, 0.8])
    assert "tuned:mine" in labels(plan(asked))
    file.write_text(PLUGIN.format(body="step.losses.mean(-1)"))
    with pytest.raises(UserError, match="mine was edited since it was tuned"):
        plan(asked)


def test_later_requests_add_runs_to_a_bench(tmp_path: Path) -> None:
    store = Store(tmp_path / "b")
    first, later = (plan(request(tmp_path, strategies=[name], setups=[setup])) for name, setup in
                    (("gradnorm", "mnist"), ("rlw", "mnist-aux-x100")))  # fmt: skip
    runs = bench_runs(None, first.runs)
    environment = Environment(machine="m", cores=1, memory_gib=1, system="s", versions={}, commit=None)
    record = BenchRecord(
        name="b", commands=[], created="", conditions=first.conditions, runs=runs, environment=environment
    )
    store.write_bench(record)
    grown = bench_runs(store.bench(), later.runs)
    assert list(grown) == ["mnist", "mnist-aux-x100"]
    assert grown["mnist"] == runs["mnist"]
    assert "rlw" in grown["mnist-aux-x100"]
    with pytest.raises(UserError, match="epochs 2, not 5"):
        plan(request(tmp_path, epochs=5))
