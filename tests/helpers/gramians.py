"""Gradients of many kinds, from regular to degenerate, and their Gramians."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor

from mtlbench.solvers import reciprocal

REGULAR = ("full", "near", "positive", "parallel", "conflicting", "one-zero")
DEGENERATE = ("rank-1", "half-rank", "opposite", "zero")
tasks_ = st.integers(2, 16)
seeds = st.integers(0, 100_000)
DECADES = (0.0, 2.0, 12.0)
decades = st.sampled_from(DECADES)
regular = st.sampled_from(REGULAR)
anything = st.sampled_from(REGULAR + DEGENERATE)
few = settings(max_examples=60)


def gradients(kind: str, tasks: int, seed: int) -> Tensor:
    """Task gradients `[T, P]` of length 1 or 0."""
    rng = np.random.default_rng(seed)
    rank = {"rank-1": 1, "half-rank": max(1, tasks // 2)}.get(kind, tasks + 3)
    rows = rng.standard_normal((tasks, rank))
    if kind == "near":
        rows = 1 + 1e-3 * rows
    elif kind == "positive":
        rows = np.abs(rows)
    elif kind == "parallel":
        rows[1] = rows[0]
    elif kind == "opposite":
        rows[1] = -rows[0]
    elif kind == "conflicting":  # their sum is almost 0
        rows = rows - 0.99 * rows.mean(0)
    elif kind == "one-zero":
        rows[rng.integers(tasks)] = 0
    elif kind == "zero":
        rows = 0 * rows
    units = torch.from_numpy(rows)
    return units * reciprocal(units.norm(dim=-1, keepdim=True))


def problem(kind: str, tasks: int, seed: int, spread: float) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of length 1 or 0 `[T, P]`, their scales `[T]` from 10^-spread to 10^spread, the Gramian `[T, T]`."""
    units = gradients(kind, tasks, seed)
    scales = torch.from_numpy(10 ** np.random.default_rng(seed + 1).uniform(-spread, spread, tasks))
    return units, scales, (units @ units.mT) * scales[:, None] * scales


def every_gramian(tasks: int, seed: int) -> Tensor:
    """A Gramian of every kind and spread, `[30, T, T]`."""
    kinds = itertools.product(REGULAR + DEGENERATE, DECADES)
    return torch.stack([problem(kind, tasks, seed + k, spread)[2] for k, (kind, spread) in enumerate(kinds)])
