"""The controls keep the level they promise and find what they planted."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats as scipy_stats

from mtlbench.stats.controls import Control, false_alarms, found

COLUMNS = np.random.default_rng(1).gamma(4, 1, (20, 20))


def test_false_alarms_come_at_the_largest_attainable_level() -> None:
    rng = np.random.default_rng(0)
    control = Control.total(false_alarms(column, 200, rng) for column in COLUMNS)
    assert control.made == 4_000
    # Of the 1,024 flips of ten pairs 50 have a p of 5% or less: the next two would make it more.
    low, high = scipy_stats.binom.interval(0.999, 4_000, 50 / 1024)
    assert low <= control.declared <= high


def test_the_planted_difference_is_found() -> None:
    rng = np.random.default_rng(0)
    control = Control.total(found(column, 50, rng) for column in COLUMNS)
    assert control.made == 1_000
    assert control.share > 0.95


def test_equal_values_raise_no_alarm() -> None:
    rng = np.random.default_rng(0)
    assert false_alarms([0.5] * 12, 20, rng) == (0, 20)


def test_the_same_generator_gives_the_same_counts() -> None:
    counts = [false_alarms(COLUMNS[0], 50, np.random.default_rng(3)) for _ in range(2)]
    assert counts[0] == counts[1]


def test_an_odd_value_is_left_out() -> None:
    assert false_alarms(COLUMNS[0][:13], 10, np.random.default_rng(0))[1] == 10


@pytest.mark.parametrize("control", [false_alarms, found])
def test_controls_need_twelve_finite_values(control: Callable[..., tuple[int, int]]) -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="at least 12"):
        control([1.0] * 11, 5, rng)
    with pytest.raises(ValueError, match="finite"):
        control([1.0] * 11 + [math.nan], 5, rng)


def test_the_interval_of_the_share_is_clopper_and_pearsons() -> None:
    control = Control.total([(3, 60), (2, 40)])
    assert control == Control(5, 100)
    assert control.share == 0.05
    beta = scipy_stats.beta
    assert control.interval == pytest.approx((beta.ppf(0.025, 5, 96), beta.ppf(0.975, 6, 95)))


def test_no_comparisons_have_no_share() -> None:
    control = Control.total([])
    assert math.isnan(control.share)
    assert all(math.isnan(bound) for bound in control.interval)
