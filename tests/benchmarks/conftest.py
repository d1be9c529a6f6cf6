"""Ratios between things timed in turns, printed as one table after the benchmarks' own."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from mtlbench import data, jobs
from mtlbench.environment import cores

WARM_UP_ROUNDS = 2


@dataclass
class Ratios:
    """What `make perf` prints: a name, the ratio of each round, and the bound it is held to."""

    rows: list[tuple[str, list[float], str]] = field(default_factory=list)

    def add(self, name: str, values: list[float], bound: str) -> float:
        """Keep a line for the table; returns the median."""
        self.rows.append((name, values, bound))
        return statistics.median(values)


def in_turns(
    benchmark: BenchmarkFixture, mine: Callable[[], None], other: Callable[[], None], rounds: int
) -> list[float]:
    """Seconds of `mine` over seconds of `other` in each round; the two take turns, `other` first."""
    theirs: list[float] = []

    def take_turn() -> None:
        begun = time.perf_counter()
        other()
        theirs.append(time.perf_counter() - begun)

    benchmark.pedantic(mine, setup=take_turn, rounds=rounds, warmup_rounds=WARM_UP_ROUNDS)
    stats = benchmark.stats
    assert stats is not None
    return [seconds / before for before, seconds in zip(theirs[-rounds:], stats.stats.data, strict=True)]


RATIOS = pytest.StashKey[Ratios]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[RATIOS] = Ratios()


@pytest.fixture(scope="session")
def ratios(request: pytest.FixtureRequest) -> Ratios:
    return request.config.stash[RATIOS]


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
    rows = config.stash[RATIOS].rows
    if rows:
        terminalreporter.section("ratios, median over interleaved rounds [lowest, highest]")
        for name, values, bound in rows:
            shown = f"{statistics.median(values):6.2f} [{min(values):.2f}, {max(values):.2f}]"
            terminalreporter.write_line(f"{name:<60} {shown}  wanted {bound}")
