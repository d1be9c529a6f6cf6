"""Which strategies reach the Pareto front of the toy problem of CAGrad and Nash-MTL, and which do not."""

from __future__ import annotations

import pandas as pd
import pytest
import torch
from torch import Tensor

from mtlbench.plugins.registry import Registry
from tests.helpers.toy import toy_setup
from tests.helpers.trajectories import FOLDER, LR, NAMES, STARTS, STEPS, descend, losses_at, shortfall

ON_FRONT, OFF_FRONT = 0.01, 0.1
FAR_RIGHT = STARTS.index((9.0, 9.0))
REACH = ("mgda", "imtl-g", "nashmtl")


def ends(registry: Registry, label: str, faster: int) -> Tensor:
    """Last points at a multiple of the published learning rate, in as many times fewer steps."""
    strategy = registry.build(registry.parse(label, toy_setup()), (len(STARTS), 2))
    return descend(strategy, steps=STEPS // faster, lr=faster * LR, kept=1)[-1]


@pytest.mark.parametrize("name", REACH)
def test_the_front_is_reached_from_every_start(registry: Registry, name: str) -> None:
    assert float(shortfall(ends(registry, name, faster=70)).max()) < ON_FRONT


def test_the_plain_sum_stops_off_the_front_or_at_the_end_of_the_larger_loss(registry: Registry) -> None:
    points = ends(registry, "fixed", faster=20)
    off = shortfall(points)
    assert float(off[FAR_RIGHT]) > OFF_FRONT
    others = torch.arange(len(STARTS)) != FAR_RIGHT
    assert float(off[others].max()) < ON_FRONT
    assert bool((points[others, 0] < -5).all())


def test_on_the_front_no_loss_can_fall_without_the_other_rising() -> None:
    between = torch.tensor([[x, -8.3] for x in (-6.5, -3.0, 0.0, 3.0, 6.5)], dtype=torch.float64)
    assert float(shortfall(between).max()) < ON_FRONT
    beside = torch.tensor([[0.0, 4.0], [5.0, 4.0], [0.0, -1.0]], dtype=torch.float64)
    assert float(shortfall(beside).min()) > OFF_FRONT
    assert bool((losses_at(between) < 0).all())


@pytest.fixture(scope="module")
def published() -> dict[str, Tensor]:
    """Last points of the paths stored in `docs`, `[5, 2]` by strategy."""
    paths = pd.read_csv(FOLDER / "paths.csv")
    last = paths[paths["step"] == STEPS].sort_values("start")
    return {
        str(name): torch.tensor(rows[["x", "y"]].to_numpy(), dtype=torch.float64)
        for name, rows in last.groupby("strategy")
    }


def test_every_strategy_has_a_stored_path_of_the_published_protocol(published: dict[str, Tensor]) -> None:
    assert set(published) == set(NAMES)
    assert all(points.shape == (len(STARTS), 2) for points in published.values())


@pytest.mark.parametrize("name", [*REACH, "fairgrad", "aligned-mtl", "moco"])
def test_the_stored_path_reaches_the_front_from_every_start(published: dict[str, Tensor], name: str) -> None:
    assert float(shortfall(published[name]).max()) < ON_FRONT


@pytest.mark.parametrize("name", ["fixed", "rlw", "pcgrad", "gradvac", "cagrad", "upgrad", "dualproj", "graddrop"])
def test_the_stored_path_from_the_far_right_misses_the_front(published: dict[str, Tensor], name: str) -> None:
    """There the sum of the losses, and directions near its gradient, lead into the valley of one loss."""
    assert float(shortfall(published[name])[FAR_RIGHT]) > OFF_FRONT


def test_nash_mtl_ends_between_the_ends_of_the_front(published: dict[str, Tensor]) -> None:
    """The front extends from -7 to 7; the plain sum ends at -5.7 wherever it reaches the front."""
    assert bool((published["nashmtl"][:, 0].abs() < 5).all())
