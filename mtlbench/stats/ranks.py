"""Ranks of strategies over several blocks (setups, tasks or seeds), and which of them the ranks tell apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import stats

LEVEL = 0.05


@dataclass(frozen=True)
class Ranks:
    """Mean ranks with their tests (Demsar, JMLR 2006).

    Attributes:
        mean_ranks: of each strategy, in the order given; 1 is best.
        p: Friedman's p of no difference between strategies; NaN for fewer than three strategies or two blocks.
        critical_difference: Nemenyi's at 5%, in ranks; NaN for fewer than two strategies.
        blocks: number of blocks that were ranked.
    """

    mean_ranks: tuple[float, ...]
    p: float
    critical_difference: float
    blocks: int


def rank_test(scores: npt.ArrayLike, higher_is_better: bool | Sequence[bool]) -> Ranks:
    """Rank the strategies of each block, tied ones by their mean rank, and test the mean ranks.

    Friedman's test is the chi-squared one corrected for ties; if all strategies tie in every block its p is 1.

    Args:
        scores: [blocks, strategies].
        higher_is_better: for all blocks, or one for each [blocks].

    Raises:
        ValueError: the shapes do not fit, there is no score, or a score is not finite: ranks need complete blocks.
    """
    table = np.asarray(scores, dtype=float)
    if table.ndim != 2 or table.size == 0:
        raise ValueError(f"scores must be [blocks, strategies] and hold a score, got the shape {table.shape}")
    if not np.isfinite(table).all():
        raise ValueError("scores must be finite, for ranks need complete blocks")
    blocks, strategies = table.shape
    directions = [higher_is_better] * blocks if isinstance(higher_is_better, bool) else list(higher_is_better)
    if len(directions) != blocks:
        raise ValueError(f"higher_is_better must have one entry for each of {blocks} blocks, got {len(directions)}")
    losses = np.where(np.array(directions)[:, None], -table, table)
    ranks = np.asarray(stats.rankdata(losses, axis=1), dtype=float)  # [blocks, strategies]
    p = math.nan
    if strategies >= 3 and blocks >= 2:
        # scipy divides zero by zero if nothing differs.
        tied = bool((np.ptp(losses, axis=1) == 0).all())
        p = 1.0 if tied else float(stats.friedmanchisquare(*losses.T).pvalue)
    return Ranks(tuple(float(rank) for rank in ranks.mean(axis=0)), p, critical_difference(strategies, blocks), blocks)


def critical_difference(strategies: int, blocks: int) -> float:
    """Nemenyi's critical difference of mean ranks at 5%: q sqrt(k (k + 1) / (6 N)) for k strategies and N blocks.

    q is the 95% quantile of the studentised range at infinite degrees of freedom over sqrt(2) (Demsar, JMLR 2006,
    table 5). NaN for fewer than two strategies or no blocks.
    """
    if strategies < 2 or blocks < 1:
        return math.nan
    return _quantile(strategies) * math.sqrt(strategies * (strategies + 1) / (6 * blocks))


@cache
def _quantile(strategies: int) -> float:
    return float(stats.studentized_range.ppf(1 - LEVEL, strategies, np.inf)) / math.sqrt(2)


def cliques(mean_ranks: Sequence[float], critical_difference: float) -> list[tuple[int, int]]:
    """Largest groups of strategies that the ranks do not tell apart: all differ by less than `critical_difference`.

    Each is (first, last), both included, as positions in the order of rank, best first; groups may overlap. Groups of
    one are left out.
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
    """Mean ranks of strategies (1 is best) in one score, with the Friedman test and the critical difference.

    `blocks` says what was ranked within: `setups`, or `seeds` of one setup, which speak of seed noise only.
    """

    score: str
    strategies: list[str]
    ranks: Ranks
    blocks: Literal["setups", "seeds"]
