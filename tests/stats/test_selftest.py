"""The controls on stored benches: they hold for seeds that differ by chance, and refuse what is too small."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from mtlbench.cli.selftest import show
from mtlbench.errors import UserError
from mtlbench.records.store import Store
from mtlbench.stats import selftest
from mtlbench.stats.controls import Control
from tests.helpers.stored_benches import SEEDS, make_store, stored


def test_chance_is_not_taken_for_a_difference_and_a_planted_one_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    runs = [stored(f"s{i}", 0.9, scores=rng.normal(0.9, 0.01, (len(SEEDS), 2)).tolist()) for i in range(8)]
    nothing, planted = selftest.run(make_store(tmp_path, runs), resamplings=200)
    assert nothing.made == planted.made == 8 * 2 * 200
    assert nothing.share <= 0.05
    assert planted.share >= 0.8
    assert show(nothing, planted, Console(width=120))
    assert "both hold" in capsys.readouterr().out


def test_a_control_that_fails_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert not show(Control(200, 1000), Control(900, 1000), Console(width=120))
    assert not show(Control(40, 1000), Control(700, 1000), Console(width=120))
    assert "does NOT hold" in capsys.readouterr().out


def test_too_few_seeds_are_refused(tmp_path: Path) -> None:
    few = [stored("s", 0.9, scores=[[0.9, 0.1], [0.8, 0.2]], seeds=(0, 1))]
    with pytest.raises(UserError, match="at least 12 seeds"):
        selftest.run(make_store(tmp_path, few))
    with pytest.raises(UserError, match="no bench"):
        selftest.run(Store(tmp_path / "absent"))
