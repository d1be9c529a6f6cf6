"""Every property of a strategy, proven or refuted, one line each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from mtlbench.check import outcomes
from mtlbench.check.outcomes import Outcome
from mtlbench.check.strategy import properties, small_training
from mtlbench.check.strategy.subject import Subject


def _batched(subject: Subject) -> None:
    properties.batched_equals_one_by_one(subject)
    small_training.stack_trains_as_each_alone(subject)


STEP = "a step gives one objective per replica and one finite weight per task"
PROPERTIES: dict[str, Callable[[Subject], str | None]] = {
    "docstring names its source and hyper-parameters": properties.docstring_is_whole,
    STEP: properties.one_weight_per_task,
    "batched equals one by one": _batched,
    "permuting tasks permutes weights": properties.permuting_tasks_permutes_weights,
    "finite for losses from 1e-8 to 1e8 and degenerate gradients": properties.finite_everywhere,
    "state_dict is the whole state": properties.state_is_whole,
    "state is changed in place": properties.state_stays_in_place,
    "a step runs on meta": small_training.runs_on_meta,
    "no growth of memory over 200 steps": small_training.memory_does_not_grow,
}


def check(subject: Subject) -> Iterator[Outcome]:
    """Try every property; if not even one step can be taken, what needs steps is not tried."""
    proofs = {title: partial(prove, subject) for title, prove in PROPERTIES.items()}
    return outcomes.tried(proofs, subject.file, {STEP: "a step already fails"})


def failures(subject: Subject) -> list[str]:
    """The lines of what fails or could not be tried; none, if the strategy keeps the contract."""
    return outcomes.broken(check(subject))
