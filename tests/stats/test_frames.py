"""Frames from hand-made runs, whose numbers can be worked out by hand."""

from __future__ import annotations

import pytest

from mtlbench.records.history import Evaluation, Result, Trajectory
from mtlbench.records.records import RunRecord, Settings, Spec, SpeedRecord, StepSpeed, TaskInfo, identical_runs
from mtlbench.report.tables import lay_out, over_setups
from mtlbench.stats import comparisons, frames

SEEDS = (4, 7)
TASKS = [
    TaskInfo(name="digit", metric="accuracy", better="higher"),
    TaskInfo(name="above_five", metric="error", better="lower"),
]


def run(label: str, accuracies: list[float], errors: list[float], only: str | None = None) -> RunRecord:
    scores = [list(pair) for pair in zip(accuracies, errors, strict=True)]
    losses = [[1.0, 2.0] for _ in SEEDS]
    evaluation = Evaluation(losses, scores)
    norms = [[[3.0, 4.0] for _ in SEEDS]]
    cosines = [[[0.25] for _ in SEEDS]]
    return RunRecord(
        key=label,
        spec=Spec(label=label, name="fixed", hyper={}, only=only),
        settings=Settings(setup="mnist", seeds=SEEDS, epochs=1, batch_size=64, lr=1e-3, device="cpu"),
        tasks=TASKS,
        source_file="fixed.py",
        source="",
        stacks=[list(SEEDS)],
        result=Result(
            [evaluation], Trajectory([1.0], [losses], [losses], norms, cosines), [None] * len(losses), 1.0, evaluation
        ),
    )


FIXED = run("fixed", [0.90, 0.92], [0.05, 0.03])
OTHER = run("other", [0.91, 0.96], [0.05, 0.02])
SINGLE = run("single:digit", [0.8, 0.9], [0.5, 0.5], only="digit")
FAILED = OTHER.model_copy(
    update={"spec": Spec(label="bad", name="bad", hyper={}), "result": None, "error": "ValueError: a | b"}
)
RUNS = [FIXED, OTHER, FAILED, SINGLE]


def test_runs_have_a_row_for_each_trained_task_and_seed() -> None:
    frame = frames.runs_frame(RUNS)
    assert len(frame) == 2 * 2 * 2 + 2
    row = frame[(frame["strategy"] == "other") & (frame["seed"] == 7) & (frame["task"] == "digit")].iloc[0]
    assert (row["metric"], row["score"], row["loss"]) == ("accuracy", 0.96, 1.0)


def test_differences_are_paired_by_seed() -> None:
    scores = comparisons.scores_frame(frames.runs_frame(RUNS)).set_index(["strategy", "task"])
    assert scores.loc[("other", "digit"), "mean"] == pytest.approx(0.935)
    assert scores.loc[("other", "digit"), "difference"] == pytest.approx(0.025)
    assert scores.loc[("other", "above_five"), "difference"] == pytest.approx(-0.005)
    assert scores["difference"].isna().loc[("fixed", "digit")]
    assert scores.loc[("single:digit", "digit"), "difference"] == pytest.approx(-0.06)


def test_curves_hold_training_and_validation() -> None:
    frame = frames.curves_frame(RUNS)
    training = frame[(frame["split"] == "training") & (frame["strategy"] == "fixed") & (frame["task"] == "above_five")]
    assert training["gradient_norm"].tolist() == [4.0, 4.0]
    assert training["cosine"].tolist() == [0.25, 0.25]
    assert frame[(frame["split"] == "validation") & (frame["strategy"] == "single:digit")]["score"].tolist() == [
        0.8,
        0.9,
    ]


def test_costs_are_medians_over_rounds() -> None:
    rounds = [1.0, 1.1, 1.2, 1.3, 1.4, 9.0, 1.25]
    cost = StepSpeed(
        key="k",
        label="other",
        replicas=2,
        samples_per_second=[100 * ratio for ratio in rounds],
        ratios=rounds,
        peak_memory=None,
    )
    frame = frames.speeds_frame(SpeedRecord(threads=1, costs=[cost]), ["fixed", "other"])
    assert frame.loc[0, "ratio"] == 1.25
    assert frame.loc[0, "samples_per_second"] == 125.0
    assert frames.speeds_frame(None, ["fixed"]).empty


