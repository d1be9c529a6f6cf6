"""The properties that a strategy and a setup must have, in the order in which they are tried."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mtlbench.check import setup_properties as setup
from mtlbench.check.outcomes import Outcome, Proof, try_all
from mtlbench.check.strategy import properties, small_training
from mtlbench.check.subjects import SetupSubject, Subject
from mtlbench.setups import splits

PROPERTIES: dict[str, Proof[Subject]] = {
    "docstring names its source and hyper-parameters": properties.docstring_is_whole,
    "a step gives one objective per replica and one finite weight per task": properties.one_weight_per_task,
    "batched equals one by one": properties.batched_equals_one_by_one,
    "permuting tasks permutes weights": properties.permuting_tasks_permutes_weights,
    "absent tasks are left out": properties.absent_tasks_are_left_out,
    "finite for losses from 1e-8 to 1e8 and degenerate gradients": properties.finite_everywhere,
    "finite for negative losses": properties.finite_for_negative_losses,
    "state_dict is the whole state": properties.state_is_whole,
    "state is changed in place": properties.state_stays_in_place,
    "a step runs on meta": small_training.runs_on_meta,
    "memory does not grow over 40 steps": small_training.memory_does_not_grow,
}
SETUP_PROPERTIES: dict[str, Proof[SetupSubject]] = {
    "about and the file's docstring describe it": setup.says_what_it_is,
    "samples() and test() return the same splits on every call": setup.reads_the_same,
    "inputs are [N, F] and finite, and fit the network": setup.inputs_fit,
    "targets are [N, T], with values that each task allows": setup.targets_fit,
    "training_size is the size of the training split": lambda subject: splits.check_size(
        subject.setup, subject.splits["training"]
    ),
    "splits share no samples": setup.splits_are_apart,
    "losses and scores are finite means over the batch, one per replica": setup.means_per_replica,
    "each loss has a gradient": setup.losses_have_gradients,
    "perfect outputs have the lower loss and the better score": setup.perfect_is_better,
    "a step runs on meta": setup.runs_on_meta,
    "a short training lowers the training loss": setup.training_lowers_the_loss,
}
PREREQUISITES: dict[Proof[Any], str] = {
    properties.one_weight_per_task: "a step already fails",
    setup.reads_the_same: "the splits cannot be read",
    setup.inputs_fit: "the inputs do not fit",
    setup.targets_fit: "the targets do not fit",
}
FAILING = ("fails", "untried")


def check(subject: Subject) -> Iterator[Outcome]:
    """Try every property of a strategy; if a single step fails, those that need steps are not tried."""
    return try_all(subject, subject.file, PROPERTIES, PREREQUISITES)


def check_setup(subject: SetupSubject) -> Iterator[Outcome]:
    """Try every property of a setup; if its splits do not fit, those that need splits are not tried."""
    return try_all(subject, subject.file, SETUP_PROPERTIES, PREREQUISITES)


def failures(subject: Subject) -> list[str]:
    """The lines of all properties that fail or could not be tried; empty if the strategy keeps its contract."""
    return [str(outcome) for outcome in check(subject) if outcome.verdict in FAILING]


def setup_failures(subject: SetupSubject) -> list[str]:
    """As `failures`, for a setup."""
    return [str(outcome) for outcome in check_setup(subject) if outcome.verdict in FAILING]
