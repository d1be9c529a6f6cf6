"""Outcomes of the properties that are checked, and how they are printed."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from rich.console import Console
from rich.text import Text

from mtlbench.errors import ContractError, in_one_line

Verdict = Literal["holds", "fails", "declared", "untried"]
STYLES: dict[Verdict, str] = {"holds": "green", "fails": "bold red", "declared": "yellow", "untried": "dim"}
S = TypeVar("S")
Proof = Callable[[S], str | None]
"""Raises what is wrong with a subject; returns why the property is not required, or a remark although it holds."""


@dataclass(frozen=True)
class Outcome:
    """The outcome of one property; `detail` says what failed, or why it was not required or not tried."""

    title: str
    verdict: Verdict
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.verdict:<8} {self.title}" + (f": {self.detail}" if self.detail else "")


def try_all(
    subject: S, file: Path, proofs: Mapping[str, Proof[S]], prerequisites: Mapping[Proof[Any], str]
) -> Iterator[Outcome]:
    """Try all properties in order. An error that the plug-in's file raises is a failure of the property being tried.

    `proofs` are by title. If a proof in `prerequisites` fails, the properties after it are not tried, for that reason.
    """
    reason = ""
    for title, prove in proofs.items():
        outcome = Outcome(title, "untried", reason) if reason else Outcome(title, *_tried(subject, file, prove))
        if outcome.verdict == "fails":
            reason = prerequisites.get(prove, "")
        yield outcome


def _tried(subject: S, file: Path, prove: Proof[S]) -> tuple[Verdict, str]:
    try:
        remark = prove(subject)
    except ContractError as error:
        return "fails", str(error)
    except (Exception, SystemExit) as error:  # a plug-in may fail in any way
        return "fails", _located(error, file)
    return ("declared", remark) if remark else ("holds", "")


def _located(error: BaseException, file: Path) -> str:
    """An error in one line, with the last line of the plug-in's file that led to it, else the last outside torch."""
    frames = traceback.extract_tb(error.__traceback__)
    in_file = [frame for frame in frames if Path(frame.filename) == file]
    outside_torch = [frame for frame in frames if Path(torch.__file__).parent not in Path(frame.filename).parents]
    if not (in_file or outside_torch):
        return in_one_line(error)
    frame = (in_file or outside_torch)[-1]
    return f"{Path(frame.filename).name}:{frame.lineno} `{frame.line}`: {in_one_line(error)}"


def show(heading: str, outcomes: Iterable[Outcome], console: Console) -> bool:
    """Print a plug-in's outcomes under a heading as they arrive; returns True if none of them failed."""
    console.print(heading, highlight=False, markup=False, soft_wrap=True)
    failed = False
    for outcome in outcomes:
        failed |= outcome.verdict == "fails"
        line = Text(f"  {outcome}")
        line.stylize(STYLES[outcome.verdict], 2, 2 + len(outcome.verdict))
        console.print(line, soft_wrap=True)
    return not failed
