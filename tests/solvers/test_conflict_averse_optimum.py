"""CAGrad's weights for many tasks of very different lengths, against a minimum in 80-bit numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mtlbench.solvers import conflict_averse_point
from tests.helpers.barrier import Extended, lowest
from tests.helpers.gramians import gradients

C = 0.4
PROBLEMS = [("full", 1), ("full", 3), ("full", 6), ("positive", 3), ("positive", 6), ("near", 6), ("conflicting", 3)]
"""Kinds of gradients, and the exponents of their lengths: 6 is from 1e-6 to 1e6."""


@pytest.mark.parametrize("tasks", [3, 40])
def test_the_minimum_is_reached_to_a_millionth(tasks: int) -> None:
    parts: list[tuple[Extended, Extended, Extended, np.longdouble]] = []
    for seed, (kind, spread) in enumerate(PROBLEMS):
        units = gradients(kind, tasks, seed)
        scales = torch.from_numpy(10 ** np.random.default_rng(seed + 1).uniform(-spread, spread, tasks))
        jacobian = units * scales[:, None]
        weights = conflict_averse_point(jacobian @ jacobian.mT, C).numpy().astype(np.longdouble)
        rows, lengths = units.numpy().astype(np.longdouble), scales.numpy().astype(np.longdouble)
        rows /= np.sqrt((rows * rows).sum(-1, keepdims=True))
        mean = (rows * lengths[:, None]).mean(0)
        cosines, linear, normal = rows @ rows.T, rows @ (mean / np.sqrt(mean @ mean)), lengths.min() / lengths
        x = weights / weights.sum() / normal
        parts.append((cosines, linear, normal, linear @ x + C * np.sqrt(x @ cosines @ x)))
    cosines, linear, normal, found = (np.stack(each) for each in zip(*parts, strict=True))
    best = lowest(cosines, linear, normal, C)
    assert np.isfinite(best).all()
    assert (found - best <= 1e-6 * np.abs(best)).all()
    assert (found - best >= -1e-9 * np.abs(best)).all()  # the reference is a minimum, too
