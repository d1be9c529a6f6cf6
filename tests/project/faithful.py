"""`python -m tests.project.faithful`: writes the table of docs/faithful.md from the strategies' test files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from mtlbench.plugins.registry import Registry
from mtlbench.plugins.spec_text import written
from tests.helpers.authors import TORCHJD, Authors, Comparison
from tests.helpers.definitions import DEFINITIONS
from tests.project.readme_table import with_table

PAGE = Path(__file__).parents[2] / "docs" / "faithful.md"
COLUMNS = ("strategy", "compared with", "largest difference", "to TorchJD", "deviations", "defaults from")


def table(registry: Registry) -> str:
    """A row per strategy, in the order of their names."""
    rows = [_cells(name, DEFINITIONS.authors[name]) for name in sorted(registry.strategies)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [COLUMNS, ["---"] * len(COLUMNS), *rows])


def _cells(name: str, authors: Authors) -> list[str]:
    to_torchjd = [comparison for comparison in authors.comparisons if comparison.source == TORCHJD]
    main = [comparison for comparison in authors.comparisons if comparison.source != TORCHJD]
    (source,) = {comparison.source for comparison in main}
    drawn = ", same random numbers" if any(comparison.draws for comparison in main) else ""
    return [
        f"`{name}`",
        f"{source}{drawn}{_settings(main)}",
        _bound(main),
        f"{_bound(to_torchjd)}{_settings(to_torchjd)}" if to_torchjd else "",
        authors.deviations,
        authors.default,
    ]


def _settings(comparisons: Sequence[Comparison]) -> str:
    """The hyper-parameters of the comparisons, unless all are the defaults."""
    if not any(comparison.hyper for comparison in comparisons):
        return ""
    settings = (
        ", ".join(f"`{key}={written(value)}`" for key, value in comparison.hyper.items()) or "defaults"
        for comparison in comparisons
    )
    return f": {'; '.join(settings)}"


def _bound(comparisons: Sequence[Comparison]) -> str:
    return f"< 1e{math.log10(max(comparison.within for comparison in comparisons)):.0f}"


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8"), table(Registry.load())), encoding="utf-8")
