"""Every property of a strategy, proven or refuted, one line each."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from rich.console import Console
from rich.text import Text

from mtlbench.check import properties, training
from mtlbench.check.subject import Subject
from mtlbench.errors import ContractError, in_one_line

Verdict = Literal["holds", "fails", "declared", "untried"]
STYLES: dict[Verdict, str] = {"holds": "green", "fails": "bold red", "declared": "yellow", "untried": "dim"}


@dataclass(frozen=True)
class Outcome:
    """What came of one property; `detail` says what failed, or why it was not tried."""

    title: str
    verdict: Verdict
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.verdict:<8} {self.title}" + (f": {self.detail}" if self.detail else "")


def _batched(subject: Subject) -> None:
    properties.batched_equals_one_by_one(subject)
    training.stack_trains_as_each_alone(subject)


STEP = "a step gives one objective per replica and one finite weight per task"
PROPERTIES: dict[str, Callable[[Subject], str | None]] = {
    "docstring names its source and hyper-parameters": properties.docstring_is_whole,
    STEP: properties.one_weight_per_task,
    "batched equals one by one": _batched,
    "permuting tasks permutes weights": properties.permuting_tasks_permutes_weights,
    "finite for losses from 1e-8 to 1e8 and degenerate gradients": properties.finite_everywhere,
    "state_dict is the whole state": properties.state_is_whole,
    "state is changed in place": properties.state_stays_in_place,
    "a step runs on meta": training.runs_on_meta,
    "no growth of memory over 200 steps": training.memory_does_not_grow,
}


def check(subject: Subject) -> Iterator[Outcome]:
    """Try every property; what a plugin raises is a failure of the property that was tried.

    If not even one step can be taken, what needs steps is not tried.
    """
    no_step = False
    for title, prove in PROPERTIES.items():
        if no_step:
            yield Outcome(title, "untried", "a step already fails")
            continue
        outcome = _tried(subject, title, prove)
        no_step = title == STEP and outcome.verdict == "fails"
        yield outcome


def _tried(subject: Subject, title: str, prove: Callable[[Subject], str | None]) -> Outcome:
    try:
        declared = prove(subject)
    except ContractError as error:
        return Outcome(title, "fails", str(error))
    except (Exception, SystemExit) as error:  # a plugin may fail in any way
        return Outcome(title, "fails", located(error, subject.file))
    return Outcome(title, "declared", declared) if declared else Outcome(title, "holds")


def failures(subject: Subject) -> list[str]:
    """The lines of what fails or could not be tried; none, if the strategy keeps the contract."""
    return [str(outcome) for outcome in check(subject) if outcome.verdict in ("fails", "untried")]


def located(error: BaseException, file: Path) -> str:
    """An error in one line, with the last line of a plugin's file that led to it, else the last outside torch."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if Path(frame.filename) == file]
    outside = [frame for frame in frames if Path(torch.__file__).parent not in Path(frame.filename).parents]
    if not (own or outside):
        return in_one_line(error)
    frame = (own or outside)[-1]
    return f"{Path(frame.filename).name}:{frame.lineno} `{frame.line}`: {in_one_line(error)}"


def show(subject: Subject, outcomes: Iterable[Outcome], console: Console) -> bool:
    """Print a strategy's lines as they come; says whether nothing failed."""
    console.print(f"{subject.spec.label}  {subject.file}", highlight=False, markup=False, soft_wrap=True)
    failed = 0
    for outcome in outcomes:
        failed += outcome.verdict == "fails"
        line = Text(f"  {outcome}")
        line.stylize(STYLES[outcome.verdict], 2, 2 + len(outcome.verdict))
        console.print(line, soft_wrap=True)
    return not failed
