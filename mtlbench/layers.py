"""The layers of a stack: K linear layers or K convolutions side by side, with explicit backward products.

A convolution is a linear layer over patches of its image: what is said here of rows are samples for the one and
patches for the other, and the weights' gradients and their inner products are the same matrix products.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Conv:
    """A convolution of stride 1 without padding, a maximum over `pool` x `pool` windows, and a ReLU.

    Positions that no whole window holds are dropped, as `torch.nn.MaxPool2d` does.

    Raises:
        ValueError: one of the sizes is below 1.
    """

    channels: int
    kernel: int
    pool: int = 1

    def __post_init__(self) -> None:
        if min(vars(self).values()) < 1:
            raise ValueError(f"channels, kernel and pool of a convolution are at least 1, not {self}")


@dataclass(frozen=True)
class Convolutions:
    """Convolutions one after another on an image of (channels, height, width), given flat in that order.

    Raises:
        ValueError: a layer leaves nothing of the image.
    """

    image: tuple[int, int, int]
    layers: tuple[Conv, ...]

    def __post_init__(self) -> None:
        for conv, (_, height, width), (_, *left) in zip(self.layers, self.images, self.images[1:], strict=False):
            if min(left) < 1:
                what = f"a {conv.kernel}x{conv.kernel} kernel with a {conv.pool}x{conv.pool} pool"
                raise ValueError(f"{what} leaves nothing of a {height}x{width} image")

    @property
    def images(self) -> list[tuple[int, int, int]]:
        """Shape of each layer's input, and of what the last one leaves."""
        shapes = [self.image]
        for conv in self.layers:
            shapes.append((conv.channels, *pooled(shapes[-1], conv.kernel, conv.pool)))
        return shapes

    @property
    def inputs(self) -> int:
        """Values of the image."""
        return math.prod(self.image)

    @property
    def features(self) -> int:
        """Values that the last layer leaves."""
        return math.prod(self.images[-1])

    @property
    def multiply_adds(self) -> int:
        """Those of one sample in the forward pass."""
        return sum(
            image[0] * conv.kernel**2 * conv.channels * math.prod(pooled(image, conv.kernel, conv.pool)) * conv.pool**2
            for conv, image in self.each()
        )

    def each(self) -> list[tuple[Conv, tuple[int, int, int]]]:
        """The layers, each with the shape of its input."""
        return list(zip(self.layers, self.images, strict=False))


def pooled(image: tuple[int, int, int], kernel: int, pool: int) -> tuple[int, int]:
    """Height and width that a convolution with pooling leaves of an image of (channels, height, width)."""
    _, height, width = image
    return (height - kernel + 1) // pool, (width - kernel + 1) // pool


@dataclass(frozen=True)
class Seen:
    """What a layer keeps of a forward pass for the backward products.

    `rows` `[K, N, in]` is what its weight was multiplied with. `winners` `[K, 1, out, p * p, positions * B]` of a
    convolution is where each window's maximum was, the first one of equals as in torch.
    """

    rows: Tensor
    winners: Tensor | None = None


@dataclass(frozen=True)
class Linear:
    """K linear layers side by side, with the buffers that their gradients are written into.

    `weight` `[K, out, in]`, `bias` `[K, out]`, and their gradients of the same shapes. Deltas are gradients by the
    pre-activation, `[K, B, out]`, or one for each task, `[K, T, B, out]`.
    """

    weight: Tensor
    bias: Tensor
    weight_grad: Tensor
    bias_grad: Tensor

    def forward(self, x: Tensor) -> tuple[Tensor, Seen]:
        """The pre-activation `[K, B, out]` of an input `[K, B, in]`, and what its backward products need."""
        return torch.baddbmm(self.bias.unsqueeze(1), x, self.weight.mT), Seen(x)

    def input_delta(self, seen: Seen, delta: Tensor) -> Tensor:
        """Gradient by the input, `[K, B, in]` or `[K, T, B, in]`, from the deltas."""
        return torch.bmm(delta.flatten(1, -2), self.weight).view(*delta.shape[:-1], -1)

    def row_deltas(self, seen: Seen, deltas: Tensor) -> Tensor:
        """Gradients by the product of each row with the weight, `[K, T, N, out]`, from the deltas of the tasks."""
        return deltas

    def write_gradient(self, seen: Seen, delta: Tensor) -> None:
        """Write the gradients by weight and bias, from the deltas `[K, B, out]`."""
        torch.bmm(delta.mT, seen.rows, out=self.weight_grad)
        torch.sum(delta, 1, out=self.bias_grad)


