"""Convolutional layers that a setup declares: their sizes, shapes and multiply-adds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast


def is_count(value: object) -> bool:
    """True for a whole number >= 1."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


@dataclass(frozen=True)
class Conv:
    """A convolution with stride 1 and no padding, max-pooling over `pool` x `pool` windows, and a ReLU.

    As in `torch.nn.MaxPool2d`, rows and columns that do not fill a window are dropped.

    Raises:
        ValueError: one of the sizes is not a whole number >= 1.
    """

    channels: int
    kernel: int
    pool: int = 1

    def __post_init__(self) -> None:
        if not all(map(is_count, vars(self).values())):
            raise ValueError(f"channels, kernel and pool of a convolution must be whole numbers >= 1; found {self}")


@dataclass(frozen=True)
class Convolutions:
    """Convolutions in sequence on an image of (channels, height, width), whose values are given flat in that order.

    Raises:
        ValueError: the image or the layers are not of these types, or nothing is left of the image after a layer.
    """

    image: tuple[int, int, int]
    layers: tuple[Conv, ...]

    def __post_init__(self) -> None:
        image, layers = cast("list[object]", [self.image, self.layers])  # a plug-in is not type-checked
        if not (isinstance(image, tuple | list) and len(image) == 3 and all(map(is_count, image))):
            raise ValueError(f"image must be (channels, height, width), whole numbers >= 1; found {image!r}")
        if not (isinstance(layers, tuple | list) and all(isinstance(layer, Conv) for layer in layers)):
            raise ValueError(f"layers must be a tuple of Conv(...); found {layers!r}")
        for (conv, (_, height, width)), (_, *left) in zip(self.each(), self.images[1:], strict=True):
            if min(left) < 1:
                layer = f"a {conv.kernel}x{conv.kernel} kernel with a {conv.pool}x{conv.pool} pool"
                raise ValueError(f"{layer} leaves nothing of a {height}x{width} image")

    @property
    def images(self) -> list[tuple[int, int, int]]:
        """Shapes of each layer's input and of the last layer's output."""
        shapes = [self.image]
        for conv in self.layers:
            shapes.append((conv.channels, *pooled(shapes[-1], conv.kernel, conv.pool)))
        return shapes

    @property
    def inputs(self) -> int:
        """Number of values in the image."""
        return math.prod(self.image)

    @property
    def features(self) -> int:
        """Number of values that the last layer puts out."""
        return math.prod(self.images[-1])

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of one sample's forward pass."""
        return sum(
            image[0] * conv.kernel**2 * conv.channels * math.prod(pooled(image, conv.kernel, 1))
            for conv, image in self.each()
        )

    def each(self) -> list[tuple[Conv, tuple[int, int, int]]]:
        """Each layer with the shape of its input."""
        return list(zip(self.layers, self.images, strict=False))


def pooled(image: tuple[int, int, int], kernel: int, pool: int) -> tuple[int, int]:
    """Height and width of a convolution's pooled output for an image of (channels, height, width)."""
    _, height, width = image
    return (height - kernel + 1) // pool, (width - kernel + 1) // pool
