"""Reads idx files of images, compressed or not."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from mtlbench.errors import UserError

IDX_IMAGES, IDX_LABELS = 0x803, 0x801  # unsigned bytes in three dimensions, and in one
GZIP, IDX = b"\x1f\x8b", b"\0\0"
MOST_IDX_BYTES = 1_000_000_000


def read_images(path: Path, *, compressed: bool) -> NDArray[np.uint8]:
    """Images `[N, H, W]`."""
    kind = "gzip file" if compressed else "idx file"
    try:
        with gzip.open(path) if compressed else path.open("rb") as opened:
            file = cast("BinaryIO", opened)
            head = file.read(16)
            if head[:2] != IDX:
                raise UserError("is a gzip file, but there is no idx file of images in it")
            magic = int.from_bytes(head[:4], "big")
            if magic != IDX_IMAGES or len(head) < 16:
                what = "labels" if magic == IDX_LABELS else "something else"
                raise UserError(f"is an idx file, but of {what}: images are unsigned bytes in three dimensions")
            shape = struct.unpack(">III", head[4:])
            size = math.prod(shape)
            if not size:
                raise UserError("is an idx file without an image")
            if size > MOST_IDX_BYTES:
                raise UserError(f"is too large: {size:,} pixels, where at most {MOST_IDX_BYTES:,} are read")
            content = file.read(size + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise UserError(f"is a damaged {kind}") from None
    if len(content) != size:
        raise UserError(f"is a damaged {kind}: it says {' x '.join(map(str, shape))}, which is not what it holds")
    return np.frombuffer(content, np.uint8).reshape(shape)
