"""The setups that ship as plug-ins: their targets against plain loops, and their declared properties."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mtlbench import data
from mtlbench.contracts.setup import Setup, Split
from mtlbench.plugins.registry import Registry
from mtlbench.setups import splits


@pytest.fixture(scope="module")
def moments(registry: Registry) -> dict[str, Split]:
    data.fetch(data.MNIST, print)
    return splits.read(registry.setup("mnist-moments"))


@pytest.fixture(scope="module")
def toy(registry: Registry) -> Setup:
    return registry.setup("toy-regression")


def by_hand(image: Tensor) -> tuple[float, float]:
    """Intensity and slant of one image `[784]`, pixel by pixel, moments around the centroid."""
    inked = [(i // 28, i % 28, value / 255) for i, value in enumerate(image.tolist()) if value]
    mass = sum(p for _, _, p in inked)
    y0 = sum(y * p for y, _, p in inked) / mass
    x0 = sum(x * p for _, x, p in inked) / mass
    mu11 = sum(p * (x - x0) * (y - y0) for y, x, p in inked) / mass
    mu02 = sum(p * (y - y0) ** 2 for y, _, p in inked) / mass
    return mass / len(inked), mu11 / mu02


@pytest.mark.parametrize("purpose", ["training", "validation", "test"])
def test_moments_are_those_of_a_plain_loop_up_to_the_standardisation(moments: dict[str, Split], purpose: str) -> None:
    split = moments[purpose]
    chosen = slice(0, len(split), len(split) // 40)
    expected = torch.tensor([by_hand(image) for image in split.inputs[chosen]], dtype=torch.float64)
    raw = split.targets[chosen, 1:].double() * torch.tensor([0.06707, 0.27700]) + torch.tensor([0.67634, -0.10861])
    torch.testing.assert_close(raw, expected, rtol=0, atol=2e-5)


def test_both_regressions_have_mean_0_and_deviation_1_over_the_training_images(moments: dict[str, Split]) -> None:
    targets = moments["training"].targets[:, 1:].double()
    torch.testing.assert_close(targets.mean(0), torch.zeros(2).double(), rtol=0, atol=2e-4)
    torch.testing.assert_close(targets.std(0), torch.ones(2).double(), rtol=0, atol=2e-4)


def test_it_has_the_digits_and_validation_split_of_mnist(moments: dict[str, Split]) -> None:
    images, labels = data.training(data.MNIST)
    for purpose, part in (("training", slice(55_000)), ("validation", slice(55_000, None))):
        assert torch.equal(moments[purpose].inputs, images[part])
        assert torch.equal(moments[purpose].targets[:, 0].long(), labels[part])
    assert torch.equal(moments["test"].inputs, data.test(data.MNIST).images)


def test_an_image_without_ink_or_of_one_row_has_no_slant(registry: Registry, moments: dict[str, Split]) -> None:
    made: Split = registry.setup("mnist-moments").samples.__globals__["split_of"](
        torch.stack([torch.zeros(784), 255 * (torch.arange(784) // 28 == 5).float()]).byte(), torch.zeros(2).long()
    )
    assert len(moments) == 3
    torch.testing.assert_close(made.targets[:, 2] * 0.27700 - 0.10861, torch.zeros(2), rtol=0, atol=1e-6)
    assert made.targets.isfinite().all()


def test_the_lines_have_the_declared_slopes_intercepts_and_noise(toy: Setup) -> None:
    """Least squares in float64 on each split; the splits are drawn apart."""
    parts = splits.read(toy)
    for split in parts.values():
        design = torch.cat([split.inputs, torch.ones(len(split), 1)], dim=-1).double()
        targets = split.targets.double()
        found = torch.linalg.lstsq(design, targets).solution  # [2, T]: slopes, intercepts
        error = 5 * torch.tensor([10.0, 1.0]) / len(split) ** 0.5
        assert ((found - torch.tensor([[2.0, 3.0], [8.0, 3.0]])).abs() < error).all()
        noise = (targets - design @ found).std(0)
        torch.testing.assert_close(noise, torch.tensor([10.0, 1.0]).double(), rtol=0.06, atol=0)
    assert len({float(split.inputs[0]) for split in parts.values()}) == 3
