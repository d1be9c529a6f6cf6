"""Known trajectories: who reaches the Pareto front of the toy problem of CAGrad and Nash-MTL, and who does not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mtlbench.registry import Registry
from tests.toy import toy_setup
from tests.trajectories import STARTS, STEPS, descend, losses_at, shortfall

ON_FRONT, OFF_FRONT = 0.01, 0.1
FAR_RIGHT = STARTS.index((9.0, 9.0))
REACH = ("mgda", "imtl-g", "nashmtl")


def ends(registry: Registry, label: str) -> Tensor:
    """Where a tenth of the published steps ends, each ten times as long."""
    strategy = registry.build(registry.parse(label, toy_setup()), (len(STARTS), 2))
    return descend(strategy, steps=STEPS // 10, lr=1e-2, kept=1)[-1]


@pytest.mark.parametrize("name", REACH)
def test_the_front_is_reached_from_every_start(registry: Registry, name: str) -> None:
    assert float(shortfall(ends(registry, name)).max()) < ON_FRONT


def test_the_plain_sum_stops_off_the_front_or_at_the_end_of_the_larger_loss(registry: Registry) -> None:
    points = ends(registry, "fixed")
    off = shortfall(points)
    assert float(off[FAR_RIGHT]) > OFF_FRONT
    others = torch.arange(len(STARTS)) != FAR_RIGHT
    assert float(off[others].max()) < ON_FRONT
    assert bool((points[others, 0] < -5).all())


def test_the_front_is_where_no_loss_can_fall_without_the_other() -> None:
    between = torch.tensor([[x, -8.3] for x in (-6.5, -3.0, 0.0, 3.0, 6.5)], dtype=torch.float64)
    assert float(shortfall(between).max()) < ON_FRONT
    beside = torch.tensor([[0.0, 4.0], [5.0, 4.0], [0.0, -1.0]], dtype=torch.float64)
    assert float(shortfall(beside).min()) > OFF_FRONT
    assert bool((losses_at(between) < 0).all())
