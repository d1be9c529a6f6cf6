"""K replicas of one multi-task network as a single stack: a shared trunk of ReLU layers and linear heads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mtlbench.contracts.convolutions import Convolutions
from mtlbench.engine.layers import Convolution, Linear, Seen


@dataclass(frozen=True)
class Tape:
    """What a forward pass leaves for the backward products.

    `inputs[l]` `[K, B, F_l]` is the input of trunk layer l, the last entry is the shared representation that
    the heads see; `seen[l]` is what layer l kept, the last entry what the heads did; `outputs` `[K, B, O]` holds all
    heads' outputs side by side.
    """

    inputs: list[Tensor]
    seen: list[Seen]
    outputs: Tensor


class Network:
    """K multi-task networks, parameters and gradients each in one flat buffer; nothing requires grad.

    The heads are one linear layer whose output columns are divided among the tasks: `mask` `[T, O]` is 1
    where column o is task t's. Every replica starts from the default initialisation of `torch.nn.Linear` and
    `torch.nn.Conv2d`, uniform within 1 / sqrt(in) for what a column of the weight has, drawn from its own generator, so
    that a seed starts alike in every stack.

    Args:
        seeds: one per replica.
        widths: features that the linear layers of the trunk are given, and of each of them.
        outputs: output columns per task.
        convolutions: what stands before the linear layers.
        device: where the buffers lie.
        dtype: of parameters and activations.
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
    ) -> None:
        convolved = convolutions.each() if convolutions else []
        patches = [(image[0] * conv.kernel**2, conv.channels) for conv, image in convolved]
        shapes = [*patches, *zip(widths, [*widths[1:], sum(outputs)], strict=True)]
        replicas = len(seeds)
        size = replicas * sum(out * into + out for into, out in shapes)
        self.parameters = torch.zeros(size, device=device, dtype=dtype)
        self.grad = torch.zeros_like(self.parameters)
        layers = [Linear(*views) for views in _views(self.parameters, self.grad, replicas, shapes)]
        for i, (conv, image) in enumerate(convolved):
            layers[i] = Convolution(**vars(layers[i]), image=image, kernel=conv.kernel, pool=conv.pool)
        self.trunk, self.heads = layers[:-1], layers[-1]
        self._columns = list(outputs)
        blocks = [torch.ones(1, columns) for columns in outputs]
        self.mask = torch.block_diag(*blocks).to(device, dtype)
        for replica, seed in enumerate(seeds):
            generator = np.random.default_rng((seed, 0))
            for layer in layers:
                bound = layer.weight.shape[-1] ** -0.5
                for tensor in (layer.weight, layer.bias):
                    start = generator.uniform(-bound, bound, tuple(tensor.shape[1:]))
                    tensor[replica] = torch.from_numpy(start).to(dtype).to(device)

    def forward(self, x: Tensor) -> Tape:
        """Run all replicas on `[K, B, F]`."""
        inputs, seen = [x], list[Seen]()
        for layer in self.trunk:
            before, kept = layer.forward(inputs[-1])
            inputs.append(before.relu_())
            seen.append(kept)
        outputs, kept = self.heads.forward(inputs[-1])
        return Tape(inputs, [*seen, kept], outputs)

    @property
    def trunk_sizes(self) -> list[int]:
        """Parameters of each trunk layer of one replica; P is their sum."""
        return [layer.weight[0].numel() + layer.bias[0].numel() for layer in self.trunk]

    def write_trunk_gradient(self, direction: Tensor) -> None:
        """Write a gradient `[K, P]` of the trunk: layer after layer, weight then bias."""
        buffers = [grad for layer in self.trunk for grad in (layer.weight_grad, layer.bias_grad)]
        parts = direction.split([grad[0].numel() for grad in buffers], dim=1)
        for grad, part in zip(buffers, parts, strict=True):
            grad.copy_(part.view_as(grad))

    def split_outputs(self, outputs: Tensor) -> list[Tensor]:
        """Each task's columns of `outputs`, as views."""
        return list(outputs.split(self._columns, dim=-1))


def _views(
    parameters: Tensor, grad: Tensor, replicas: int, shapes: Sequence[tuple[int, int]]
) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Weight, bias and their gradients of each layer in the flat buffers, one after another, each stack contiguous."""
    sizes = [size for into, out in shapes for size in (replicas * out * into, replicas * out)]
    values, grads = parameters.split(sizes), grad.split(sizes)
    return [
        (
            values[2 * i].view(replicas, out, into),
            values[2 * i + 1].view(replicas, out),
            grads[2 * i].view(replicas, out, into),
            grads[2 * i + 1].view(replicas, out),
        )
        for i, (into, out) in enumerate(shapes)
    ]
