"""The layers of a stack: K linear layers or K convolutions side by side, with explicit backward products.

A convolution is a linear layer over patches of its image: what is said here of rows are samples for the one and
patches for the other, and the weights' gradients and their inner products are the same matrix products.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Seen:
    """What a layer keeps of a forward pass for the backward products.

    `inputs` is `[K, B, in]`; of a convolution the images of all replicas side by side, `[B, K * C, H, W]`, where
    `convolved` is what it pooled and `places` where each maximum was.
    """

    inputs: Tensor
    convolved: Tensor | None = None
    places: Tensor | None = None


@dataclass(frozen=True)
class Linear:
    """K linear layers side by side, with the buffers that their gradients are written into.

    `weight` `[K, out, in]`, `bias` `[K, out]`, and their gradients of the same shapes. Deltas are gradients by the
    pre-activation, `[K, B, F]`, or one for each task, `[K, T, B, F]`.
    """

    weight: Tensor
    bias: Tensor
    weight_grad: Tensor
    bias_grad: Tensor

    def forward(self, x: Tensor) -> tuple[Tensor, Seen]:
        """The pre-activation `[K, B, F]` of an input `[K, B, in]`, and what its backward products need."""
        return torch.baddbmm(self.bias.unsqueeze(1), x, self.weight.mT), Seen(x)

    def input_delta(self, seen: Seen, delta: Tensor) -> Tensor:
        """Gradient by the input, `[K, B, in]` or `[K, T, B, in]`, from the deltas."""
        return torch.bmm(delta.flatten(1, -2), self.weight).view(*delta.shape[:-1], -1)

    def write_gradient(self, seen: Seen, delta: Tensor) -> None:
        """Write the gradients by weight and bias, from the deltas `[K, B, F]`."""
        torch.bmm(delta.mT, seen.inputs, out=self.weight_grad)
        torch.sum(delta, 1, out=self.bias_grad)

    def jacobian(self, seen: Seen, deltas: Tensor, jacobian: Tensor | None = None) -> Tensor:
        """The task gradients, weight then bias, `[K, T, out * in + out]`, written into `jacobian` if it is given."""
        return explicit_jacobian(seen.inputs, deltas, jacobian)

    def rows(self, seen: Seen, deltas: Tensor) -> tuple[Tensor, Tensor]:
        """What the weight was multiplied with, `[K, N, in]`, and the gradients by the products, `[K, T, N, out]`."""
        return seen.inputs, deltas

    def row_count(self, seen: Seen) -> int:
        """N, without making the rows."""
        return seen.inputs.shape[1]


@dataclass(frozen=True)
class Convolution(Linear):
    """K convolutions with pooling side by side; `weight` `[K, out, C * k * k]` holds the kernels flat.

    It sees images `[K, B, C * H * W]` and leaves `[K, B, out * h * w]`; the pre-activation is that after pooling. The
    replicas are the groups of one convolution, channels last in memory, where pooling is several times as fast. Rows
    are patches, and are made for inner products of gradients alone.
    """

    image: tuple[int, int, int]
    kernel: int
    pool: int

    def forward(self, x: Tensor) -> tuple[Tensor, Seen]:
        """As of `Linear`."""
        images = self._side_by_side(x, self.image)
        convolved = F.conv2d(images, self._kernels, self.bias.flatten(), groups=len(self.bias))
        pooled, places = F.max_pool2d(convolved, self.pool, return_indices=True)
        return self._apart(pooled), Seen(images, convolved, places)

    def input_delta(self, seen: Seen, delta: Tensor) -> Tensor:
        """As of `Linear`."""
        if delta.dim() == 4:
            return torch.stack([self.input_delta(seen, each) for each in delta.unbind(1)], 1)
        by_input, _, _ = self._differentiate(seen, delta, [True, False, False])
        return self._apart(by_input)

    def write_gradient(self, seen: Seen, delta: Tensor) -> None:
        """As of `Linear`."""
        _, by_weight, by_bias = self._differentiate(seen, delta, [False, True, True])
        self.weight_grad.copy_(by_weight.reshape(self.weight.shape))
        self.bias_grad.copy_(by_bias.view(self.bias.shape))

    def jacobian(self, seen: Seen, deltas: Tensor, jacobian: Tensor | None = None) -> Tensor:
        """As of `Linear`."""
        if jacobian is None:
            jacobian = deltas.new_empty(*deltas.shape[:2], self.weight[0].numel() + self.bias.shape[1])
        weight, bias = jacobian.split([self.weight[0].numel(), self.bias.shape[1]], dim=-1)
        for task, delta in enumerate(deltas.unbind(1)):
            _, by_weight, by_bias = self._differentiate(seen, delta, [False, True, True])
            weight[:, task] = by_weight.reshape(len(self.bias), -1)
            bias[:, task] = by_bias.view(self.bias.shape)
        return jacobian

    def rows(self, seen: Seen, deltas: Tensor) -> tuple[Tensor, Tensor]:
        """As of `Linear`, N being all places of all samples."""
        replicas, out = self.bias.shape
        patches = seen.inputs.unfold(2, self.kernel, 1).unfold(3, self.kernel, 1)  # [B, K * C, h, w, k, k]
        apart = patches.unflatten(1, (replicas, -1)).permute(1, 0, 3, 4, 2, 5, 6)
        each = [self._through_pool(seen, delta).unflatten(1, (replicas, out)) for delta in deltas.unbind(1)]
        by_row = torch.stack(each).permute(2, 0, 1, 4, 5, 3)  # [K, T, B, h, w, out]
        return apart.flatten(4).flatten(1, 3), by_row.flatten(2, 4)

    def row_count(self, seen: Seen) -> int:
        """As of `Linear`."""
        assert seen.convolved is not None
        return seen.convolved[:, 0].numel()

    @property
    def _kernels(self) -> Tensor:
        return self.weight.view(-1, self.image[0], self.kernel, self.kernel)

    def _differentiate(self, seen: Seen, delta: Tensor, wanted: list[bool]) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients by images, kernels and biases, those that are wanted."""
        return torch.ops.aten.convolution_backward(
            self._through_pool(seen, delta),
            seen.inputs,
            self._kernels,
            [self.bias.numel()],
            stride=[1, 1],
            padding=[0, 0],
            dilation=[1, 1],
            transposed=False,
            output_padding=[0, 0],
            groups=len(self.bias),
            output_mask=wanted,
        )

    def _through_pool(self, seen: Seen, delta: Tensor) -> Tensor:
        """Gradient by what was pooled, `[B, K * out, h, w]`, from the deltas `[K, B, F]`."""
        assert seen.convolved is not None
        assert seen.places is not None
        pooled = self._side_by_side(delta, (self.bias.shape[1], *seen.places.shape[2:]))
        size = [self.pool, self.pool]
        return torch.ops.aten.max_pool2d_with_indices_backward(
            pooled, seen.convolved, size, size, [0, 0], [1, 1], ceil_mode=False, indices=seen.places
        )

    def _side_by_side(self, x: Tensor, image: tuple[int, ...]) -> Tensor:
        """Images `[K, B, C * H * W]` as `[B, K * C, H, W]`, channels last in memory."""
        replicas, batch, _ = x.shape
        apart = x.reshape(replicas, batch, *image).permute(1, 3, 4, 0, 2)  # [B, H, W, K, C]
        return apart.flatten(3).contiguous().permute(0, 3, 1, 2)

    def _apart(self, images: Tensor) -> Tensor:
        """The reverse of `_side_by_side`."""
        return images.unflatten(1, (len(self.bias), -1)).transpose(0, 1).flatten(2)


def explicit_jacobian(x: Tensor, deltas: Tensor, jacobian: Tensor | None = None) -> Tensor:
    """One layer's task gradients, weight then bias, `[K, T, out * in + out]`; from its input and deltas.

    They are written into `jacobian`, if it is given, whose last dimension may be part of a longer one.
    """
    replicas, tasks, _, out = deltas.shape
    size = out * x.shape[-1]
    if jacobian is None:
        jacobian = deltas.new_empty(replicas, tasks, size + out)
    weight, bias = jacobian.split([size, out], dim=-1)
    for task in range(tasks):
        torch.bmm(deltas[:, task].mT, x, out=weight[:, task].view(replicas, out, -1))
    torch.sum(deltas, 2, out=bias)
    return jacobian
