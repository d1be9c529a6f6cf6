"""Problems that our strategies and TorchJD's are both given, and how they are compared."""

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
    """Losses `[K, T]` and task gradients `[K, T, P]` of a step; `spread` is that of the log of their lengths."""
    generator = torch.Generator().manual_seed(10 * seed + index)
    losses = torch.exp(torch.randn(K, tasks, generator=generator))
    lengths = torch.exp(spread * torch.randn(K, tasks, 1, generator=generator))
    return losses, lengths * torch.randn(K, tasks, P, generator=generator)


def build(registry: Registry, name: str, tasks: int, **hyper: object) -> Strategy:
    made: Any = registry.get(name)
    strategy: Strategy = made((K, tasks), **hyper)
    strategy.allocate(P)
    return strategy


def weigh(strategy: Strategy, step: Step) -> Tensor:
    """Effective weights, `[K, T]`."""
    return torch.autograd.grad(strategy(step).sum(), step.losses)[0]


def combined(weights: Tensor, jacobian: Tensor) -> Tensor:
    return torch.einsum("...t,...tp->...p", weights, jacobian)


def assert_agree(found: Tensor, expected: Tensor | Iterable[Tensor], within: float) -> None:
    """The difference is at most that part of what is expected, in each replica."""
    wanted = expected if isinstance(expected, Tensor) else torch.stack(list(expected))
    assert found.shape == wanted.shape
    assert float(((found - wanted).norm(dim=-1) / wanted.norm(dim=-1)).max()) < within
