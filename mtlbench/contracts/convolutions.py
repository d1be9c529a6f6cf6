"""Convolutional layers as a setup declares them: sizes, shapes and multiply-adds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast


def is_count(value: object) -> bool:
    """Whether it is a whole number >= 1."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


@dataclass(frozen=True)
class Conv:
    """A convolution of stride 1 without padding, a maximum over `pool` x `pool` windows, and a ReLU.

    Positions that no whole window holds are dropped, as `torch.nn.MaxPool2d` does.

    Raises:
        ValueError: one of the sizes is no whole number, or below 1.
    """

    channels: int
    kernel: int
    pool: int = 1

    def __post_init__(self) -> None:
        if not all(is_count(size) for size in vars(self).values()):
            raise ValueError(f"channels, kernel and pool of a convolution are whole numbers >= 1, not {self}")


@dataclass(frozen=True)
class Convolutions:
    """Convolutions one after another on an image of (channels, height, width), given flat in that order.

    Raises:
        ValueError: these are no image and layers, or a layer leaves nothing of the image.
    """

    image: tuple[int, int, int]
    layers: tuple[Conv, ...]

    def __post_init__(self) -> None:
        image, layers = cast("list[object]", [self.image, self.layers])  # a plugin is not type-checked
        if not (isinstance(image, tuple | list) and len(image) == 3 and all(is_count(size) for size in image)):
            raise ValueError(f"the image is (channels, height, width), whole numbers >= 1, not {image!r}")
        if not (isinstance(layers, tuple | list) and all(isinstance(layer, Conv) for layer in layers)):
            raise ValueError(f"the layers are a tuple of Conv(...), not {layers!r}")
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
            image[0] * conv.kernel**2 * conv.channels * math.prod(pooled(image, conv.kernel, 1))
            for conv, image in self.each()
        )

    def each(self) -> list[tuple[Conv, tuple[int, int, int]]]:
        """The layers, each with the shape of its input."""
        return list(zip(self.layers, self.images, strict=False))


def pooled(image: tuple[int, int, int], kernel: int, pool: int) -> tuple[int, int]:
    """Height and width that a convolution with pooling leaves of an image of (channels, height, width)."""
    _, height, width = image
    return (height - kernel + 1) // pool, (width - kernel + 1) // pool
