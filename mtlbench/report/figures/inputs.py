"""What the plots draw: the frames of one setup, and what is known across the setups of a bench."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from mtlbench.stats.ranks import Ranking


@dataclass(frozen=True)
class Frames:
    """What the plots of one setup draw: its frames (see `tables`), its tasks (the main one first), its conditions."""

    runs: pd.DataFrame
    curves: pd.DataFrame
    scores: pd.DataFrame
    costs: pd.DataFrame
    tasks: tuple[str, ...]
    caption: str


@dataclass(frozen=True)
class Overview:
    """What the plots across the setups of a bench draw: the scores of all of them, and the rankings."""

    scores: pd.DataFrame
    main_tasks: dict[str, str]
    rankings: list[Ranking]
    caption: str
