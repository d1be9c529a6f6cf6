"""`aligned-mtl`: the condition number of the aligned gradients is 1."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mtlbench.plugins.registry import Registry
from tests.helpers.gradient_problems import few, numbers, solve, task_counts
from tests.helpers.plain import PlainStep, Surgery


class AlignedMTL(Surgery):
    def direct(self, step: PlainStep, jacobian: Tensor) -> Tensor:
        values, vectors = torch.linalg.eigh(jacobian @ jacobian.T)
        return (values[0] / values).sqrt() * (vectors.sum(0) / 2) @ (vectors.T @ jacobian)


PLAIN = {"aligned-mtl": AlignedMTL}


@few
@given(tasks=task_counts, seed=numbers, scale=st.sampled_from(["min", "median", "mean"]), rank=st.integers(1, 5))
def test_makes_the_condition_number_1(registry: Registry, tasks: int, seed: int, scale: str, rank: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    jacobian = torch.randn(4, tasks, rank, generator=generator, dtype=torch.float64)
    losses = torch.ones(4, tasks, dtype=torch.float64)
    weights, _ = solve(registry, "aligned-mtl", losses, jacobian, hyper={"scale": scale})
    kept = min(tasks, rank)
    left, values, _ = torch.linalg.svd(jacobian, full_matrices=False)
    left, squares = left[..., :kept], values[:, :kept] ** 2
    chosen = {"min": squares.amin(-1), "median": squares.median(-1).values, "mean": squares.mean(-1)}[scale]
    balance = left @ torch.diag_embed((chosen[:, None] / squares).sqrt()) @ left.mT  # B
    turned = balance @ jacobian @ jacobian.mT @ balance
    torch.testing.assert_close(turned, chosen[:, None, None] * left @ left.mT)
    torch.testing.assert_close(weights, balance.mean(-1), rtol=1e-6, atol=1e-8)
