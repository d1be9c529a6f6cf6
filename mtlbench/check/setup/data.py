"""What a setup promises of its description and its splits, each as a function that says what broke."""

from __future__ import annotations

import sys
from itertools import combinations

import torch
from torch import Tensor

from mtlbench.check.setup.subject import SetupSubject
from mtlbench.errors import ContractError
from mtlbench.setups import splits

SHARED = 0.01
"""Of a split, the samples that may also be in another: data have true duplicates."""


def says_what_it_is(subject: SetupSubject) -> None:
    """Both descriptions are there.

    Raises:
        ContractError: as for all functions here, says what broke, with the first sample that shows it.
    """
    if not subject.setup.about.strip():
        raise ContractError("`about` is empty; say in a line what the data, the tasks and the trunk are")
    if not (sys.modules[subject.declared.module].__doc__ or "").strip():
        raise ContractError(f"{subject.file.name} has no docstring; say where the data come from and what they are for")


def reads_the_same(subject: SetupSubject) -> None:
    """Every process reads the splits anew, and has to see the same: seeds are compared on the same data."""
    for purpose, again in splits.read(subject.setup).items():
        first = subject.splits[purpose]
        if not (_same(first.inputs, again.inputs) and _same(first.targets, again.targets)):
            raise ContractError(
                f"the {purpose} split differs when it is read again: draw random numbers from a generator with a seed"
            )


def inputs_fit(subject: SetupSubject) -> None:
    """The network can be given them."""
    for purpose, split in subject.splits.items():
        splits.check_inputs(subject.setup, purpose, split)


def targets_fit(subject: SetupSubject) -> None:
    """The losses can be given them."""
    for purpose, split in subject.splits.items():
        splits.check_targets(subject.setup, purpose, split)


def size_is_right(subject: SetupSubject) -> None:
    """What is planned by `training_size` is what is trained on."""
    splits.check_size(subject.setup, subject.splits["training"])


def splits_are_apart(subject: SetupSubject) -> str | None:
    """Up to true duplicates, no sample of a split is in another; says how many are."""
    rows = {purpose: _rows(split.inputs) for purpose, split in subject.splits.items()}
    training = rows["training"]
    repeated = 1 - len(set(training)) / len(training)  # data that repeat themselves anyway do so across splits
    said: list[str] = []
    for one, other in combinations(rows, 2):
        place = {row: i for i, row in reversed(list(enumerate(rows[one])))}
        shared = [i for i, row in enumerate(rows[other]) if row in place]
        if not shared:
            continue
        count = f"{len(shared):,} of {len(rows[other]):,} {other} samples are also in {one}"
        if len(shared) > (SHARED + repeated) * len(rows[other]):
            first = f"{other} sample {shared[0]} has the inputs of {one} sample {place[rows[other][shared[0]]]}"
            raise ContractError(f"{count}: {first}")
        said.append(count)
    return "; ".join(said) or None


def _rows(inputs: Tensor) -> list[int]:
    """A number for each row of inputs, equal for equal rows."""
    values = inputs.float() if inputs.dtype == torch.bfloat16 else inputs  # which numpy has not
    return [hash(row.tobytes()) for row in values.contiguous().numpy()]


def _same(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(one.nan_to_num(), other.nan_to_num())
