"""Sizes of convolutions, and sizes that are refused; test_gradients.py compares their products with autograd."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings

from mtlbench.contracts.convolutions import Conv, Convolutions
from mtlbench.engine.network import Network
from tests.helpers.plain import PlainNetwork
from tests.helpers.reference_networks import convolved
from tests.helpers.toy import toy_setup
from tests.project.growth.measure import multiply_adds_of


@given(convolved())
@settings(max_examples=30)
def test_sizes_and_multiply_adds_of_convolutions_match_the_network(convolutions: Convolutions) -> None:
    setup = replace(toy_setup(), widths=(convolutions.features, 5), convolutions=convolutions)
    plain, columns = PlainNetwork(setup), [task.columns for task in setup.tasks]
    assert plain.represent(torch.zeros(2, setup.features, dtype=torch.float64)).shape == (2, 5)
    network = Network((0,), setup.widths, columns, convolutions=convolutions)
    assert network.trunk_sizes == [sum(p.numel() for p in layer.parameters()) for layer in plain.trunk]
    one = torch.zeros(1, 1, setup.features)
    assert setup.multiply_adds == multiply_adds_of(lambda: network.forward(one))


@pytest.mark.parametrize(
    ("make", "sizes"),
    [
        (lambda: Conv(3, kernel=0), "kernel=0"),
        (lambda: Conv(3, kernel=2, pool=-1), "pool=-1"),
        (
            lambda: Convolutions((1, 5, 9), (Conv(2, 3), Conv(2, 4))),
            "4x4.*1x1.*3x7",
        ),
        (
            lambda: Convolutions((1, 9, 5), (Conv(2, 2, 5),)),
            "2x2.*5x5.*9x5",
        ),
    ],
)
def test_convolutions_without_outputs_are_refused(make: Callable[[], object], sizes: str) -> None:
    with pytest.raises(ValueError, match=sizes):
        make()
