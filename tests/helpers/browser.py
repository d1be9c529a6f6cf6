"""The browser that tests of pages need; without it they are skipped, and the end of the run says so."""

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
    """The tests that were skipped for want of a browser: a file with their number, or the only one of a file."""
    skipped = [report.nodeid for report in reports if MISSING in str(report.longrepr)]
    counts = Counter(name.partition("::")[0] for name in skipped)
    alone = {name.partition("::")[0]: name for name in skipped}
    return [alone[file] if count == 1 else f"{file} ({count} tests)" for file, count in counts.items()]
