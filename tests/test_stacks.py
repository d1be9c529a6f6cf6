"""Dividing a run's seeds among workers, and joining what comes back."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain

from hypothesis import given
from hypothesis import strategies as st

from mtlbench import stacks
from mtlbench.records import Evaluation, Result, Trajectory

COUNTS = st.integers(1, 40)


@given(runs=COUNTS, seeds=COUNTS, cores=COUNTS)
def test_no_core_waits_while_a_run_of_the_last_turn_can_be_divided(runs: int, seeds: int, cores: int) -> None:
    counts = stacks.parts(runs, seeds, cores)
    whole, rest = runs - runs % cores, counts[runs - runs % cores :]
    assert counts[:whole] == [1] * whole
    assert sum(rest) <= cores
    assert all(1 <= count <= seeds for count in rest)
    assert not rest or min(rest) == seeds or sum(rest) + len(rest) > cores


@given(seeds=st.lists(st.integers(0, 1000), min_size=1, max_size=40, unique=True), data=st.data())
def test_stacks_have_all_seeds_in_order_and_like_sizes(seeds: list[int], data: st.DataObject) -> None:
    divided = stacks.divided(tuple(seeds), data.draw(st.integers(1, len(seeds))))
    assert list(chain.from_iterable(divided)) == seeds
    sizes = [len(stack) for stack in divided]
    assert min(sizes) >= 1
    assert max(sizes) - min(sizes) <= 1


def result(seeds: list[int], *, gramian: bool) -> Result:
    """Every number of seed k is made from k."""

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
def test_joined_stacks_are_the_run_that_was_not_divided(size: int, gramian: bool, data: st.DataObject) -> None:
    seeds = tuple(range(size))
    parts = stacks.divided(seeds, data.draw(st.integers(1, size)))
    joined = stacks.joined([result(list(part), gramian=gramian) for part in parts])
    assert joined == replace(result(list(seeds), gramian=gramian), training_seconds=float(size))
