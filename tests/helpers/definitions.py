"""What the file `tests/strategies/test_<name>.py` of each strategy declares: the method in plain torch, comparisons.

A test file is found by the name of the strategy's file. It defines `PLAIN`, the method as `Plain` by label (the first
label is the strategy's name), `AUTHORS`, what it was compared with, and, if the strategy has hyper-parameters,
`REFUSED`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from mtlbench.plugins.discovery import strategies_folder
from tests.helpers.authors import Authors
from tests.helpers.plain import Plain
from tests.helpers.refused import Refused

TESTS = Path(__file__).parents[1] / "strategies"


@dataclass
class Definitions:
    """The declarations of all test files, and one line for each that is missing."""

    plain: dict[str, Callable[[], Plain]] = field(default_factory=dict[str, Callable[[], Plain]])
    authors: dict[str, Authors] = field(default_factory=dict[str, Authors])
    refused: dict[str, Refused] = field(default_factory=dict[str, Refused])
    missing: list[str] = field(default_factory=list[str])


def collect(strategy_files: Iterable[Path], tests: Path = TESTS, package: str = "tests.strategies") -> Definitions:
    """Read the declarations in the test file of each strategy file."""
    definitions = Definitions()
    for file in strategy_files:
        test = tests / f"test_{file.stem}.py"
        if not test.is_file():
            definitions.missing.append(f"add tests/strategies/{test.name} with PLAIN for strategies/{file.name}")
            continue
        module = importlib.import_module(f"{package}.{test.stem}")
        plain: dict[str, Callable[[], Plain]] = getattr(module, "PLAIN", {})
        if not plain:
            definitions.missing.append(f"add PLAIN to tests/strategies/{test.name}: the method in plain torch by label")
            continue
        definitions.plain |= plain
        name, authors = next(iter(plain)), getattr(module, "AUTHORS", None)
        if authors is None:
            definitions.missing.append(f"add AUTHORS to tests/strategies/{test.name}: what {name} was compared with")
        else:
            definitions.authors[name] = authors
        definitions.refused[name] = getattr(module, "REFUSED", {})
    return definitions


DEFINITIONS = collect(sorted(strategies_folder().glob("[!_]*.py")))
PLAIN = DEFINITIONS.plain
"""Every method as plain torch for one network of two tasks, by its label."""
