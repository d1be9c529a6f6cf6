"""A bench that is killed repeatedly ends with the same results as an undisturbed one."""

from __future__ import annotations

import random
from pathlib import Path

from tests.helpers.kills import survive


def test_five_kills_leave_results_identical(tmp_path: Path) -> None:
    struck = survive(5, tmp_path, random.Random(3), workers=0.7)
    assert len(struck) == 5
