"""Every strategy against its reference, paired by seed: differences, tests and what they show, over all setups."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import numpy as np
import pandas as pd

from mtlbench.contracts.metrics import DELTA_M, Better
from mtlbench.records.roles import ALL_TASKS, REFERENCE, SINGLE, reference_of, role_of
from mtlbench.stats.estimates import (
    LEVEL,
    Comparison,
    Estimate,
    Floats,
    delta_m,
    detectable,
    gained,
    holm,
    means_over_seeds,
    sign_flip_p,
    smallest_p,
    verdict,
)
from mtlbench.stats.ranks import Ranking, rank_test

SCORE_COLUMNS = [
    "setup",
    "strategy",
    "task",
    "metric",
    "better",
    "seeds",
    "mean",
    "low",
    "high",
    "reference",
    "difference",
    "difference_low",
    "difference_high",
    "p",
    "p_holm",
    "gained",
    "detectable",
    "comparisons",
    "verdict",
]


class ScoreKey(NamedTuple):
    """What was scored: a task of a setup under a strategy, and which way of the metric is better."""

    setup: str
    strategy: str
    task: str
    metric: str
    better: Better


@dataclass(frozen=True)
class Group:
    """A score over seeds, and what it is compared with.

    `differences` to the reference are of the seeds that both have; `tested` says whether a comparison is made of them.
    """

    score: ScoreKey
    reference: str
    values: Floats
    differences: Floats
    tested: bool


def with_delta_m(runs: pd.DataFrame) -> pd.DataFrame:
    """The scores of runs (`tables.runs_frame`), and behind them Delta-m of each strategy and seed as a further task.

    A setup has none if a task was not trained alone on the same seeds, or scored 0 or less alone.
    """
    parts = [runs]
    for setup, rows in runs.groupby("setup", sort=False):
        tasks = list(dict.fromkeys(rows["task"]))
        table = rows.pivot_table(index=["strategy", "seed"], columns="task", values="score")[tasks]
        names = table.index.get_level_values("strategy")
        alone = pd.concat(
            [rows[rows["strategy"] == f"{SINGLE}:{task}"].set_index("seed")["score"] for task in tasks], axis=1
        )
        ways = dict(zip(rows["task"], rows["better"], strict=True))
        better = [ways[task] == "higher" for task in tasks]
        for strategy in (name for name in dict.fromkeys(rows["strategy"]) if role_of(name) != SINGLE):
            mine = table[names == strategy].droplevel("strategy")
            theirs = alone.reindex(mine.index)
            if not (mine.notna().all(axis=None) and theirs.notna().all(axis=None) and (theirs.mean() > 0).all()):
                continue
            values = delta_m(mine.to_numpy(), theirs.to_numpy(), better)
            parts.append(
                pd.DataFrame(
                    {
                        "setup": setup,
                        "strategy": strategy,
                        "seed": mine.index,
                        "task": ALL_TASKS,
                        "metric": DELTA_M,
                        "better": "higher",
                        "score": values,
                        "loss": math.nan,
                    }
                )
            )
    return pd.concat(parts, ignore_index=True) if len(parts) > 1 else runs


def scores_frame(runs: pd.DataFrame) -> pd.DataFrame:
    """`comparison_table` of every strategy, setup and task with fixed weights, of tuned ones with tuned fixed weights.

    Baselines and the front are shown with their difference, and not tested; fixed weights have none.
    """
    by_key = samples_of(runs)

    def group(key: ScoreKey) -> Group:
        mine, reference = by_key[key], reference_of(key.strategy)
        theirs = by_key.get(key._replace(strategy=reference), mine.iloc[:0])
        theirs = theirs.iloc[:0] if key.strategy == reference else theirs  # it has no difference to itself
        tested = role_of(key.strategy) in ("strategy", "tuned") and key.strategy != REFERENCE
        return paired(key, reference, mine, theirs, tested=tested)

    return comparison_table([group(key) for key in by_key])


def samples_of(runs: pd.DataFrame) -> dict[ScoreKey, pd.Series[float]]:
    """The scores by seed of all that was scored."""
    groups = runs.groupby(list(ScoreKey._fields), sort=False)
    return {ScoreKey(*cast("ScoreKey", key)): rows.set_index("seed")["score"] for key, rows in groups}


def paired(score: ScoreKey, reference: str, mine: pd.Series[float], theirs: pd.Series[float], *, tested: bool) -> Group:
    """A group from scores by seed."""
    pairs = np.asarray(pd.concat([mine, theirs], axis=1, join="inner"), dtype=np.float64)
    values = np.asarray(mine, dtype=np.float64)
    return Group(score, reference, values, pairs[:, 0] - pairs[:, 1], tested)


def comparison_table(groups: Sequence[Group]) -> pd.DataFrame:
    """Mean score of each group, and its paired comparison with the reference.

    Holm's correction goes over all comparisons of one metric, those of other setups and tasks and of tuned settings
    among them. `comparisons` is their number, `detectable` the smallest difference that would have been shown at 80%
    power, `gained` the share of seeds with a better score; all three, p and the verdict are empty where nothing is
    compared. A verdict is `better` or `worse`, whatever the metric's direction.
    """
    means, gains = _estimates([group.values for group in groups]), _estimates([group.differences for group in groups])
    rows = [_row(*one) for one in zip(groups, means, gains, strict=True)]
    for metric in dict.fromkeys(group.score.metric for group in groups):
        family = [i for i, group in enumerate(groups) if group.score.metric == metric and group.tested]
        ps = [sign_flip_p(groups[i].differences) for i in family]
        for i, p, p_holm in zip(family, ps, holm(ps), strict=True):
            differences, sign = groups[i].differences, 1 if groups[i].score.better == "higher" else -1
            share = gained(sign * differences)
            comparison = Comparison(gains[i], p, share, len(differences))
            rows[i] |= {
                "p": p,
                "p_holm": p_holm,
                "gained": share,
                "detectable": detectable(differences, len(family)),
                "comparisons": len(family),
                "verdict": _in_words(verdict(comparison, p_holm, len(family)), sign),
            }
    return pd.DataFrame(rows, columns=SCORE_COLUMNS)


def seeds_needed(comparisons: int) -> int:
    """How many seeds a comparison needs to be able to show anything, among so many."""
    return next(seeds for seeds in range(1, 64) if smallest_p(seeds) * comparisons <= LEVEL)


def rankings(runs: pd.DataFrame, main_tasks: dict[str, str]) -> list[Ranking]:
    """Mean ranks of the strategies in the main task's score and in Delta-m.

    Blocks are the setups, each a row of mean scores; with one setup they are its seeds. Strategies that lack a block
    are left out, and so are scores with fewer than two strategies.
    """
    chosen = runs[[role_of(str(name)) == "strategy" for name in runs["strategy"]]]
    block, several = ("setup", True) if len(main_tasks) > 1 else ("seed", False)
    main = chosen[chosen["task"] == chosen["setup"].map(main_tasks)]
    found: list[Ranking] = []
    for score, rows in (("score of the main task", main), ("Delta-m", chosen[chosen["task"] == ALL_TASKS])):
        table = rows.pivot_table(index=block, columns="strategy", values="score", aggfunc="mean", sort=False)
        table = table.loc[:, table.notna().all()]
        if table.shape[0] < 2 or table.shape[1] < 2:
            continue
        ways = rows.groupby(block, sort=False)["better"].first().reindex(table.index)
        better = [way == "higher" for way in ways]
        names = [str(name) for name in table.columns]
        found.append(Ranking(score, names, rank_test(table.to_numpy(), better), "setups" if several else "seeds"))
    return found


def _row(group: Group, mean: Estimate, gain: Estimate) -> dict[str, object]:
    return {
        **group.score._asdict(),
        "seeds": len(group.values),
        "mean": mean.value,
        "low": mean.low,
        "high": mean.high,
        "reference": group.reference,
        "difference": gain.value,
        "difference_low": gain.low,
        "difference_high": gain.high,
        "p": math.nan,
        "p_holm": math.nan,
        "gained": math.nan,
        "detectable": math.nan,
        "comparisons": math.nan,
        "verdict": "",
    }


def _estimates(samples: Sequence[Floats]) -> list[Estimate]:
    """Means with intervals; those of equal size at once, which is several times as fast."""
    found: dict[int, Estimate] = {}
    for size in {len(sample) for sample in samples}:
        where = [i for i, sample in enumerate(samples) if len(sample) == size]
        found |= dict(zip(where, means_over_seeds(np.stack([samples[i] for i in where])), strict=True))
    return [found[i] for i in range(len(samples))]


def _in_words(found: str, sign: int) -> str:
    if found in ("more", "less"):
        return "better" if (found == "more") == (sign > 0) else "worse"
    return found
