"""How scores and differences are written, and which direction is better."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtlbench.contracts.metrics import Metric, score_text
from mtlbench.records.records import TaskInfo

SQUARED = Metric("squared error", "lower", scale=0.43)


@pytest.mark.parametrize(
    ("metric", "score", "difference"),
    [
        (Metric("accuracy", "higher", 0.9), "97.51%", "-0.13 points"),
        (SQUARED, "0.9751", "-0.0013"),
        (Metric("squared error", "lower", 101.3), "0.98", "+0.00"),
        (Metric("squared error", "lower", 0.0021), "0.975100", "-0.001300"),
        (Metric("R2", "higher"), "0.9751", "-0.0013000"),
    ],
)
def test_shares_are_in_per_cent_and_others_as_they_are(metric: Metric, score: str, difference: str) -> None:
    assert (metric.score(0.9751), metric.difference(-0.0013)) == (score, difference)


@given(st.floats(-1e5, 1e5), st.floats(1e-6, 1e5))
def test_a_score_is_written_to_a_thousandth_of_its_scale(value: float, scale: float) -> None:
    text = score_text(value, "squared error", scale)
    assert "e" not in text
    assert float(text) == pytest.approx(value, abs=max(2.6e-4 * scale, 5.001e-9))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 0.0, 1e300, 1e-300])
@pytest.mark.parametrize("scale", [math.nan, math.inf, 0.0, 0.43, 1e-300, 1e300])
def test_any_number_has_a_short_text(value: float, scale: float) -> None:
    metric = Metric("squared error", "lower", scale)
    assert len(metric.score(value)) < 20
    assert len(metric.difference(value)) < 20


def test_a_task_stored_without_its_better_direction_gets_it_from_the_metric() -> None:
    ways = {metric: TaskInfo.model_validate({"name": "t", "metric": metric}).better for metric in
            ("accuracy", "error", "squared error")}  # fmt: skip
    assert ways == {"accuracy": "higher", "error": "lower", "squared error": "lower"}
    own = TaskInfo(name="t", metric="R2", better="higher")
    assert TaskInfo.model_validate_json(own.model_dump_json()) == own
