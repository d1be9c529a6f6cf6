"""Each strategy compared with its reference, paired by seed: differences, tests and verdicts over all setups."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import NamedTuple, cast

import numpy as np
import pandas as pd

from mtlbench.contracts.metrics import DELTA_M, Better
from mtlbench.records.roles import ALL_TASKS, REFERENCE, SINGLE, reference_of, role_of
from mtlbench.stats import estimates
from mtlbench.stats.estimates import Comparison, Estimate, Floats
from mtlbench.stats.ranks import Ranking, rank_test

SCORE_COLUMNS = [
    "setup", "strategy", "task", "metric", "better", "seeds", "mean", "low", "high", "reference", "difference",
    "difference_low", "difference_high", "p", "p_holm", "gained", "detectable", "comparisons", "verdict",
]  # fmt: skip
UNTESTED = (*[math.nan] * 5, "")  # the last six columns of groups that are not tested
DIRECTED = {("more", 1): "better", ("less", -1): "better", ("less", 1): "worse", ("more", -1): "worse"}
"""Verdicts by the sign of the difference, and 1 if a higher score is better, else -1."""


class ScoreKey(NamedTuple):
    """Identifies a score: setup, strategy and task, with the task's metric and the direction that is better."""

    setup: str
    strategy: str
    task: str
    metric: str
    better: Better


@dataclass(frozen=True)
class Group:
    """A score over seeds, with its differences to a reference.

    `differences` cover the seeds that both have; `tested` is True if they enter the family of comparisons.
    """

    score: ScoreKey
    reference: str
    values: Floats
    differences: Floats
    tested: bool


def with_delta_m(runs: pd.DataFrame) -> pd.DataFrame:
    """Scores of runs (`frames.runs_frame`), with Delta-m of each strategy and seed appended as a further task.

    A setup gets no Delta-m if one of its tasks was not trained alone on the same seeds, or scored 0 or less alone.
    """
    parts = [runs]
    for setup, rows in runs.groupby("setup", sort=False):
        tasks = list(dict.fromkeys(rows["task"]))
        table = rows.pivot_table(index=["strategy", "seed"], columns="task", values="score")[tasks]
        names = table.index.get_level_values("strategy")
        alone = pd.concat(
            [rows[rows["strategy"] == f"{SINGLE}:{task}"].set_index("seed")["score"] for task in tasks], axis=1
        )
        directions = dict(zip(rows["task"], rows["better"], strict=True))
        higher_is_better = [directions[task] == "higher" for task in tasks]
        for strategy in (name for name in dict.fromkeys(rows["strategy"]) if role_of(name) != SINGLE):
            scores = table[names == strategy].droplevel("strategy")
            single = alone.reindex(scores.index)
            if not (scores.notna().all(axis=None) and single.notna().all(axis=None) and (single.mean() > 0).all()):
                continue
            values = estimates.delta_m(scores.to_numpy(), single.to_numpy(), higher_is_better)
            added = pd.DataFrame({"seed": scores.index, "score": values})
            constant = {"task": ALL_TASKS, "metric": DELTA_M, "better": "higher", "loss": math.nan}
            parts.append(added.assign(setup=setup, strategy=strategy, **constant)[runs.columns])
    return pd.concat(parts, ignore_index=True) if len(parts) > 1 else runs


def scores_frame(runs: pd.DataFrame) -> pd.DataFrame:
    """`comparison_table` of every strategy, setup and task: untuned against fixed weights, tuned against tuned fixed.

    Baselines and the front get a difference but no test; fixed weights get neither.
    """
    by_key = samples_of(runs)

    def group(key: ScoreKey) -> Group:
        scores, reference = by_key[key], reference_of(key.strategy)
        none = scores.iloc[:0]  # no difference to itself
        others = none if key.strategy == reference else by_key.get(key._replace(strategy=reference), none)
        tested = role_of(key.strategy) in ("strategy", "tuned") and key.strategy != REFERENCE
        return paired(key, reference, scores, others, tested=tested)

    return comparison_table([group(key) for key in by_key])


def samples_of(runs: pd.DataFrame) -> dict[ScoreKey, pd.Series[float]]:
    """Scores by seed, for each setup, strategy and task."""
    groups = runs.groupby(list(ScoreKey._fields), sort=False)
    return {ScoreKey(*cast("ScoreKey", key)): rows.set_index("seed")["score"] for key, rows in groups}


