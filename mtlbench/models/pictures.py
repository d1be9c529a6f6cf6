"""Pictures read from PNG, JPEG and idx files, whatever is in them; one line where that is no picture."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from mtlbench.data import idx
from mtlbench.data.idx import GZIP, IDX
from mtlbench.errors import UserError, first_line
from mtlbench.models.framing import SIDE, WHITE, Framing, framed

MOST_PIXELS = 100_000_000
LARGEST_SIDE = 1_000  # pixels; larger pictures are averaged down by a whole number first
DEEP = ("I;16", "I;16B", "I;16L", "I")  # Pillow's modes of 16 bits a pixel


@dataclass(frozen=True)
class Picture:
    """What is shown, `[H, W]` or `[H, W, C]` from 0 to 255, and its place in an idx file (None in others)."""

    index: int | None
    pixels: NDArray[Any]

    def image(self, framing: Framing | None) -> NDArray[np.uint8]:
        """The image `[28, 28]` for the network; one of an idx file that has this size is taken as it is.

        Where figures were framed in no one way, so is any picture of that size, and there are no others.

        Raises:
            UserError: it shows nothing, or it would have to be framed.
        """
        height, width = self.pixels.shape[:2]
        if (height, width) == (SIDE, SIDE) and (framing is None or self.index is not None):
            if not self.pixels.any():
                raise UserError("is blank")
            return np.rint(self.pixels.reshape(SIDE, SIDE, -1).mean(axis=-1)).astype(np.uint8)
        if framing is None:
            raise UserError(
                f"is {height} x {width}: figures lie anywhere in the images that the network was trained on, so it "
                f"takes pictures as they are, of {SIDE} x {SIDE} pixels"
            )
        return framed(self.pixels, framing)


def read(path: Path) -> Iterator[Picture]:
    """The pictures of a file, told by its content: one of a PNG or JPEG file, all of an idx file, `.gz` or not.

    Raises:
        UserError: it cannot be read, is none of these, is damaged or too large; the message goes on from its name.
    """
    try:
        if path.is_dir():
            raise UserError("is a folder: name the files in it")
        if not path.is_file():
            raise UserError("is no plain file" if path.exists() else "does not exist")
        with path.open("rb") as file:
            start = file.read(2)
        if not start:
            raise UserError("is empty")
        if start in (GZIP, IDX):
            stack = idx.read_images(path, compressed=start == GZIP)
            yield from (Picture(index, pixels) for index, pixels in enumerate(stack))
        else:
            yield Picture(None, _read_image(path))
    except (OSError, ValueError) as error:  # of the path itself
        reason = error.strerror if isinstance(error, OSError) else None
        raise UserError(f"cannot be read: {reason or first_line(error)}") from None


def _read_image(path: Path) -> NDArray[np.floating]:
    """A picture `[H, W, C]`, upright, without transparency, and no larger than it needs to be."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata, which is not read
            with Image.open(path, formats=("PNG", "JPEG")) as image:
                if image.width * image.height > MOST_PIXELS:
                    raise UserError(_too_large(f"{image.width:,} x {image.height:,}"))
                return _pixels(image)
    except UserError:
        raise
    except Image.DecompressionBombError:
        raise UserError(_too_large("by far")) from None
    except Image.UnidentifiedImageError:
        raise UserError("is neither a PNG or JPEG picture nor an idx file") from None
    except Exception as error:  # what a decoder says of damaged bytes may be anything
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise UserError(f"is a damaged picture: {first_line(error)}") from None


def _too_large(size: str) -> str:
    return f"is too large: {size}, where at most {MOST_PIXELS:,} pixels are read"


def _pixels(image: Image.Image) -> NDArray[np.floating]:
    step = max(1, max(image.size) // LARGEST_SIDE)
    image = ImageOps.exif_transpose(image)
    if image.mode in DEEP:
        deep = Image.fromarray(np.asarray(image).astype(np.float32) * (WHITE / 65_535))
        pixels = np.asarray(deep.reduce(step))[..., None]
    elif image.has_transparency_data:
        pixels = _on_a_background(np.asarray(image.convert("RGBA").reduce(step), np.float32))
    else:
        pixels = np.asarray(image.convert("RGB").reduce(step), np.float32)
    return pixels


def _on_a_background(pixels: NDArray[np.floating]) -> NDArray[np.floating]:
    """RGBA `[H, W, 4]` as RGB: what is transparent becomes black or white, whichever the opaque part is not."""
    colours, opacity = pixels[..., :3], pixels[..., 3:] / np.float32(WHITE)
    visible = opacity.sum()
    if not visible:
        raise UserError("is blank: all of it is transparent")
    is_dark = (opacity * colours).sum() / (3 * visible) < WHITE / 2
    return opacity * colours + (1 - opacity) * np.float32(WHITE if is_dark else 0)
