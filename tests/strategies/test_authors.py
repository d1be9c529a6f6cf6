"""Every strategy beside its authors' code, and the page that has the differences."""

from __future__ import annotations

import math

import pytest

from mtlbench.plugins.registry import Registry
from tests.helpers.authors import CLOSEST, Comparison, difference
from tests.helpers.definitions import DEFINITIONS
from tests.project import faithful

COMPARISONS = [
    pytest.param(name, comparison, id=f"{name}-{number}")
    for name, authors in DEFINITIONS.authors.items()
    for number, comparison in enumerate(authors.comparisons)
]


@pytest.mark.usefixtures("in_double")
@pytest.mark.filterwarnings("ignore:You are solving a parameterized problem that is not DPP")
@pytest.mark.parametrize(("name", "comparison"), COMPARISONS)
def test_differs_by_less_than_the_page_says(registry: Registry, name: str, comparison: Comparison) -> None:
    assert math.log10(comparison.within).is_integer()
    found = difference(registry, name, comparison)
    assert found < comparison.within
    # The bound is no looser than it has to be. Another library's solver may come nearer in another version.
    assert found > comparison.within / 100 or comparison.within == CLOSEST or callable(comparison.expected)


def test_the_page_has_a_row_for_each_strategy(registry: Registry) -> None:
    page = faithful.PAGE.read_text(encoding="utf-8")
    assert page == faithful.with_table(page, faithful.table(registry)), "run: python -m tests.project.faithful"
