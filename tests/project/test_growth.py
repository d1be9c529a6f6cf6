"""How the growth of a step is measured and written down: on known allocations, power laws and made-up rows."""

from __future__ import annotations

import re
from dataclasses import asdict
from functools import cache
from pathlib import Path

import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mtlbench import data, setups
from mtlbench.engine.gradients import gramian_costs
from mtlbench.plugins.registry import Registry
from mtlbench.records.records import Environment
from tests.helpers.readable import assert_readable
from tests.project.growth import measure
from tests.project.growth.__main__ import DOCS, FOLDER, stored, write
from tests.project.growth.document import Evidence, written
from tests.project.growth.facts import choices, exponents, seconds_per_unit, switch
from tests.project.growth.figures import draw_all
from tests.project.growth.measure import (
    COLUMNS,
    CURVES,
    GRAMIAN_SECONDS,
    GRAMIANS,
    PATHS,
    PEAK_BYTES,
    STEP_SECONDS,
    STRATEGIES,
)

PICOSECONDS = 25e-12
FLOAT = 4  # bytes
EVIDENCE = Evidence(
    command="make growth",
    created="2026-01-01T00:00:00+00:00",
    rounds=3,
    threads=1,
    environment=Environment(
        machine="a processor", cores=2, memory_gib=8.0, system="Linux", versions={"torch": "2.6"}, commit=None
    ),
)


@cache
def made_rows(ghost_slower: float = 1.0) -> pd.DataFrame:
    """Rows of a machine whose time is the formula, but for ghost products, and whose memory is its square root."""
    rows: list[measure.Row] = []
    for i in range(EVIDENCE.rounds):
        drift = 1 + 0.1 * (i - 1)  # of the whole round, so that the median has none
        for curve, (_, _, xs) in GRAMIANS.items():
            for x in xs:
                for path, cost in zip(PATHS, gramian_costs(**asdict(measure.layer_at(curve, x))), strict=True):
                    slower = ghost_slower if path == "ghost" else 1.0
                    rows.append((GRAMIAN_SECONDS, curve, x, path, i, drift * slower * PICOSECONDS * cost, 1, cost))
        for curve, xs in CURVES.items():
            for x in xs:
                for more, name in enumerate(STRATEGIES, start=1):
                    formula = 10**8 * more * x
                    rows.append((STEP_SECONDS, curve, x, name, i, drift * PICOSECONDS * formula, 64, formula))
                    rows.append((PEAK_BYTES, curve, x, name, i, 2**22 * (more * x) ** 0.5, 64, formula))
    return pd.DataFrame(rows, columns=list(COLUMNS))


@given(st.lists(st.tuples(st.integers(1, 5000), st.booleans()), min_size=1, max_size=12))
def test_the_peak_is_the_most_that_was_alive_at_once(plan: list[tuple[int, bool]]) -> None:
    """Each tensor is made, and the oldest freed before it where the plan says so."""
    alive: list[int] = []
    peak = 0
    for size, frees in plan:
        alive = [*alive[frees:], size]
        peak = max(peak, sum(alive))

    def work() -> None:
        held: list[torch.Tensor] = []
        for size, frees in plan:
            del held[: int(frees)]
            held.append(torch.empty(size))

    assert measure.peak_bytes(work) == FLOAT * peak


@given(st.floats(-3, 3), st.floats(0.1, 10), st.lists(st.integers(1, 1000), min_size=2, max_size=6, unique=True))
def test_the_exponent_of_a_power_law_is_its_power(power: float, factor: float, xs: list[int]) -> None:
    xs.sort()
    assert exponents(xs, [factor * x**power for x in xs]) == pytest.approx((power, power), abs=1e-6)


@pytest.mark.parametrize("count", [2, 8, 16])
def test_many_tasks_begin_as_the_setup_of_eight_and_go_on_with_single_digits(count: int) -> None:
    data.fetch(data.MNIST, print)
    setup = measure.many_tasks(count)
    eight = setups.SETUPS["mnist-8-tasks"]
    for mine, theirs in zip(setup.samples(), eight.samples(), strict=True):
        assert mine.targets.shape == (len(theirs), count)
        shared = min(count, len(eight.tasks))
        assert torch.equal(mine.targets[:, :shared], theirs.targets[:, :shared])
        for i in range(shared, count):
            assert setup.tasks[i].name == f"is_{i - 8}"
            assert torch.equal(mine.targets[:, i] == 1, theirs.targets[:, 0] == i - 8)


