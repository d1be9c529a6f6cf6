"""Comparisons of a bench: the right pairs, one family per metric, and verdicts that hold, against scipy directly."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from mtlbench.contracts.metrics import DELTA_M
from mtlbench.records.roles import ALL_TASKS
from mtlbench.stats.comparisons import rankings, scores_frame, seeds_needed, with_delta_m
from tests.helpers.scores import TASKS, runs_of


def row_of(scores: pd.DataFrame, strategy: str, task: str = "digit", setup: str = "mnist") -> pd.Series:
    found = scores[(scores["strategy"] == strategy) & (scores["task"] == task) & (scores["setup"] == setup)]
    assert len(found) == 1
    return found.iloc[0]


def values(runs: pd.DataFrame, strategy: str, task: str = "digit") -> np.ndarray:
    return runs[(runs["strategy"] == strategy) & (runs["task"] == task)]["score"].to_numpy(dtype=float)


def test_p_values_are_scipys_and_corrected_over_all_of_a_metric() -> None:
    gains = {"a": 0.004, "b": 0.0004, "tuned:fixed": 0.002, "tuned:a": 0.0021}
    runs = pd.concat([runs_of(gains), runs_of(gains, setup="other")])
    scores = scores_frame(runs)
    tested = scores[(scores["metric"] == "accuracy") & scores["p"].notna()]
    assert sorted(tested["strategy"]) == sorted([*gains] * 2)
    corrected = np.asarray(multipletests(tested["p"], method="holm")[1], dtype=float)
    np.testing.assert_allclose(tested["p_holm"], corrected)
    assert set(tested["comparisons"]) == {8}
    first = runs[runs["setup"] == "mnist"]
    for strategy, reference in (("a", "fixed"), ("tuned:fixed", "fixed"), ("tuned:a", "tuned:fixed")):
        pairs = values(first, strategy) - values(first, reference)
        expected = stats.permutation_test((pairs,), np.mean, permutation_type="samples", n_resamples=2**12).pvalue
        row = row_of(scores, strategy)
        assert row["p"] == pytest.approx(expected)
        assert row["reference"] == reference
        assert row["difference"] == pytest.approx(pairs.mean())
        assert row["gained"] == pytest.approx((pairs > 0).mean())


def test_better_and_worse_follow_the_direction_of_the_metric() -> None:
    scores = scores_frame(runs_of({"up": 0.01, "same": 0.0, "down": -0.01}))
    for task in TASKS:
        assert row_of(scores, "up", task)["verdict"] == "better"
        assert row_of(scores, "same", task)["verdict"] == "none shown"
        assert row_of(scores, "down", task)["verdict"] == "worse"
        assert row_of(scores, "up", task)["gained"] == 1


def test_the_direction_is_the_tasks_own_whatever_its_metric_is_called() -> None:
    """A score of a name that says nothing, better when higher in one setup and when lower in another."""
    runs = runs_of({"up": 0.01, "down": -0.01})
    runs = runs[runs["task"] == "digit"].assign(metric="R2")
    both = pd.concat([runs, runs.assign(setup="other", better="lower")])
    scores = scores_frame(both)
    verdicts = [row_of(scores, name, setup=setup)["verdict"] for setup in ("mnist", "other") for name in ("up", "down")]
    assert verdicts == ["better", "worse", "worse", "better"]
    assert set(scores["comparisons"].dropna()) == {4}
    assert [row_of(scores, "up", setup=setup)["gained"] for setup in ("mnist", "other")] == [1, 0]
    first: list[str] = []
    for setup in ("mnist", "other"):
        (ranking,) = rankings(both[both["setup"] == setup], {setup: "digit"})
        first.append(ranking.strategies[int(np.argmin(ranking.ranks.mean_ranks))])
    assert first == ["up", "down"]


def test_nothing_is_tested_of_baselines_and_the_front() -> None:
    scores = scores_frame(runs_of({"front:0.9": 0.1}))
    assert scores["p"].isna().all()
    assert set(scores["verdict"]) == {""}
    assert row_of(scores, "front:0.9")["difference"] == pytest.approx(0.1, abs=2e-3)


def test_too_few_seeds_say_so() -> None:
    gains = {f"s{i}": 0.05 for i in range(4)}
    assert set(scores_frame(runs_of(gains, seeds=7))["verdict"]) == {"too few seeds", ""}
    scores = scores_frame(runs_of(gains, seeds=8))
    assert set(scores["verdict"]) == {"better", ""}
    assert seeds_needed(4) == 8
    few = scores_frame(runs_of(gains, seeds=7))
    assert row_of(few, "s0")["detectable"] == math.inf


def test_seeds_are_paired_whatever_their_order() -> None:
    runs = runs_of({"a": 0.002})
    shuffled = runs.sample(frac=1, random_state=0)
    one, other = row_of(scores_frame(runs), "a"), row_of(scores_frame(shuffled), "a")
    for column in ("difference", "p"):
        assert one[column] == pytest.approx(other[column])


def test_delta_m_is_the_mean_relative_change_against_single_tasks() -> None:
    runs = with_delta_m(runs_of({"a": 0.01, "front:0.1": -0.2}))
    rows = runs[runs["metric"] == DELTA_M]
    assert sorted(set(rows["strategy"])) == ["a", "fixed", "front:0.1"]
    digit, above = values(runs, "single:digit").mean(), values(runs, "single:above_five", "above_five").mean()
    by_hand = (
        (values(runs, "a").mean() - digit) / digit - (values(runs, "a", "above_five").mean() - above) / above
    ) / 2
    scores = scores_frame(runs)
    assert row_of(scores, "a", ALL_TASKS)["mean"] == pytest.approx(by_hand)
    assert row_of(scores, "a", ALL_TASKS)["verdict"] == "better"


def test_without_single_tasks_there_is_no_delta_m() -> None:
    runs = runs_of({"a": 0.01})
    kept = runs[runs["strategy"] != "single:digit"]
    assert with_delta_m(kept).equals(kept)


def test_ranks_are_over_setups_of_the_strategies_that_have_all() -> None:
    main = {"mnist": "digit", "x": "digit", "y": "digit"}
    parts = [runs_of({"a": 0.01, "b": -0.01, "tuned:a": 1}, setup=setup) for setup in main]
    parts[2] = parts[2][parts[2]["strategy"] != "b"]
    (ranking, *_) = rankings(with_delta_m(pd.concat(parts)), main)
    assert ranking.blocks == "setups"
    assert dict(zip(ranking.strategies, ranking.ranks.mean_ranks, strict=True)) == {"fixed": 2, "a": 1}
    (alone, *_) = rankings(runs_of({"a": 0.01, "b": -0.01}), {"mnist": "digit"})
    assert alone.blocks == "seeds"
    assert alone.ranks.blocks == 12
    assert dict(zip(alone.strategies, alone.ranks.mean_ranks, strict=True)) == {"fixed": 2, "a": 1, "b": 3}
