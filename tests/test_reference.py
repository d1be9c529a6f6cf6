"""The bench that is kept in git: what the README shows of it is what it found."""

from __future__ import annotations

from pathlib import Path

from mtlbench import tables
from mtlbench.store import Store

ROOT = Path(__file__).parent.parent
REFERENCE = ROOT / "results" / "reference"


def table_of(path: Path) -> list[str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("| strategy | digit accuracy"))
    return lines[start : lines.index("", start)]


def test_the_readme_shows_the_reference_table() -> None:
    assert table_of(ROOT / "README.md") == table_of(REFERENCE / "README.md")


def test_fixed_weights_learn() -> None:
    scores = tables.scores_frame(tables.runs_frame(Store(REFERENCE).runs()))
    fixed = scores[(scores["strategy"] == "fixed") & (scores["task"] == "digit")].iloc[0]
    assert fixed["seeds"] >= 10
    assert fixed["mean"] >= 0.977


def test_the_reference_is_small_enough_for_git() -> None:
    kept = [path for path in REFERENCE.rglob("*") if path.is_file() and path.suffix != ".svg"]  # see .gitignore
    assert sum(path.stat().st_size for path in kept) < 2 * 2**20
