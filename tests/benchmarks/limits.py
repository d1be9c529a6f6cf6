"""What no training step can be faster than: its bare matrix products, its pass over the parameters, and the core."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import get_args

import torch

from mtlbench.contracts.setup import Setup
from mtlbench.engine.network import Network
from mtlbench.engine.products import Products, has_onednn
from mtlbench.records.records import Library
from tests.benchmarks.loops import BATCH, LR, Loop

TRIAL_STEPS, TRIALS = 20, 5
WIDE = 1024  # of a product whose operands are read many times


def shapes(setup: Setup) -> list[tuple[int, int]]:
    """Inputs and outputs of each layer of a setup's network; the heads are one layer."""
    return list(pairwise([*setup.widths, sum(task.columns for task in setup.tasks)]))


def bare_products(setup: Setup, replicas: int, products: Products | None = None, *, with_update: bool = False) -> Loop:
    """The matrix products of a training step of K networks, and nothing that joins them.

    Each layer has its forward product, that of its weights' gradient and, but for the first, that of its input's
    gradient. `with_update` adds one fused Adam pass over the networks' parameters.
    """
    columns = [task.columns for task in setup.tasks]
    products = products or Products()
    network = Network(range(replicas), setup.widths, columns, products=products)
    layers = [
        (layer, torch.randn(replicas, BATCH, into), torch.randn(replicas, BATCH, out))
        for layer, (into, out) in zip([*network.trunk, network.heads], shapes(setup), strict=True)
    ]
    optimizer = torch.optim.Adam(network.pieces, lr=LR, fused=True)

    def step() -> None:
        saved = [layer.forward(inputs)[1] for layer, inputs, _ in layers]
        for i, (layer, inputs, delta) in reversed(list(enumerate(layers))):
            products.write_gradient(delta.mT, inputs, layer.pieces)
            if i:
                layer.input_delta(saved[i], delta)
        if with_update:
            optimizer.step()

    return Loop(step, replicas)


def best_products(setup: Setup, replicas: int) -> Products:
    """The library whose bare products are the fastest on this machine."""
    libraries: list[Library] = [name for name in get_args(Library) if name != "onednn" or has_onednn()]
    seconds: dict[Library, float] = {}
    for name in libraries * TRIALS:
        turn = bare_products(setup, replicas, Products(name)).turn(TRIAL_STEPS * replicas)
        turn()
        begun = time.perf_counter()
        turn()
        seconds[name] = min(seconds.get(name, float("inf")), time.perf_counter() - begun)
    return Products(min(seconds, key=lambda name: seconds[name]))


def peak(setup: Setup, batches: int) -> Loop:
    """A large product with as many multiply-adds as the products of that many batches, by the better library."""
    first, *others = (into * out for into, out in shapes(setup))
    rows = batches * BATCH * (2 * first + 3 * sum(others)) // WIDE**2
    left, right = torch.randn(1, rows, WIDE), torch.randn(1, WIDE, WIDE)

    def multiply(name: Library) -> float:
        begun = time.perf_counter()
        Products(name).multiply(left, right)
        return time.perf_counter() - begun

    libraries: list[Library] = [name for name in get_args(Library) if name != "onednn" or has_onednn()]
    best = Products(min(libraries, key=lambda name: min(multiply(name) for _ in range(TRIALS))))

    def run() -> None:
        best.multiply(left, right)

    return Loop(run, batches)
