"""The random numbers of a step."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from mtlbench.contracts.strategy import Step
from tests.helpers.toy import GivenGradients


def draws(seeds: list[int], index: int = 0, count: int = 1) -> list[Tensor]:
    step = Step(
        torch.ones(len(seeds), 2, dtype=torch.float64),
        GivenGradients(torch.zeros(len(seeds), 2, 1)),
        index=torch.tensor(index),
        epoch=torch.tensor(0),
        seeds=torch.tensor(seeds),
    )
    return [step.rand(500, 2) for _ in range(count)]


def test_random_numbers_are_uniform_and_streams_differ() -> None:
    numbers = torch.cat([draw.flatten() for i in range(20) for draw in draws([0, 1, 2], i, 2)])
    assert float(numbers.min()) >= 0
    assert float(numbers.max()) < 1
    assert stats.kstest(numbers.numpy(), "uniform").pvalue > 1e-3
    streams = [draws([0])[0], draws([1])[0], draws([0], index=1)[0], draws([0], count=2)[1]]
    correlations = torch.corrcoef(torch.stack([stream.flatten() for stream in streams]))
    assert float((correlations - torch.eye(4)).abs().max()) < 0.12


@given(st.lists(st.integers(0, 2**62), min_size=1, max_size=4, unique=True))
def test_a_seeds_random_numbers_do_not_depend_on_its_stack(seeds: list[int]) -> None:
    assert torch.equal(draws(seeds)[0][-1], draws(seeds[-1:])[0][0])
