"""The bench that is kept in git: the README says what it found, and its statistics pass their own test."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtlbench.records.store import Store
from mtlbench.report.answer import answer
from mtlbench.setups import SETUPS
from mtlbench.stats import selftest
from mtlbench.stats.findings import Findings, read

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "results" / "reference"
SCALE_SETUPS = ("mnist-aux-x100", "mnist-aux-x0.01")
SCALE_INVARIANT = ("imtl-l", "nashmtl", "gradnorm", "famo", "uncertainty")
"""Strategies that aim at losses of any unit; the mean of the gradients that others descend is not."""


@pytest.fixture(scope="module")
def found() -> Findings:
    return read(Store(REFERENCE))


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def table_under(path: Path, heading: str) -> list[str]:
    lines = text_of(path).splitlines()
    start = next(i for i in range(lines.index(heading), len(lines)) if lines[i].startswith("| strategy |"))
    return lines[start : lines.index("", start)]


def test_the_readme_leads_with_the_answer_of_the_reference(found: Findings) -> None:
    setup, task = next(iter(found.main_tasks.items()))
    for sentence in answer(found.scores, found.speeds, setup, task):
        assert sentence in " ".join(text_of(ROOT / "README.md").split())
        assert sentence in text_of(REFERENCE / "README.md")


def test_the_readme_shows_the_table_over_setups_of_the_reference() -> None:
    shown = table_under(ROOT / "README.md", "## What it found")
    assert shown == table_under(REFERENCE / "README.md", "## Across setups")


def test_no_run_has_failed_and_all_seeds_learned(found: Findings) -> None:
    runs = [run for own in found.runs.values() for run in own]
    assert [run.error for run in runs if run.error] == []
    main = found.scores[(found.scores["setup"] == "mnist") & (found.scores["task"] == "digit")]
    fixed = main[main["strategy"] == "fixed"]
    assert fixed["mean"].iloc[0] >= 0.965
    assert fixed["seeds"].iloc[0] >= 12


def test_it_has_the_base_setup_with_tuning_and_front_and_the_stress_setups(found: Findings) -> None:
    labels = {run.spec.label for run in found.runs["mnist"]}
    assert {"fixed", "tuned:fixed", "front:0", "front:1"} <= labels
    assert len([label for label in labels if label.startswith("tuned:")]) >= 10
    assert set(found.runs) <= set(SETUPS)
    assert {"mnist", *SCALE_SETUPS} <= set(found.runs)


def test_a_strategy_that_does_not_care_for_units_beats_fixed_weights_where_units_differ(found: Findings) -> None:
    main = found.scores[found.scores["task"] == found.scores["setup"].map(found.main_tasks)]
    told = main[main["setup"].isin(SCALE_SETUPS) & main["strategy"].isin(SCALE_INVARIANT)]
    assert (told["verdict"] == "better").any()


def test_chance_is_not_taken_for_a_difference_and_the_readme_says_how_often(found: Findings) -> None:
    nothing, planted = selftest.run(Store(REFERENCE))
    assert nothing.share <= 0.05
    assert planted.share >= 0.8
    readme = " ".join(text_of(ROOT / "README.md").split())
    assert f"{nothing.share:.2%} of {nothing.made:,}" in readme
    assert f"{planted.share:.2%} of {planted.made:,}" in readme


def test_what_is_kept_is_small_enough_for_git() -> None:
    kept = [path for path in REFERENCE.rglob("*") if path.is_file() and path.suffix != ".svg"]  # see .gitignore
    assert sum(path.stat().st_size for path in kept) < 12 * 2**20
    assert (REFERENCE / "report.html").stat().st_size < 4_000_000