def paired(key: ScoreKey, reference: str, scores: pd.Series[float], others: pd.Series[float], *, tested: bool) -> Group:
    """Group from scores by seed; `others` are those of the reference."""
    pairs = np.asarray(pd.concat([scores, others], axis=1, join="inner"), dtype=np.float64)
    return Group(key, reference, np.asarray(scores, dtype=np.float64), pairs[:, 0] - pairs[:, 1], tested)


def comparison_table(groups: Sequence[Group]) -> pd.DataFrame:
    """Mean score of each group, and its paired comparison with the reference.

    Holm's correction covers all comparisons of one metric, including those of other setups and tasks and of tuned
    settings. `comparisons` is their number, `detectable` the smallest difference that would be found with 80% power,
    `gained` the share of seeds with a better score. These, p values and verdict are empty for groups that are not
    tested. A verdict is `better` or `worse` whatever the direction of the metric.
    """
    means, gains = _estimates([group.values for group in groups]), _estimates([group.differences for group in groups])
    tests: dict[int, tuple[object, ...]] = {}
    for metric in dict.fromkeys(group.score.metric for group in groups):
        family = [i for i, group in enumerate(groups) if group.score.metric == metric and group.tested]
        ps = [estimates.sign_flip_p(groups[i].differences) for i in family]
        for i, p, p_holm in zip(family, ps, estimates.holm(ps), strict=True):
            differences, sign = groups[i].differences, 1 if groups[i].score.better == "higher" else -1
            share = estimates.gained(sign * differences)
            comparison = Comparison(gains[i], p, share, len(differences))
            outcome = estimates.verdict(comparison, p_holm, len(family))
            detectable = estimates.detectable(differences, len(family))
            tests[i] = p, p_holm, share, detectable, len(family), DIRECTED.get((outcome, sign), outcome)
    rows = [
        (*group.score, len(group.values), *astuple(mean), group.reference, *astuple(gain), *tests.get(i, UNTESTED))
        for i, (group, mean, gain) in enumerate(zip(groups, means, gains, strict=True))
    ]
    return pd.DataFrame(rows, columns=SCORE_COLUMNS)


def seeds_needed(comparisons: int) -> int:
    """Smallest number of seeds with which one of so many comparisons can be significant."""
    return next(seeds for seeds in range(1, 64) if estimates.smallest_p(seeds) * comparisons <= estimates.LEVEL)


def rankings(runs: pd.DataFrame, main_tasks: dict[str, str]) -> list[Ranking]:
    """Mean ranks of the strategies in the score of the main task and in Delta-m.

    Blocks are the setups, each with the mean scores over seeds; a bench of one setup uses its seeds as blocks.
    Strategies without a score in every block are left out; a score with fewer than two strategies has no ranking.
    """
    chosen = runs[[role_of(str(name)) == "strategy" for name in runs["strategy"]]]
    block, several = ("setup", True) if len(main_tasks) > 1 else ("seed", False)
    main = chosen[chosen["task"] == chosen["setup"].map(main_tasks)]
    ranked: list[Ranking] = []
    for score, rows in (("score of the main task", main), ("Delta-m", chosen[chosen["task"] == ALL_TASKS])):
        table = rows.pivot_table(index=block, columns="strategy", values="score", aggfunc="mean", sort=False)
        table = table.loc[:, table.notna().all()]
        if table.shape[0] < 2 or table.shape[1] < 2:
            continue
        directions = rows.groupby(block, sort=False)["better"].first().reindex(table.index)
        ranks = rank_test(table.to_numpy(), [direction == "higher" for direction in directions])
        ranked.append(Ranking(score, list(map(str, table.columns)), ranks, "setups" if several else "seeds"))
    return ranked


def _estimates(samples: Sequence[Floats]) -> list[Estimate]:
    """Means with intervals; samples of equal size are estimated together, which is several times faster."""
    by_position: dict[int, Estimate] = {}
    for size in {len(sample) for sample in samples}:
        same = [i for i, sample in enumerate(samples) if len(sample) == size]
        by_position |= dict(zip(same, estimates.means_over_seeds(np.stack([samples[i] for i in same])), strict=True))
    return [by_position[i] for i in range(len(samples))]
