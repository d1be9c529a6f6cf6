"""Reads pictures from PNG, JPEG and idx files, and says in one line why a file cannot be used."""

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
LARGEST_SIDE = 1_000  # pixels; larger pictures are first reduced by a whole factor
DEEP = ("I;16", "I;16B", "I;16L", "I")  # Pillow's modes with 16 bits per pixel


@dataclass(frozen=True)
class Picture:
    """Pixels `[H, W]` or `[H, W, C]` from 0 to 255, and the index in an idx file (None in other files)."""

    index: int | None
    pixels: NDArray[Any]

    def image(self, framing: Framing | None) -> NDArray[np.uint8]:
        """The image `[28, 28]` for the network.

        Images of this size in an idx file are used as they are. A network without a framing accepts only pictures of
        this size, and uses them as they are, too.

        Raises:
            UserError: the picture is blank, or has another size and there is no framing.
        """
        height, width = self.pixels.shape[:2]
        if (height, width) == (SIDE, SIDE) and (framing is None or self.index is not None):
            if not self.pixels.any():
                raise UserError("is blank")
            return np.rint(self.pixels.reshape(SIDE, SIDE, -1).mean(axis=-1)).astype(np.uint8)
        if framing is None:
            raise UserError(
                f"is {height} x {width}, but must be {SIDE} x {SIDE}: the training images have no common "
                f"framing, so pictures cannot be framed like them"
            )
        return framed(self.pixels, framing)


def read(path: Path) -> Iterator[Picture]:
    """The pictures of a file: one in a PNG or JPEG file, any number in an idx file, which may be compressed (gzip).

    Raises:
        UserError: the file has another format, is damaged, too large or unreadable; the message follows its name.
    """
    try:
        if path.is_dir():
            raise UserError("is a folder: name the files in it")
        if not path.is_file():
            raise UserError("is not a regular file" if path.exists() else "does not exist")
        with path.open("rb") as file:
            start = file.read(2)
        if not start:
            raise UserError("is empty")
        if start in (GZIP, IDX):
            stack = idx.read_images(path, compressed=start == GZIP)
            yield from (Picture(index, pixels) for index, pixels in enumerate(stack))
        else:
            yield Picture(None, _read_image(path))
    except (OSError, ValueError) as error:  # caused by the path
        reason = error.strerror if isinstance(error, OSError) else None
        raise UserError(f"cannot be read: {reason or first_line(error)}") from None


def _read_image(path: Path) -> NDArray[np.floating]:
    """A picture `[H, W, C]`, upright, without transparency, and reduced if it is very large."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about odd metadata, which is not used
            with Image.open(path, formats=("PNG", "JPEG")) as image:
                if image.width * image.height > MOST_PIXELS:
                    raise UserError(_too_large(f"{image.width:,} x {image.height:,}"))
                return _pixels(image)
    except UserError:
        raise
    except Image.DecompressionBombError:
        raise UserError(_too_large("far more")) from None
    except Image.UnidentifiedImageError:
        raise UserError("is neither a PNG or JPEG picture nor an idx file") from None
    except Exception as error:  # a decoder may raise anything for damaged bytes
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise UserError(f"is a damaged picture: {first_line(error)}") from None


def _too_large(size: str) -> str:
    return f"is too large: it must have at most {MOST_PIXELS:,} pixels; found {size}"


def _pixels(image: Image.Image) -> NDArray[np.floating]:
    step = max(1, max(image.size) // LARGEST_SIDE)
    image = ImageOps.exif_transpose(image)
    if image.mode in DEEP:
        deep = Image.fromarray(np.asarray(image).astype(np.float32) * (WHITE / 65_535))
        return np.asarray(deep.reduce(step))[..., None]
    if image.has_transparency_data:
        return _on_a_background(np.asarray(image.convert("RGBA").reduce(step), np.float32))
    return np.asarray(image.convert("RGB").reduce(step), np.float32)


def _on_a_background(pixels: NDArray[np.floating]) -> NDArray[np.floating]:
    """RGBA `[H, W, 4]` as RGB, on a black background if the opaque part is light, else on a white one."""
    colours, opacity = pixels[..., :3], pixels[..., 3:] / np.float32(WHITE)
    visible = opacity.sum()
    if not visible:
        raise UserError("is blank: all of it is transparent")
    is_dark = (opacity * colours).sum() / (3 * visible) < WHITE / 2
    return opacity * colours + (1 - opacity) * np.float32(WHITE if is_dark else 0)
