"""Problems for both our strategies and TorchJD's, and how their results are compared."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchjd.linalg import QuadprogProjector

from mtlbench.contracts.strategy import Step, Strategy
from mtlbench.plugins.registry import Registry

K, P = 2, 20
COUNTS = (2, 3, 8)

few = settings(max_examples=8)
each_count = pytest.mark.parametrize("tasks", COUNTS)
any_seed = given(seed=st.integers(0, 10**6))
EXACT_PROJECTION = partial(QuadprogProjector, norm_eps=0, reg_eps=0)


def problem(tasks: int, seed: int, index: int = 0, spread: float = 1.5) -> tuple[Tensor, Tensor]:
    """Losses `[K, T]` and task gradients `[K, T, P]` of a step; `spread` scales the logarithms of gradient lengths."""
    generator = torch.Generator().manual_seed(10 * seed + index)
    losses = torch.exp(torch.randn(K, tasks, generator=generator))
    lengths = torch.exp(spread * torch.randn(K, tasks, 1, generator=generator))
    return losses, lengths * torch.randn(K, tasks, P, generator=generator)


def build(registry: Registry, name: str, tasks: int, **hyper: object) -> Strategy:
    """A strategy for K replicas with room for P trunk parameters."""
    made: Any = registry.get(name)
    strategy: Strategy = made((K, tasks), **hyper)
    strategy.allocate(P)
    return strategy


def weigh(strategy: Strategy, step: Step) -> Tensor:
    """Effective weights, `[K, T]`."""
    return torch.autograd.grad(strategy(step).sum(), step.losses)[0]


def combined(weights: Tensor, jacobian: Tensor) -> Tensor:
    """The weighted sum of task gradients, `[..., P]`."""
    return torch.einsum("...t,...tp->...p", weights, jacobian)


def assert_agree(actual: Tensor, expected: Tensor | Iterable[Tensor], within: float) -> None:
    """The relative difference is below `within` in each replica."""
    expected = expected if isinstance(expected, Tensor) else torch.stack(list(expected))
    assert actual.shape == expected.shape
    assert float(((actual - expected).norm(dim=-1) / expected.norm(dim=-1)).max()) < within
