"""Random networks of the stack, and the same networks differentiated by autograd."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NoReturn

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import Tensor

from mtlbench.contracts.convolutions import Conv, Convolutions
from mtlbench.contracts.setup import binary, classification, regression
from mtlbench.engine.gradients import TaskGradients
from mtlbench.engine.network import Network

TOLERANCE = 1e-10
KINDS = (classification("classes", 3), binary("binary"), regression("real"))


@st.composite
def convolved(draw: st.DrawFn) -> Convolutions:
    convolutions = Convolutions(draw(st.tuples(st.integers(1, 2), st.integers(1, 7), st.integers(1, 7))), ())
    for _ in range(draw(st.integers(1, 2))):
        side = min(convolutions.images[-1][1:])
        kernel = draw(st.integers(1, min(3, side)))
        conv = Conv(draw(st.integers(1, 3)), kernel, draw(st.integers(1, min(3, side - kernel + 1))))
        convolutions = replace(convolutions, layers=(*convolutions.layers, conv))
    return convolutions


networks = st.fixed_dictionaries(
    {
        "replicas": st.integers(1, 3),
        "widths": st.lists(st.integers(1, 9), min_size=2, max_size=4),
        "kinds": st.lists(st.sampled_from(KINDS), min_size=1, max_size=4),
        "batch": st.integers(1, 12),
        "seed": st.integers(0, 2**20),
        "convolutions": st.none() | convolved(),
    }
)


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm().clamp_min(1e-12))


def no_further_batch() -> NoReturn:
    raise AssertionError("no further batch should be drawn")


def convolve(x: Tensor, weight: Tensor, bias: Tensor, conv: Conv, image: tuple[int, int, int]) -> Tensor:
    """The pre-activation `[B, out * h * w]` of one replica's convolution."""
    kernels = weight.view(conv.channels, image[0], conv.kernel, conv.kernel)
    return F.max_pool2d(F.conv2d(x.view(-1, *image), kernels, bias), conv.pool).flatten(1)


class Reference:
    """A stack and the same networks as plain torch operations, differentiated by autograd.

    With convolutions, their output replaces the first of `widths`, and half of the pixels are 0, so that pooling
    windows have several maxima.
    """

    def __init__(
        self,
        replicas: int,
        widths: list[int],
        kinds: list[Any],
        batch: int,
        seed: int,
        convolutions: Convolutions | None,
    ) -> None:
        generator = torch.Generator().manual_seed(seed)
        columns = [task.columns for task in kinds]
        seeds = list(range(seed, seed + replicas))
        if convolutions:
            widths = [convolutions.features, *widths[1:]]
        self.network = Network(seeds, widths, columns, convolutions=convolutions, dtype=torch.float64)
        self.kinds = kinds
        self.convolved = convolutions.each() if convolutions else []
        self.into = convolutions.inputs if convolutions else widths[0]
        self.draw(replicas, batch, generator)

    def draw(self, replicas: int, batch: int, generator: torch.Generator) -> None:
        self.inputs = torch.randn(replicas, batch, self.into, generator=generator, dtype=torch.float64)
        if self.convolved:
            self.inputs *= torch.rand(self.inputs.shape, generator=generator) < 0.5
        self.targets = torch.randint(0, 2, (replicas, batch, len(self.kinds)), generator=generator)

    def on_another_batch(self, seed: int) -> Reference:
        other = copy.copy(self)
        other.draw(len(self.inputs), self.inputs.shape[1], torch.Generator().manual_seed(seed))
        return other

    def task_losses(self, outputs: Tensor) -> Tensor:
        parts = zip(self.kinds, self.network.split_outputs(outputs), self.targets.unbind(-1), strict=True)
        return torch.stack([task.loss(out, target) for task, out, target in parts], dim=-1)

    def gradients(self, another: Callable[[], TaskGradients] = no_further_batch) -> TaskGradients:
        tape = self.network.forward(self.inputs)
        outputs = tape.outputs.detach().requires_grad_()
        (delta,) = torch.autograd.grad(self.task_losses(outputs).sum(), outputs)
        return TaskGradients(self.network, tape, delta, another)

    def graph(self) -> tuple[list[Tensor], Tensor, Tensor, Tensor]:
        """Parameters, the last layer's pre-activation `[K, B, F]`, its ReLU and the losses `[K, T]`, as a graph."""
        layers = [*self.network.trunk, self.network.heads]
        flat = [p.clone().requires_grad_() for layer in layers for p in (layer.weight, layer.bias)]

        def apply(x: Tensor, layer: int) -> Tensor:
            weight, bias = flat[2 * layer : 2 * layer + 2]
            if layer < len(self.convolved):
                return torch.stack(
                    [convolve(*each, *self.convolved[layer]) for each in zip(x, weight, bias, strict=True)]
                )
            return torch.einsum("kbi,koi->kbo", x, weight) + bias[:, None]

        before = apply(self.inputs, 0)
        for layer in range(1, len(layers) - 1):
            before = apply(torch.relu(before), layer)
        hidden = torch.relu(before)
        return flat, before, hidden, self.task_losses(apply(hidden, len(layers) - 1))

    def autograd(self, weights: Tensor | None = None) -> tuple[Tensor, list[list[Tensor]]]:
        """Per-replica trunk Jacobian `[K, T, P]`, and the weighted gradient of every parameter."""
        flat, _, _, losses = self.graph()
        rows = []
        for task in range(len(self.kinds)):
            grads = torch.autograd.grad(losses[:, task].sum(), flat[:-2], retain_graph=True)
            rows.append(torch.cat([g.flatten(1) for g in grads], dim=-1))
        weighted = (losses * (1.0 if weights is None else weights)).sum()
        summed = torch.autograd.grad(weighted, flat)
        return torch.stack(rows, dim=1), [list(summed[i : i + 2]) for i in range(0, len(summed), 2)]

    def rows(self) -> list[int]:
        """Rows of each trunk layer: samples, or patches of all samples."""
        batch = self.inputs.shape[1]
        patches = [
            batch * (image[1] - conv.kernel + 1) * (image[2] - conv.kernel + 1) for conv, image in self.convolved
        ]
        return patches + [batch] * (len(self.network.trunk) - len(patches))

    def written(self) -> list[Tensor]:
        """The trunk's gradient buffers, weight and bias of each layer."""
        return [grad for layer in self.network.trunk for grad in (layer.weight_grad, layer.bias_grad)]
