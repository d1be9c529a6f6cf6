"""`python -m tests.project.faithful`: writes the table of docs/faithful.md from the strategies' test files."""

from __future__ import annotations

import math
from pathlib import Path

from mtlbench.plugins.registry import Registry
from mtlbench.plugins.spec_text import written
from tests.helpers.authors import Authors
from tests.helpers.definitions import DEFINITIONS
from tests.project.readme_table import with_table

PAGE = Path(__file__).parents[2] / "docs" / "faithful.md"
COLUMNS = ("strategy", "compared with", "largest difference", "deviations", "defaults from")


def table(registry: Registry) -> str:
    """A row per strategy, in the order of their names."""
    rows = [_cells(name, DEFINITIONS.authors[name]) for name in sorted(registry.strategies)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [COLUMNS, ["---"] * len(COLUMNS), *rows])


def _cells(name: str, authors: Authors) -> list[str]:
    bounds: dict[str, float] = {}
    settings: dict[str, list[str]] = {}
    for comparison in authors.comparisons:
        source = comparison.source if comparison.draws is None else f"{comparison.source}, same random numbers"
        bounds[source] = max(bounds.get(source, 0.0), comparison.within)
        hyper = ",".join(f"{key}={written(value)}" for key, value in comparison.hyper.items())
        settings.setdefault(source, []).extend([f"`{hyper}`"] if hyper else [])
    sources = [f"{source}, {', '.join(settings[source])}".removesuffix(", ") for source in bounds]
    differences = [f"< 1e{math.log10(bound):.0f}" for bound in bounds.values()]
    return [f"`{name}`", "<br>".join(sources), "<br>".join(differences), authors.deviations, authors.default]


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8"), table(Registry.load())), encoding="utf-8")
