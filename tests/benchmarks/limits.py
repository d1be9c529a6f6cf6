"""What no training step can be faster than: its bare matrix products, and its pass over the parameters."""

from __future__ import annotations

from itertools import pairwise

import torch

from mtlbench.contracts.setup import Setup
from tests.benchmarks.loops import BATCH, LR, Loop


def shapes(setup: Setup) -> list[tuple[int, int]]:
    """Inputs and outputs of each layer of a setup's network; the heads are one layer."""
    return list(pairwise([*setup.widths, sum(task.columns for task in setup.tasks)]))


def size(setup: Setup) -> int:
    """Parameters of one network of a setup."""
    return sum(out * into + out for into, out in shapes(setup))


def bare_products(setup: Setup, replicas: int, *, with_update: bool = False) -> Loop:
    """The matrix products of a training step of K networks, and nothing that joins them.

    Each layer has its forward product, that of its weights' gradient and, but for the first, that of its input's
    gradient, all into buffers allocated once. `with_update` adds one fused Adam pass over as many parameters as the
    networks have, whose gradients are what the products write.
    """
    parameters = torch.randn(replicas * size(setup)) * 0.02
    parameters.grad = torch.zeros_like(parameters)
    weights = [out * into for into, out in shapes(setup)]
    biases = sum(out for _, out in shapes(setup))
    cuts = [replicas * count for count in (*weights, biases)]
    values, grads = parameters.split(cuts), parameters.grad.split(cuts)
    layers = [
        (
            values[i].view(replicas, out, into),
            grads[i].view(replicas, out, into),
            torch.randn(replicas, BATCH, into),
            torch.randn(replicas, BATCH, out),
            torch.empty(replicas, BATCH, into),
            torch.empty(replicas, BATCH, out),
        )
        for i, (into, out) in enumerate(shapes(setup))
    ]
    optimizer = torch.optim.Adam([parameters], lr=LR, fused=True)

    def step() -> None:
        for weight, _, inputs, _, _, outputs in layers:
            torch.bmm(inputs, weight.mT, out=outputs)
        for i, (weight, weight_grad, inputs, delta, input_delta, _) in reversed(list(enumerate(layers))):
            torch.bmm(delta.mT, inputs, out=weight_grad)
            if i:
                torch.bmm(delta, weight, out=input_delta)
        if with_update:
            optimizer.step()

    return Loop(step, replicas)
