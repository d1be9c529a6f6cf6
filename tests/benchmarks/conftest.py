"""What benchmarks share: how two loops take turns, and where the table of their ratios is made and compared."""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from rich.console import Console

from mtlbench import data
from mtlbench.bench import jobs
from mtlbench.records.environment import cores
from tests.benchmarks.loops import BATCH, TURN, Loop
from tests.benchmarks.ratios import Ratios, Row, Section, Stored

ROUNDS, WARM_UP_ROUNDS = 11, 2
WIDTH = 150  # where the table goes to a file

RATIOS = pytest.StashKey[Ratios]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[RATIOS] = Ratios()


def pytest_sessionstart(session: pytest.Session) -> None:
    """End with one line where there is no run to compare with, of which pytest-benchmark only warns."""
    asked = session.config.getoption("benchmark_compare", None)
    if asked and session.config.stash[RATIOS].stored is None:
        which = "" if asked is True else f" called {asked}"
        raise pytest.UsageError(f"no stored run{which} to compare with under .benchmarks; make perf stores one")


def pytest_benchmark_compare_machine_info(
    config: pytest.Config, machine_info: dict[str, Any], compared_benchmark: dict[str, Any]
) -> None:
    then = compared_benchmark["machine_info"]
    config.stash[RATIOS].stored = Stored(
        when=str(compared_benchmark["datetime"])[:16].replace("T", " "),
        commit=str(compared_benchmark["commit_info"]["id"])[:12],
        same_machine=all(machine_info["cpu"].get(key) == then["cpu"].get(key) for key in ("brand_raw", "count")),
        tests={
            bench["fullname"]: bench["extra_info"]
            for bench in compared_benchmark["benchmarks"]
            if bench["extra_info"]  # none where it failed
        },
    )


@pytest.fixture(scope="session")
def ratios(request: pytest.FixtureRequest) -> Ratios:
    return request.config.stash[RATIOS]


@dataclass(frozen=True)
class InTurns:
    """Times a loop of ours in turns with another, keeps the row for the table, and holds it to its bound."""

    benchmark: BenchmarkFixture
    ratios: Ratios

    def __call__(
        self,
        section: Section,
        name: str,
        ours: Loop,
        other: Loop,
        *,
        bound: float | None = None,
        batches: int = TURN,
    ) -> None:
        """`section` and `name` say where it stands in the table; `batches` are those of a turn of either loop."""
        mine, theirs = ours.turn(batches), other.turn(batches)
        before: list[float] = []

        def take_turn() -> None:
            begun = time.perf_counter()
            theirs()
            before.append(time.perf_counter() - begun)

        self.benchmark.group = section.title
        self.benchmark.pedantic(mine, setup=take_turn, rounds=ROUNDS, warmup_rounds=WARM_UP_ROUNDS)
        assert self.benchmark.stats is not None
        seconds, before = self.benchmark.stats.stats.data, before[-ROUNDS:]
        costs = [one / another for one, another in zip(seconds, before, strict=True)]
        rate, other_rate = (BATCH * batches / statistics.median(each) for each in (seconds, before))
        row = Row(section, name, self.benchmark.fullname, (rate, other_rate), costs, bound)
        self.ratios.rows.append(row)
        self.benchmark.extra_info |= row.to_store()
        if row.misses:
            pytest.fail(f"{name}: {row.ratio:.2f} where {row.wanted} is wanted", pytrace=False)


@pytest.fixture
def in_turns(benchmark: BenchmarkFixture, ratios: Ratios) -> InTurns:
    return InTurns(benchmark, ratios)


@pytest.fixture(scope="session", autouse=True)
def as_in_a_worker() -> None:
    data.fetch(data.MNIST, print)
    jobs.prepare()


@pytest.fixture
def all_cores() -> Iterator[None]:
    torch.set_num_threads(cores())
    yield
    torch.set_num_threads(1)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    found = config.stash[RATIOS]
    if found.rows:
        terminalreporter.section("speed")
        wide = shutil.get_terminal_size().columns if terminalreporter.isatty else WIDTH
        found.show(Console(width=max(wide, WIDTH)))
