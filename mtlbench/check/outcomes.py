"""What came of a property, in a line, and how the lines are shown."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from rich.console import Console
from rich.text import Text

from mtlbench.errors import ContractError, in_one_line

Verdict = Literal["holds", "fails", "declared", "untried"]
STYLES: dict[Verdict, str] = {"holds": "green", "fails": "bold red", "declared": "yellow", "untried": "dim"}
Prove = Callable[[], str | None]
"""Raises what is wrong; returns why a property is not asked for, or what is worth saying though it holds."""


@dataclass(frozen=True)
class Outcome:
    """What came of one property; `detail` says what failed, or why it was not tried."""

    title: str
    verdict: Verdict
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.verdict:<8} {self.title}" + (f": {self.detail}" if self.detail else "")


def tried(properties: Mapping[str, Prove], file: Path, needed: Mapping[str, str]) -> Iterator[Outcome]:
    """Try every property in turn; what a plugin raises is a failure of the property that was tried.

    Args:
        properties: by title.
        file: the plugin's, in which a failure is located.
        needed: properties without which those behind them are not tried, and why not.
    """
    missing = ""
    for title, prove in properties.items():
        if missing:
            yield Outcome(title, "untried", missing)
            continue
        outcome = _tried(title, prove, file)
        if outcome.verdict == "fails":
            missing = needed.get(title, "")
        yield outcome


def _tried(title: str, prove: Prove, file: Path) -> Outcome:
    try:
        declared = prove()
    except ContractError as error:
        return Outcome(title, "fails", str(error))
    except (Exception, SystemExit) as error:  # a plugin may fail in any way
        return Outcome(title, "fails", located(error, file))
    return Outcome(title, "declared", declared) if declared else Outcome(title, "holds")


def broken(outcomes: Iterable[Outcome]) -> list[str]:
    """The lines of what fails or could not be tried."""
    return [str(outcome) for outcome in outcomes if outcome.verdict in FAILING]


FAILING: Collection[Verdict] = ("fails", "untried")


def located(error: BaseException, file: Path) -> str:
    """An error in one line, with the last line of a plugin's file that led to it, else the last outside torch."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if Path(frame.filename) == file]
    outside = [frame for frame in frames if Path(torch.__file__).parent not in Path(frame.filename).parents]
    if not (own or outside):
        return in_one_line(error)
    frame = (own or outside)[-1]
    return f"{Path(frame.filename).name}:{frame.lineno} `{frame.line}`: {in_one_line(error)}"


def show(heading: str, outcomes: Iterable[Outcome], console: Console) -> bool:
    """Print the lines of a plugin under its heading as they come; says whether nothing failed."""
    console.print(heading, highlight=False, markup=False, soft_wrap=True)
    failed = 0
    for outcome in outcomes:
        failed += outcome.verdict == "fails"
        line = Text(f"  {outcome}")
        line.stylize(STYLES[outcome.verdict], 2, 2 + len(outcome.verdict))
        console.print(line, soft_wrap=True)
    return not failed
