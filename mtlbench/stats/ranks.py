"""Mean ranks of strategies over blocks (setups, tasks or seeds), with tests and groups that do not differ."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import stats

from mtlbench.stats.estimates import LEVEL


@dataclass(frozen=True)
class Ranks:
    """Mean ranks of strategies over `blocks` blocks, 1 being best, with their tests (Demsar, JMLR 2006).

    `p` is that of Friedman's test, NaN for fewer than three strategies or two blocks; `critical_difference` is
    Nemenyi's at the 5% level, in ranks, NaN for fewer than two strategies.
    """

    mean_ranks: tuple[float, ...]
    p: float
    critical_difference: float
    blocks: int


def rank_test(scores: npt.ArrayLike, higher_is_better: bool | Sequence[bool]) -> Ranks:
    """Rank the strategies within each block, with mean ranks for ties, and test the mean ranks.

    Friedman's test is the chi-squared version corrected for ties; its p is 1 if all strategies tie in every block.

    Args:
        scores: [blocks, strategies].
        higher_is_better: one value for all blocks, or one per block.

    Raises:
        ValueError: the shapes do not match, there are no scores, or a score is not finite.
    """
    table = np.asarray(scores, dtype=float)
    if table.ndim != 2 or table.size == 0:
        raise ValueError(f"`scores` must have shape [blocks, strategies] and not be empty; found {table.shape}")
    if not np.isfinite(table).all():
        raise ValueError("`scores` must be finite: ranks need complete blocks")
    blocks, strategies = table.shape
    directions = [higher_is_better] * blocks if isinstance(higher_is_better, bool) else list(higher_is_better)
    if len(directions) != blocks:
        raise ValueError(f"`higher_is_better` must have one entry per block ({blocks}); found {len(directions)}")
    losses = np.where(np.array(directions)[:, None], -table, table)
    ranks = np.asarray(stats.rankdata(losses, axis=1), dtype=float)  # [blocks, strategies]
    p = math.nan
    if strategies >= 3 and blocks >= 2:
        # scipy divides zero by zero if all strategies tie.
        tied = bool((np.ptp(losses, axis=1) == 0).all())
        p = 1.0 if tied else float(stats.friedmanchisquare(*losses.T).pvalue)
    return Ranks(tuple(float(rank) for rank in ranks.mean(axis=0)), p, critical_difference(strategies, blocks), blocks)


@cache
def critical_difference(strategies: int, blocks: int) -> float:
    """Nemenyi's critical difference of mean ranks at 5%: q sqrt(k (k + 1) / (6 N)) for k strategies and N blocks.

    q is the 95% quantile of the studentised range at infinite degrees of freedom over sqrt(2) (Demsar, JMLR 2006,
    table 5). NaN for fewer than two strategies or no blocks.
    """
    if strategies < 2 or blocks < 1:
        return math.nan
    quantile = float(stats.studentized_range.ppf(1 - LEVEL, strategies, np.inf)) / math.sqrt(2)
    return quantile * math.sqrt(strategies * (strategies + 1) / (6 * blocks))


def cliques(mean_ranks: Sequence[float], critical_difference: float) -> list[tuple[int, int]]:
    """Maximal groups of strategies whose mean ranks all differ by less than `critical_difference`.

    Each group is (first, last), both inclusive, as positions in the order of rank, best first. Groups may overlap;
    groups of one are left out.
    """
    ordered = sorted(mean_ranks)
    groups: list[tuple[int, int]] = []
    for first, rank in enumerate(ordered):
        last = max((i for i in range(first, len(ordered)) if ordered[i] - rank < critical_difference), default=first)
        if last > first and (not groups or last > groups[-1][1]):
            groups.append((first, last))
    return groups


@dataclass(frozen=True)
class Ranking:
    """Mean ranks of strategies in one score, 1 being best.

    `blocks` are the units within which strategies were ranked: `setups`, or the `seeds` of one setup, which measure
    seed noise only.
    """

    score: str
    strategies: list[str]
    ranks: Ranks
    blocks: Literal["setups", "seeds"]
