"""Frames pictures of any size as images of 28 x 28: locates the figure, and scales and places it as in training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mtlbench.errors import UserError

SIDE = 28
WHITE = 255.0
STRONG = 0.1  # share of the strongest ink from which a pixel belongs to the figure
FAINTEST = 10.0  # of 255; a picture without stronger ink is blank
NOISE = 4.0  # median deviations, nearly three standard deviations of normal noise
STEADY = 0.3
"""Largest median share of an image's ink that framing may change if the images have a common framing."""
SPECK = 0.02
"""Connected parts with less than this share of the largest part's ink do not belong to the figure."""

Grey = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Framing:
    """How figures are framed in images of 28 x 28: scaled to a box of `box` pixels, centred by mass or by that box."""

    box: int
    centre: Literal["mass", "box"]


def framing_of(images: NDArray[np.uint8]) -> Framing | None:
    """The common framing of images `[N, 784]` on background 0, or None.

    The box is the median of the figures' longer sides; the centre is the one that varies less. For MNIST this is 20
    pixels by mass, for Fashion-MNIST 28 by box. There is no common framing if it would change the images, as it would
    change the two digits of MultiMNIST or figures on a light background.
    """
    figures = [image.astype(np.float64) for image in images.reshape(-1, SIDE, SIDE) if image.any()]
    if not figures:
        return None
    framing = _usual_framing(figures)
    return framing if np.median([_change(image, framing) for image in figures]) <= STEADY else None


def _change(image: Grey, framing: Framing) -> float:
    """The share of an image's ink that framing would change."""
    try:
        return float(np.abs(framed(image, framing) - image).sum() / image.sum())
    except UserError:  # the image is blank
        return np.inf


def _usual_framing(images: list[Grey]) -> Framing:
    sides: list[int] = []
    centres: list[tuple[float, float, float, float]] = []
    for image in images:
        (top, bottom), (left, right) = _extent(image > 0)
        sides.append(max(bottom - top, right - left))
        centres.append((*_centre_of_mass(image), (top + bottom) / 2, (left + right) / 2))
    spread = np.std(centres, axis=0)
    return Framing(int(np.median(sides)), "mass" if spread[:2].sum() < spread[2:].sum() else "box")


def framed(pixels: NDArray[Any], framing: Framing) -> NDArray[np.uint8]:
    """The figure of a picture `[H, W]` or `[H, W, C]` (0 to 255) as an image `[28, 28]`, light on 0.

    Ink is a pixel's largest difference to the background over channels, so dark on light equals light on dark. The
    background is the median of the border, whose variation is noise. The figure's bounding box, without specks, is
    scaled to the framing's box by averaging over areas, keeping its aspect ratio; the strongest pixel becomes 255.
    With MNIST's framing, an image of MNIST changes only by this last step, and loses rows and columns at the sides
    that are fainter than a tenth of the strongest pixel.

    Source: Y. LeCun, C. Cortes, C. J. C. Burges, "The MNIST database of handwritten digits" (size-normalised to
    20 x 20 with anti-aliasing, centred by the centre of mass).

    Raises:
        UserError: the picture is blank.
    """
    ink = _ink(pixels)
    (top, bottom), (left, right) = _box(ink, framing)
    figure = ink[top:bottom, left:right]
    height, width = figure.shape
    scale = framing.box / max(height, width)
    small = _averaged(figure, max(1, round(scale * height)), max(1, round(scale * width)))
    small *= WHITE / small.max()
    frame = np.zeros((SIDE, SIDE))
    y, x = (_start(centre, size, framing) for centre, size in zip(_centre_of_mass(small), small.shape, strict=True))
    frame[y : y + small.shape[0], x : x + small.shape[1]] = small
    return np.rint(frame).astype(np.uint8)


def _ink(pixels: NDArray[Any]) -> Grey:
    """Each pixel's difference to the background; 0 if it is within the variation of the border."""
    channels = pixels.reshape(*pixels.shape[:2], -1).astype(np.float64)
    border = np.concatenate([channels[0], channels[-1], channels[1:-1, 0], channels[1:-1, -1]])
    background = np.median(border, axis=0)
    ink = np.abs(channels - background).max(axis=-1)
    peak = ink.max()
    if peak <= FAINTEST:
        raise UserError("is blank: nothing differs from the background")
    noise = NOISE * np.median(np.abs(border - background).max(axis=-1))
    ink[ink <= min(noise, peak / 2)] = 0  # a figure that fills the picture also covers the border
    return ink


def _figure(ink: Grey) -> Mask:
    """Mask of the figure: the strong ink without specks."""
    strong = ink >= STRONG * ink.max()
    parts, count = ndimage.label(strong, structure=np.ones((3, 3)))
    weights = ndimage.sum_labels(ink, parts, np.arange(count + 1))
    kept = weights >= SPECK * weights[1:].max()
    kept[0] = False
    return kept[parts]


def _box(ink: Grey, framing: Framing) -> tuple[tuple[int, int], tuple[int, int]]:
    """Rows and columns of the figure, without the blur around it.

    At the true position of a blurred edge, ink is half as strong as three quarters of a new pixel further inside.
    """
    inside = _figure(ink)
    extents = _extent(inside)
    further_in = int(0.75 * max(end - begin for begin, end in extents) / framing.box)

    def drawn(profile: Grey, begin: int, end: int) -> tuple[int, int]:
        first, last = profile[min(begin + further_in, end - 1)], profile[max(end - 1 - further_in, begin)]
        while profile[begin] < first / 2:
            begin += 1
        while profile[end - 1] < last / 2:
            end -= 1
        return begin, end

    rows, columns = (np.where(inside, ink, 0).max(axis=axis) for axis in (1, 0))
    return drawn(rows, *extents[0]), drawn(columns, *extents[1])


def _extent(inside: Mask) -> tuple[tuple[int, int], tuple[int, int]]:
    """Begin and end of the marked rows, then of the marked columns."""
    rows, columns = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
    return (int(rows[0]), int(rows[-1]) + 1), (int(columns[0]), int(columns[-1]) + 1)


def _averaged(image: Grey, height: int, width: int) -> Grey:
    """The image in another size; each new pixel is the exact mean over the area that it covers."""
    return _shares(height, image.shape[0]) @ image @ _shares(width, image.shape[1]).T


def _shares(new: int, old: int) -> Grey:
    """`[new, old]`: the share of each new pixel that each old one covers, along one side."""
    ends = np.arange(1, new + 1)[:, None] * old / new
    pixels = np.arange(old)[None]
    covered = np.minimum(ends, pixels + 1) - np.maximum(ends - old / new, pixels)
    return np.clip(covered, 0, None) * new / old


def _centre_of_mass(image: Grey) -> tuple[float, float]:
    """Row and column; pixel i reaches from i to i + 1."""
    total = image.sum()
    rows, columns = (np.arange(size) + 0.5 for size in image.shape)
    return float(image.sum(axis=1) @ rows / total), float(image.sum(axis=0) @ columns / total)


def _start(centre: float, size: int, framing: Framing) -> int:
    """Where a side of the figure begins; its centre then lies in [14, 15), as in all of MNIST."""
    if framing.centre == "box":
        return (SIDE - size) // 2
    rounding = 1e-6  # a centre on the edge must not depend on rounding
    return int(np.clip(np.ceil(SIDE / 2 - centre - rounding), 0, SIDE - size))
