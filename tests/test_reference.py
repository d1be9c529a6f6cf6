"""The benches that are kept in git: what the README shows of them is what they found."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from mtlbench import tables
from mtlbench.registry import Registry
from mtlbench.store import Store

ROOT = Path(__file__).parent.parent
REFERENCE, CATALOGUE = (ROOT / "results" / name for name in ("reference", "catalogue"))


def table_of(path: Path) -> list[str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("| strategy | digit accuracy"))
    return lines[start : lines.index("", start)]


def digit_scores(folder: Path) -> pd.DataFrame:
    scores = tables.scores_frame(tables.runs_frame(Store(folder).runs()))
    return scores[scores["task"] == "digit"].set_index("strategy")


def test_the_readme_shows_the_reference_table() -> None:
    assert table_of(ROOT / "README.md") == table_of(REFERENCE / "README.md")


def test_fixed_weights_learn() -> None:
    scores = digit_scores(REFERENCE)
    assert int(scores["seeds"].min()) >= 10
    assert dict(zip(scores.index, scores["mean"], strict=True))["fixed"] >= 0.977


def test_every_strategy_of_the_catalogue_has_a_run_and_none_has_failed(registry: Registry) -> None:
    runs = Store(CATALOGUE).runs()
    assert {run.spec.label for run in runs if run.spec.only is None} == set(registry.strategies)
    assert [run.spec.label for run in runs if run.error] == []
    scores = digit_scores(CATALOGUE)
    assert scores["seeds"].min() >= 10
    assert scores["mean"].min() >= 0.95


def test_the_readme_says_of_the_catalogue_what_it_found() -> None:
    text, scores = (ROOT / "README.md").read_text(encoding="utf-8"), digit_scores(CATALOGUE)
    for strategy in ("moco", "mgda"):
        assert f"`{strategy}` ({scores.loc[strategy, 'mean']:.2%})" in text


@pytest.mark.parametrize("folder", [REFERENCE, CATALOGUE])
def test_what_is_kept_is_small_enough_for_git(folder: Path) -> None:
    kept = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".svg"]  # see .gitignore
    assert sum(path.stat().st_size for path in kept) < 2 * 2**20
