"""K replicas of one multi-task network as a single stack: a shared trunk of ReLU layers and linear heads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mtlbench.contracts.convolutions import Convolutions
from mtlbench.engine.layers import Convolution, Linear, Saved
from mtlbench.engine.products import Products


@dataclass(frozen=True)
class Tape:
    """What a forward pass leaves for the backward products.

    `inputs[l]` `[K, B, F_l]` is the input of trunk layer l, and the last entry the shared representation, the input of
    the heads. `saved[l]` is what layer l saved, and the last entry what the heads saved. `outputs` `[K, B, O]` holds
    the outputs of all heads side by side.
    """

    inputs: list[Tensor]
    saved: list[Saved]
    outputs: Tensor


class Network:
    """K multi-task networks, with all parameters in one flat buffer; nothing requires grad.

    `pieces` are the tensors with gradients that the optimizer updates; together they are all parameters.

    The heads are one linear layer whose output columns are divided among the tasks: `mask` `[T, O]` is 1 if column o
    belongs to task t. Every replica starts from the default initialisation of `torch.nn.Linear` and `torch.nn.Conv2d`,
    uniform within +-1 / sqrt(fan-in). It is drawn from the seed's own generator and so does not depend on the stack.

    `seeds` has one for each replica. `widths` are the input features of the trunk's linear layers, which come after the
    convolutions, then the output features of each; `outputs` are the output columns of each task.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        widths: Sequence[int],
        outputs: Sequence[int],
        *,
        convolutions: Convolutions | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        products: Products | None = None,
    ) -> None:
        products = products or Products()
        convolved = convolutions.each() if convolutions else []
        patches = [(image[0] * conv.kernel**2, conv.channels) for conv, image in convolved]
        shapes = [*patches, *zip(widths, [*widths[1:], sum(outputs)], strict=True)]
        replicas = len(seeds)
        size = replicas * sum(out * into + out for into, out in shapes)
        self.parameters = torch.zeros(size, device=device, dtype=dtype)
        layers: list[Linear] = []
        for weight, bias in _views(self.parameters, replicas, shapes):
            bias.grad = torch.zeros_like(bias)
            if len(layers) < len(convolved):
                conv, image = convolved[len(layers)]
                weight.grad = torch.zeros_like(weight)
                layers.append(Convolution(weight, bias, (weight,), products, image, conv.kernel, conv.pool))
            else:
                layers.append(Linear(weight, bias, products.pieces(weight), products))
        self.trunk, self.heads = layers[:-1], layers[-1]
        self.pieces = [piece for layer in layers for piece in (*layer.pieces, layer.bias)]
        self._columns = list(outputs)
        self.mask = torch.block_diag(*(torch.ones(1, columns) for columns in outputs)).to(device, dtype)
        for replica, seed in enumerate(seeds):
            generator = np.random.default_rng((seed, 0))
            for layer in layers:
                bound = layer.weight.shape[-1] ** -0.5
                for tensor in (layer.weight, layer.bias):
                    start = generator.uniform(-bound, bound, tuple(tensor.shape[1:]))
                    tensor[replica] = torch.from_numpy(start).to(dtype).to(device)

    def forward(self, x: Tensor) -> Tape:
        """Run all replicas on inputs `[K, B, F]`."""
        inputs, saved = [x], list[Saved]()
        for layer in self.trunk:
            pre_activation, saved_by_layer = layer.forward(inputs[-1])
            inputs.append(pre_activation.relu_())
            saved.append(saved_by_layer)
        outputs, saved_by_heads = self.heads.forward(inputs[-1])
        return Tape(inputs, [*saved, saved_by_heads], outputs)

    @property
    def trunk_sizes(self) -> list[int]:
        """Parameters of each trunk layer of one replica; P is their sum."""
        return [layer.weight[0].numel() + layer.bias[0].numel() for layer in self.trunk]

    def write_trunk_gradient(self, direction: Tensor) -> None:
        """Write a gradient `[K, P]` of the trunk, ordered by layer, weight before bias."""
        for layer, part in zip(self.trunk, direction.split(self.trunk_sizes, dim=1), strict=True):
            biases = layer.bias.shape[1]
            layer.write(part[:, :-biases], part[:, -biases:])

    def split_outputs(self, outputs: Tensor) -> list[Tensor]:
        """The columns of `outputs` that belong to each task, as views."""
        return list(outputs.split(self._columns, dim=-1))


def _views(buffer: Tensor, replicas: int, shapes: Sequence[tuple[int, int]]) -> list[tuple[Tensor, Tensor]]:
    """Weight `[K, out, in]` and bias `[K, out]` of each layer as contiguous views of a flat buffer, in order."""
    sizes = [size for into, out in shapes for size in (replicas * out * into, replicas * out)]
    parts = iter(buffer.split(sizes))
    return [(next(parts).view(replicas, out, into), next(parts).view(replicas, out)) for into, out in shapes]
