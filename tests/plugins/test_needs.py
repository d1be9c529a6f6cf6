"""What the list of strategies says of each, and that the README says the same."""

from __future__ import annotations

import io
from collections.abc import Callable
from itertools import groupby

import pytest
from rich.console import Console
from torch import Tensor

from mtlbench.cli import listing
from mtlbench.contracts.strategy import Step, Strategy
from mtlbench.plugins.explain import cited as cite
from mtlbench.plugins.needs import family_of, needs_of
from mtlbench.plugins.registry import Registry
from tests.helpers.toy import TINY
from tests.project.readme_table import README, with_table


def test_the_readme_lists_the_registry(registry: Registry) -> None:
    readme = README.read_text(encoding="utf-8")
    assert with_table(readme, listing.markdown(registry)) == readme, "run `make readme`"


def test_each_strategy_is_listed_with_a_year_and_what_it_needs(registry: Registry) -> None:
    entries = listing.entries(registry)
    assert sorted(entry.name for entry in entries) == sorted(registry.strategies)
    for entry in entries:
        assert entry.source[-4:].isdigit(), entry
        assert "?" not in entry.needs, entry


@pytest.mark.parametrize(
    ("name", "needs"),
    [
        ("fixed", "losses"),
        ("dwa", "epoch means of losses"),
        ("famo", "losses after the update"),
        ("gradnorm", "Gramian (last layer)"),
        ("mgda", "Gramian"),
        ("sdmgrad", "Gramian of two more batches, Gramian"),
        ("moco", "Jacobian"),
        ("graddrop", "representation gradients"),
    ],
)
def test_needs_are_what_a_strategy_asks_for(registry: Registry, name: str, needs: str) -> None:
    assert needs_of(registry.get(name)) == needs


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("rlw", "loss-only"),
        ("famo", "loss-only"),
        ("gradnorm", "gradient-norm"),
        ("pcgrad", "Gramian"),
        ("modo", "Gramian"),
        ("moco", "Jacobian"),
        ("graddrop", "representation"),
    ],
)
def test_a_family_is_declared_or_follows_from_the_needs(registry: Registry, name: str, family: str) -> None:
    cls = registry.get(name)
    assert family_of(cls, needs_of(cls)) == family


def test_strategies_are_listed_by_family(registry: Registry) -> None:
    families = [entry.family for entry in listing.entries(registry)]
    assert [family for family, _ in groupby(families)] == list(dict.fromkeys(families))
    assert families[0] == "loss-only"


def test_needs_of_a_broken_strategy_are_what_it_asked_for_before() -> None:
    class Broken(Strategy):
        def forward(self, step: Step) -> Tensor:
            step.gramian()
            raise RuntimeError("broken")

    assert needs_of(Broken) == "Gramian, ?"
    assert family_of(Broken, needs_of(Broken)) == "?"


@pytest.mark.parametrize(
    ("source", "cited"),
    [
        ('Ban & Ji, "Fair\n    Resource", ICML 2024, eq. 4.', "Ban & Ji, ICML 2024"),
        ('Liu, Liu & Stone, "CAGrad, again", NeurIPS 2021.', "Liu et al., NeurIPS 2021"),
        ("the definition; Kurin et al., NeurIPS 2022 (more)", "the definition; Kurin et al., NeurIPS 2022"),
        ("an example", ""),
    ],
)
def test_a_source_is_cited_by_first_author_and_year(source: str, cited: str) -> None:
    assert cite(f"Something.\n\nSource: {source}\n") == cited


def text_of(show: Callable[[Console], None]) -> str:
    out = io.StringIO()
    show(Console(file=out, width=400))
    return out.getvalue()


def test_setups_are_listed_with_their_files_and_in_the_readme(registry: Registry) -> None:
    listed = text_of(lambda console: listing.show_all(registry, console))
    readme = README.read_text(encoding="utf-8")
    for name, declared in registry.setups.items():
        if name == TINY.name:  # known in tests alone
            continue
        assert f"setup {name}: {declared.value.about} ({declared.file.name})" in listed
        assert f"`{name}`" in readme


def test_a_setup_is_shown_with_its_tasks_and_their_directions(registry: Registry) -> None:
    shown = text_of(lambda console: listing.show_one(registry, "mnist-moments", console))
    assert "Task digit: 10 classes, scored by accuracy (higher is better), the main task\n" in shown
    assert "Task slant: real numbers, scored by squared error (lower is better)\n" in shown
    assert f"File: {registry.setups['mnist-moments'].file}" in shown
