"""A bench that is killed repeatedly ends with the same results as an undisturbed one."""

from __future__ import annotations

import random
from pathlib import Path

from tests.helpers.kills import survive


def test_three_kills_leave_results_identical(tmp_path: Path) -> None:
    survive(["a worker", "the main process", "a worker"], tmp_path, random.Random(3))
