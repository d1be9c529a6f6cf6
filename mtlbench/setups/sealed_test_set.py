"""Keeping the test set out of reach of a process that tunes."""

from __future__ import annotations

import os
import sys
from dataclasses import replace

from mtlbench.contracts.setup import Setup, Split
from mtlbench.data.sources import TEST_PREFIX


class TestSetOpenedError(Exception):
    """A tuning trial tried to read the test set."""

    __test__ = False  # not a class of tests, in spite of its name


def seal_test_set() -> None:
    """Refuse, from now on, to open a file with the name of a test file in this process.

    An audit hook refuses, and hooks cannot be removed. Every way of opening a file in Python calls it (`open`,
    `os.open`, `numpy.memmap`, `pathlib`, `mmap` of those). It has no effect on other processes, nor on links that have
    another name.
    """
    sys.addaudithook(_refuse_test_files)


def without_test_split(setup: Setup) -> Setup:
    """A copy of a setup whose test split cannot be read."""
    return replace(setup, test=_refused)


def _refuse_test_files(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
        name = os.path.basename(os.fsdecode(arguments[0]))  # noqa: PTH119 - a Path would be built at every open
        if name.startswith(TEST_PREFIX):
            raise TestSetOpenedError(f"a tuning trial opened {name}: tuning may read only the validation split")


def _refused() -> Split:
    raise TestSetOpenedError("a tuning trial asked for the test split: tuning may read only the validation split")
