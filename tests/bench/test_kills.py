"""A bench that is killed again and again ends with the results of one that was left in peace."""

from __future__ import annotations

import random
from pathlib import Path

from tests.helpers.kills import survive


def test_five_kills_change_no_bit(tmp_path: Path) -> None:
    struck = survive(5, tmp_path, random.Random(3), workers=0.7)
    assert len(struck) == 5