def test_every_strategy_is_measured_at_every_point(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    data.fetch(data.MNIST, print)
    monkeypatch.setitem(measure.CURVES, "width", (4, 8))
    monkeypatch.setattr(measure, "STEP_TURN", 0.0)
    rows = pd.DataFrame(measure.measure_steps(registry, "width", 2), columns=list(COLUMNS))
    counts = rows.groupby(["quantity", "name", "x"]).size().unstack("quantity")
    assert set(counts.index) == {(name, x) for name in STRATEGIES for x in (4, 8)}
    assert (counts[STEP_SECONDS] == 2).all()
    assert (counts[PEAK_BYTES] == 1).all()
    fixed = rows[(rows["name"] == "fixed") & (rows["quantity"] == PEAK_BYTES)].set_index("x")
    for x in (4, 8):
        # Forward and by the weights everywhere, by the inputs in all layers but the first; weights [K, 2] to outputs.
        once = [into * out for into, out in [(784, x), (x, x // 2), (x // 2, 11)]]
        spread = measure.BASE.replicas * 2 * 11
        assert fixed["formula"][x] == fixed["samples"][x] * (3 * sum(once) - once[0]) + spread


def test_the_document_of_made_up_rows_is_whole(tmp_path: Path) -> None:
    (tmp_path / FOLDER).mkdir()
    made_rows().to_csv(tmp_path / FOLDER / "growth.csv", index=False)
    (tmp_path / FOLDER / "growth.json").write_text(EVIDENCE.model_dump_json())
    write(tmp_path)
    text = (tmp_path / "performance.md").read_text()
    linked = re.findall(r"\]\((.*?)\)", text)
    assert len(linked) == 4
    assert all((tmp_path / link).is_file() for link in linked)
    assert not re.search(r"\b(nan|inf)\b", text, re.IGNORECASE)
    assert f"{1e12 * PICOSECONDS:.1f} ps" in text


def test_a_machine_that_follows_the_formula_is_said_to() -> None:
    rows = made_rows()
    assert seconds_per_unit(rows) == pytest.approx(PICOSECONDS, rel=0.11)
    assert all(choice.ratio <= 1 for choice in choices(rows))
    text = written(rows, EVIDENCE, FOLDER)
    assert f"all {len(choices(rows))} shapes" in text
    fits = [line for line in text.splitlines() if re.search(r"\| (ghost|explicit) \| 1\.00 \| 1\.00 \|", line)]
    assert len(fits) == len(GRAMIANS) * len(PATHS)


def test_a_rule_that_is_wrong_is_said_to_be() -> None:
    rows = made_rows(ghost_slower=100.0)
    wrong = [choice for choice in choices(rows) if choice.ratio > 1]
    assert {choice.path for choice in wrong} == {"ghost"}
    worst = max(choice.ratio for choice in wrong)
    text = written(rows, EVIDENCE, FOLDER)
    assert f"{worst:.2f} times" in text


@pytest.mark.parametrize("curve", GRAMIANS)
def test_the_switch_is_where_the_cheaper_way_changes(curve: str) -> None:
    xs = GRAMIANS[curve][-1]

    def ghost_is_cheaper(x: int) -> bool:
        ghost, explicit = gramian_costs(**asdict(measure.layer_at(curve, x)))
        return ghost <= explicit

    where = switch(curve)
    if where is None:
        assert len({ghost_is_cheaper(x) for x in xs}) == 1
    else:
        assert xs[0] < where <= xs[-1]
        assert ghost_is_cheaper(where) != ghost_is_cheaper(where - 1) == ghost_is_cheaper(xs[0])


def test_the_figures_are_readable() -> None:
    for figure in draw_all(made_rows(), EVIDENCE.caption).values():
        assert_readable(figure)


def test_the_kept_document_is_what_the_kept_rows_say() -> None:
    rows, evidence = stored(DOCS / FOLDER)
    assert (DOCS / "performance.md").read_text() == written(rows, evidence, FOLDER)
