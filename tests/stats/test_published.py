"""docs/multimnist.md says what the stored runs say, and that is near what is published."""

from __future__ import annotations

import numpy as np
import pytest

from mtlbench.records.store import Store
from mtlbench.stats.findings import read
from tests.helpers.published import BENCH, PUBLISHED, ROOT, TASKS, accuracies, difference, half_width, table

WITHIN = 1.5  # points


def test_the_document_shows_the_table_of_the_stored_runs() -> None:
    text = (ROOT / "docs" / "multimnist.md").read_text(encoding="utf-8")
    assert "\n".join(table()) in text, "put `python -m tests.helpers.published` into docs/multimnist.md"


def test_the_document_names_the_command_that_was_run() -> None:
    bench = Store(BENCH).bench()
    assert bench is not None
    (command,) = bench.commands
    assert command in (ROOT / "docs" / "multimnist.md").read_text(encoding="utf-8")


def test_the_table_has_the_means_of_the_summary_over_all_seeds() -> None:
    found = read(Store(BENCH))
    assert [run.error for run in found.runs["multimnist"] if run.error] == []
    scores = found.scores.set_index(["strategy", "task"])["mean"]
    for strategy in PUBLISHED:
        for task in TASKS:
            label = f"{strategy}:{task}" if strategy == "single" else strategy
            assert len(accuracies(strategy, task)) == 5
            assert accuracies(strategy, task).mean() == pytest.approx(100 * scores[label, task])


def test_each_strategy_is_near_what_is_published_but_for_the_one_that_the_document_explains() -> None:
    beyond = {(strategy, task) for strategy in PUBLISHED for task in TASKS if abs(difference(strategy, task)) >= WITHIN}
    assert beyond == {("mgda", "right")}
    text = (ROOT / "docs" / "multimnist.md").read_text(encoding="utf-8")
    assert f"more than {WITHIN} points off ({difference('mgda', 'right'):.2f})" in text.replace("\n", " ")


def test_an_interval_is_students() -> None:
    assert half_width(np.array([1.0, 3.0])) == pytest.approx(12.7062, rel=1e-5)
