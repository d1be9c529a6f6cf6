"""Dividing the seeds of a run among workers, and joining the results."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain

from hypothesis import given
from hypothesis import strategies as st

from mtlbench.bench import train_runs
from mtlbench.records.history import Evaluation, Result, Trajectory

COUNTS = st.integers(1, 40)


@given(seeds=COUNTS, cores=COUNTS)
def test_single_tasks_are_divided_among_cores_and_other_runs_only_on_many(seeds: int, cores: int) -> None:
    assert train_runs.stack_count(seeds, cores, single=True) == min(seeds, cores)
    assert train_runs.stack_count(seeds, min(cores, 63), single=False) == 1
    assert train_runs.stack_count(seeds, 64, single=False) == min(seeds, 2)


@given(seeds=st.lists(st.integers(0, 1000), min_size=1, max_size=40, unique=True), data=st.data())
def test_stacks_have_all_seeds_in_order_and_similar_sizes(seeds: list[int], data: st.DataObject) -> None:
    divided = train_runs.split(tuple(seeds), data.draw(st.integers(1, len(seeds))))
    assert list(chain.from_iterable(divided)) == seeds
    sizes = [len(stack) for stack in divided]
    assert min(sizes) >= 1
    assert max(sizes) - min(sizes) <= 1


def result(seeds: list[int], *, gramian: bool) -> Result:
    """A result in which every number of seed k is derived from k."""

    def matrix(offset: float) -> list[list[float]]:
        return [[seed + offset, seed - offset] for seed in seeds]

    def evaluation(offset: float) -> Evaluation:
        return Evaluation(matrix(offset), matrix(offset + 0.5))

    path = Trajectory(
        [0.5, 1.0],
        [matrix(1), matrix(2)],
        [matrix(3), matrix(4)],
        [matrix(5), matrix(6)] if gramian else None,
        [[[float(seed)] for seed in seeds]] * 2 if gramian else None,
    )
    diverged = [seed if seed % 3 == 0 else None for seed in seeds]
    return Result([evaluation(7), evaluation(8)], path, diverged, float(len(seeds)), evaluation(9))


@given(size=st.integers(1, 12), gramian=st.booleans(), data=st.data())
def test_joined_stacks_equal_the_undivided_run(size: int, gramian: bool, data: st.DataObject) -> None:
    seeds = tuple(range(size))
    parts = train_runs.split(seeds, data.draw(st.integers(1, size)))
    joined = train_runs.joined([result(list(part), gramian=gramian) for part in parts])
    assert joined == replace(result(list(seeds), gramian=gramian), training_seconds=float(size))
