"""The content of a report. README, HTML page and terminal are three renderings of this one model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mtlbench.plugins.explain import Explanation
from mtlbench.records.roles import Role
from mtlbench.report.figures.style import Style
from mtlbench.report.plots import SavedPlot
from mtlbench.report.tables import Table


@dataclass(frozen=True)
class LabelEntry:
    """A label that can be picked in the page; `strategy` is the name of the `StrategyEntry` that explains it."""

    label: str
    role: Role
    strategy: str
    style: Style


@dataclass(frozen=True)
class SetupSection:
    """Results on one setup."""

    name: str
    about: str
    table: Table
    plots: tuple[SavedPlot, ...] = ()


@dataclass(frozen=True)
class TunedEntry:
    """The settings chosen for a label on one setup, the number of trials and the seconds they trained."""

    label: str
    setup: str
    chosen: str
    trials: int
    seconds: float


@dataclass(frozen=True)
class StrategyEntry:
    """A strategy as explained by the source that was stored with its run; `cited` is its paper."""

    name: str
    explanation: Explanation
    cited: str
    tuned: tuple[TunedEntry, ...] = ()
    file: str = ""
    code: str = ""


@dataclass(frozen=True)
class Report:
    """Everything that is shown of a bench.

    `folder` is that of the bench; `conditions` and `environment` are pairs of name and value; the main setup is first;
    `plots` are those across setups; `csv` has the text of each CSV file by its name.
    """

    name: str
    folder: Path
    answer: tuple[str, ...]
    conditions: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    labels: tuple[LabelEntry, ...]
    setups: tuple[SetupSection, ...]
    over_setups: Table | None
    plots: tuple[SavedPlot, ...]
    strategies: tuple[StrategyEntry, ...]
    environment: tuple[tuple[str, str], ...]
    commands: tuple[str, ...]
    csv: Mapping[str, str] = field(default_factory=dict[str, str])