def test_a_failed_run_keeps_its_row() -> None:
    scores = comparisons.scores_frame(frames.runs_frame(RUNS))
    summary = frames.summary_frame(RUNS, scores, frames.speeds_frame(None, []))
    assert summary["strategy"].tolist() == ["fixed", "other", "bad", "single:digit"]
    assert summary.set_index("strategy").loc["bad", "problem"] == "failed: ValueError: a | b"
    table = lay_out(summary, TASKS)
    assert [row.label for row in table.rows] == ["fixed", "other", "bad", "single:digit"]
    assert [len(row.cells) for row in table.rows] == [len(table.columns), len(table.columns), 0, len(table.columns)]
    assert table.rows[2].problem == "failed: ValueError: a | b"
    assert [cell.value for cell in table.rows[1].cells][:2] == ["93.50", "+2.50"]
    assert [cell.value for cell in table.rows[1].cells][5:7] == ["3.50", "-0.50"]
    assert table.rows[3].cells[5].value == "–"
    assert summary["digit_accuracy_low"].isna().all()


def test_scores_that_are_no_shares_are_in_their_own_unit_and_say_which_way_is_better() -> None:
    tasks = [TASKS[0], TaskInfo(name="above_five", metric="squared error", better="lower")]
    runs = [run.model_copy(update={"tasks": tasks}) for run in (FIXED, OTHER, SINGLE)]
    scores = comparisons.scores_frame(frames.runs_frame(runs))
    table = lay_out(frames.summary_frame(runs, scores, frames.speeds_frame(None, [])), tasks)
    assert [column.title for column in table.columns][5:7] == ["above_five squared error", "above_five minus fixed"]
    assert [cell.value for cell in table.rows[1].cells][5:7] == ["0.03500", "-0.00500"]
    assert table.note == table.brief().note == "squared error: lower is better"
    assert [column.higher_is_better for column in table.columns][5:7] == [False, False]
    main = over_setups(scores.assign(task="digit").drop_duplicates("strategy"), {"mnist": "digit"})
    assert main.note == ""
    own = scores[scores["task"] == "above_five"]
    assert over_setups(own, {"mnist": "above_five"}).note == "mnist in squared error (lower is better)"


def test_a_task_that_scores_nothing_alone_leaves_no_delta_m() -> None:
    alone = run("single:digit", [0.0, 0.0], [0.5, 0.5], only="digit")
    (line,) = frames.without_delta_m([FIXED, alone, FAILED])
    assert "digit" in line
    assert "accuracy 0.00%" in line
    assert frames.without_delta_m([FIXED, run("single:digit", [0.9, 0.8], [0.5, 0.5], only="digit")]) == []


def test_identical_runs_are_pointed_out() -> None:
    twin = FIXED.model_copy(update={"spec": Spec(label="twin", name="twin", hyper={})})
    (line,) = identical_runs([FIXED, OTHER, twin, FAILED])
    epochs = twin.settings.epochs
    assert identical_runs([FIXED, twin.model_copy(update={"warm_up": epochs})]) == []
    assert identical_runs([FIXED, twin.model_copy(update={"warm_up": epochs - 1})]) != []
    assert "fixed and twin" in line


def test_curves_over_seeds_are_the_mean_and_the_range() -> None:
    frame = frames.curves_over_seeds(frames.curves_frame(RUNS))
    assert not frame.duplicated(["strategy", "split", "epoch", "task"]).any()
    row = frame[(frame["strategy"] == "other") & (frame["split"] == "validation") & (frame["task"] == "digit")].iloc[0]
    assert (row["score"], row["score_low"], row["score_high"]) == (pytest.approx(0.935), 0.91, 0.96)
    training = frame[(frame["strategy"] == "fixed") & (frame["split"] == "training")].set_index("task")
    assert [training[name]["above_five"] for name in ("loss", "gradient_norm", "cosine")] == [2.0, 4.0, 0.25]
    assert training["score"].isna().all()
    assert frames.curves_over_seeds(frames.curves_frame([FAILED])).empty
