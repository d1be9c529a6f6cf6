"""The controls of the comparison: they keep the promised level, find a planted difference, and need enough seeds."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from scipy import stats as scipy_stats

from mtlbench.cli.selftest import show
from mtlbench.errors import UserError
from mtlbench.records.store import Store
from mtlbench.stats import selftest
from mtlbench.stats.selftest import Control, count_declared
from tests.helpers.stored_benches import SEEDS, make_store, stored

COLUMNS = np.random.default_rng(1).gamma(4, 1, (20, 20))


def test_false_alarms_have_the_largest_attainable_level() -> None:
    rng = np.random.default_rng(0)
    declared = sum(count_declared(column, 200, rng) for column in COLUMNS)
    # Of the 1,024 flips of ten pairs, 50 have a p of 5% or less; the next two would exceed 5%.
    low, high = scipy_stats.binom.interval(0.999, 4_000, 50 / 1024)
    assert low <= declared <= high


def test_a_planted_difference_is_found() -> None:
    rng = np.random.default_rng(0)
    assert sum(count_declared(column, 50, rng, planted=2.0) for column in COLUMNS) > 0.95 * 1_000


def test_equal_values_raise_no_alarm() -> None:
    assert count_declared([0.5] * 12, 20, np.random.default_rng(0)) == 0


def test_the_same_generator_gives_the_same_count() -> None:
    counts = [count_declared(COLUMNS[0], 50, np.random.default_rng(3)) for _ in range(2)]
    assert counts[0] == counts[1]


def test_an_odd_number_of_values_is_split_into_equal_halves() -> None:
    assert 0 <= count_declared(COLUMNS[0][:13], 10, np.random.default_rng(0)) <= 10


@pytest.mark.parametrize("planted", [0.0, 2.0])
def test_controls_need_twelve_finite_values(planted: float) -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="12"):
        count_declared([1.0] * 11, 5, rng, planted=planted)
    with pytest.raises(ValueError, match="finite"):
        count_declared([1.0] * 11 + [math.nan], 5, rng, planted=planted)


def test_the_interval_of_the_share_is_clopper_and_pearsons() -> None:
    control = Control(5, 100)
    assert control.share == 0.05
    beta = scipy_stats.beta
    assert control.interval == pytest.approx((beta.ppf(0.025, 5, 96), beta.ppf(0.975, 6, 95)))


def test_no_comparisons_have_no_share() -> None:
    control = Control(0, 0)
    assert math.isnan(control.share)
    assert all(math.isnan(bound) for bound in control.interval)


def test_both_controls_hold_on_a_stored_bench(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    runs = [stored(f"s{i}", 0.9, scores=rng.normal(0.9, 0.01, (len(SEEDS), 2)).tolist()) for i in range(8)]
    nothing, planted = selftest.run(make_store(tmp_path, runs), resamplings=200)
    assert nothing.made == planted.made == 8 * 2 * 200
    assert nothing.share <= 0.05
    assert planted.share >= 0.8
    assert show(nothing, planted, Console(width=120))


def test_a_control_that_fails_is_reported() -> None:
    assert not show(Control(200, 1000), Control(900, 1000), Console(width=120))
    assert not show(Control(40, 1000), Control(700, 1000), Console(width=120))


def test_too_few_seeds_are_refused(tmp_path: Path) -> None:
    few = [stored("s", 0.9, scores=[[0.9, 0.1], [0.8, 0.2]], seeds=(0, 1))]
    with pytest.raises(UserError, match="12"):
        selftest.run(make_store(tmp_path, few))
    with pytest.raises(UserError, match="absent"):
        selftest.run(Store(tmp_path / "absent"))
