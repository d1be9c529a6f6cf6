"""K replicas of one multi-task network as a single stack: a shared trunk of ReLU layers and linear heads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Linear:
    """K linear layers side by side, with the buffers that their gradients are written into.

    `weight` `[K, out, in]`, `bias` `[K, out]`, and their gradients of the same shapes.
    """

    weight: Tensor
    bias: Tensor
    weight_grad: Tensor
    bias_grad: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """The pre-activation `[K, B, out]` of an input `[K, B, in]`."""
        return torch.baddbmm(self.bias.unsqueeze(1), x, self.weight.mT)

    def input_delta(self, delta: Tensor) -> Tensor:
        """Gradient by the input, `[K, N, in]`, from the gradient by the pre-activation, `[K, N, out]`."""
        return torch.bmm(delta, self.weight)

    def write_gradient(self, x: Tensor, delta: Tensor) -> None:
        """Write the gradients by weight and bias, given the layer's input and its pre-activation's gradient."""
        torch.bmm(delta.mT, x, out=self.weight_grad)
        torch.sum(delta, 1, out=self.bias_grad)


@dataclass(frozen=True)
class Tape:
    """What a forward pass leaves for the backward products.

    `inputs[l]` `[K, B, F_l]` is the input of trunk layer l, the last entry is the shared representation that
    the heads see; `outputs` `[K, B, O]` holds all heads' outputs side by side.
    """

    inputs: list[Tensor]
    outputs: Tensor


class Network:
    """K multi-task networks, parameters and gradients each in one flat buffer; nothing requires grad.

    The heads are one linear layer whose output columns are divided among the tasks: `mask` `[T, O]` is 1
    where column o is task t's. Every replica starts from the default initialisation of `torch.nn.Linear`,
    uniform within 1 / sqrt(in), drawn from its own generator, so that a seed starts alike in every stack.

    Args:
        seeds: one per replica.
        widths: features of the input and of each trunk layer.
        outputs: output columns per task.
        device: where the buffers lie.
        dtype: of parameters and activations.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        widths: Sequence[int],
        outputs: Sequence[int],
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        ends = [*widths[1:], sum(outputs)]
        shapes = [(into, out) for into, out in zip(widths, ends, strict=True)]
        replicas = len(seeds)
        size = replicas * sum(out * into + out for into, out in shapes)
        self.parameters = torch.zeros(size, device=device, dtype=dtype)
        self.grad = torch.zeros_like(self.parameters)
        layers = _layers(self.parameters, self.grad, replicas, shapes)
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
        inputs = [x]
        for layer in self.trunk:
            inputs.append(layer.forward(inputs[-1]).relu_())
        return Tape(inputs, self.heads.forward(inputs[-1]))

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


def _layers(parameters: Tensor, grad: Tensor, replicas: int, shapes: Sequence[tuple[int, int]]) -> list[Linear]:
    """Views of the flat buffers, layer after layer, so that each layer's stack is contiguous."""
    sizes = [size for into, out in shapes for size in (replicas * out * into, replicas * out)]
    values, grads = parameters.split(sizes), grad.split(sizes)
    return [
        Linear(
            values[2 * i].view(replicas, out, into),
            values[2 * i + 1].view(replicas, out),
            grads[2 * i].view(replicas, out, into),
            grads[2 * i + 1].view(replicas, out),
        )
        for i, (into, out) in enumerate(shapes)
    ]