@dataclass(frozen=True)
class Convolution(Linear):
    """K convolutions with pooling side by side; `weight` `[K, out, C * k * k]` holds the kernels flat.

    It sees images `[K, B, C * H * W]`, and leaves `[K, B, out * h * w]`; the pre-activation is that after pooling.
    Within, the batch stands last, `[K, C, H, W, B]`, so that whatever is copied is copied in runs of B values, and
    a patch is a column. Columns are ordered by their place within a window first, so that pooling is a maximum over
    `pool` x `pool` contiguous blocks.
    """

    image: tuple[int, int, int]
    kernel: int
    pool: int

    def forward(self, x: Tensor) -> tuple[Tensor, Seen]:
        """As of `Linear`."""
        replicas, batch, _ = x.shape
        image = x.mT.contiguous().view(replicas, *self.image, batch)
        columns = self._windows(image).reshape(replicas, self.weight.shape[-1], -1)  # [K, in, N]
        blocks = torch.bmm(self.weight, columns).view(replicas, -1, self.pool**2, columns.shape[-1] // self.pool**2)
        best = blocks.amax(2)  # [K, out, h * w * B]
        winners = _first(blocks == best.unsqueeze(2)).unsqueeze(1)
        best += self.bias.unsqueeze(-1)
        return best.view(replicas, -1, batch).mT, Seen(columns.mT, winners)

    def input_delta(self, seen: Seen, delta: Tensor) -> Tensor:
        """As of `Linear`."""
        replicas, *tasks, batch, _ = delta.shape
        columns = self.weight.mT.unsqueeze(1) @ self._by_column(seen, delta)  # [K, T, in, N]
        image = columns.new_zeros(columns.shape[0] * columns.shape[1], *self.image, batch)
        windows = self._windows(image)
        parts = columns.view(windows.shape)
        for row in range(self.kernel):
            for column in range(self.kernel):
                windows[:, :, row, column].add_(parts[:, :, row, column])
        return image.view(replicas, *tasks, -1, batch).mT

    def row_deltas(self, seen: Seen, deltas: Tensor) -> Tensor:
        """As of `Linear`."""
        return self._by_column(seen, deltas).mT

    def write_gradient(self, seen: Seen, delta: Tensor) -> None:
        """As of `Linear`."""
        by_column = self._by_column(seen, delta).squeeze(1)  # [K, out, N]
        torch.bmm(by_column, seen.rows, out=self.weight_grad)
        torch.sum(by_column, 2, out=self.bias_grad)

    def _by_column(self, seen: Seen, delta: Tensor) -> Tensor:
        """Deltas of the columns, `[K, T, out, N]`: zero but where a window's maximum was."""
        assert seen.winners is not None
        replicas, out = self.bias.shape
        pooled = delta.mT.reshape(replicas, -1, out, 1, seen.winners.shape[-1])
        return (pooled * seen.winners).flatten(-2)

    def _windows(self, image: Tensor) -> Tensor:
        """The patches of images `[G, C, H, W, B]` as a view, `[G, C, k, k, p, p, h, w, B]`.

        The value at [g, c, i, j, a, b, y, x] is the one at row y * p + a + i and column x * p + b + j.
        """
        group, channel, down, right, sample = image.stride()
        size, pool = self.kernel, self.pool
        return image.as_strided(
            (*image.shape[:2], size, size, pool, pool, *pooled(self.image, size, pool), image.shape[-1]),
            (group, channel, down, right, down, right, pool * down, pool * right, sample),
        )


def _first(hits: Tensor) -> Tensor:
    """Keep, in place, the first of the hits along the third dimension."""
    earlier = hits[:, :, 0].clone()
    for place in range(1, hits.shape[2]):
        torch.gt(hits[:, :, place], earlier, out=hits[:, :, place])
        earlier |= hits[:, :, place]
    return hits
