"""Finds the browser for tests of HTML pages, and lists the tests that were skipped without one."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterable

import pytest

MISSING = "Chromium is missing"
INSTALL = "apt-get install chromium chromium-driver"


def find(program: str) -> str:
    """The path of `chromium` or `chromedriver`. Skips the test where it is missing, or fails it in CI."""
    path = shutil.which(program)
    if path is None:
        reason = f"{MISSING}: no {program} on the PATH"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return path


def skipped_tests(reports: Iterable[pytest.TestReport]) -> list[str]:
    """Tests skipped because the browser is missing, one line for each file: the only test, or the number of tests."""
    skipped = [report.nodeid for report in reports if MISSING in str(report.longrepr)]
    counts = Counter(name.partition("::")[0] for name in skipped)
    alone = {name.partition("::")[0]: name for name in skipped}
    return [alone[file] if count == 1 else f"{file} ({count} tests)" for file, count in counts.items()]
