"""Keeps the test set out of reach of a process that tunes."""

from __future__ import annotations

import os
import sys
from dataclasses import replace

from mtlbench.contracts.setup import Setup, Split
from mtlbench.data.sources import TEST_PREFIX


class TestSetOpenedError(Exception):
    """Something tried to read the test set while tuning."""

    __test__ = False  # nothing for pytest to collect


def seal_test_set() -> None:
    """From now on, this process opens no test file by its name: an audit hook refuses, and hooks cannot be removed.

    Every way of opening a file in Python passes it (`open`, `os.open`, `numpy.memmap`, `pathlib`, `mmap` of those). It
    does not reach into another process, nor see through a link of another name.
    """
    sys.addaudithook(_refuse_test_files)


def without_test_split(setup: Setup) -> Setup:
    """The setup, with a test split that cannot be read."""
    return replace(setup, test=_refused)


def _refuse_test_files(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
        name = os.path.basename(os.fsdecode(arguments[0]))  # noqa: PTH119 - a Path would be built at every open
        if name.startswith(TEST_PREFIX):
            raise TestSetOpenedError(f"a tuning trial opened {name}: tuning may look at validation only")


def _refused() -> Split:
    raise TestSetOpenedError("a tuning trial asked for the test split: tuning may look at validation only")
