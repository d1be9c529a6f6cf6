"""Reading the images of an idx file, gzip-compressed or not."""

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
    """The images `[N, H, W]` of a file.

    Raises:
        UserError: it holds no images, is damaged or too large; the message continues the file's name.
    """
    kind = "gzip file" if compressed else "idx file"
    try:
        with gzip.open(path) if compressed else path.open("rb") as opened:
            file = cast("BinaryIO", opened)
            head = file.read(16)
            if head[:2] != IDX:
                raise UserError("is a gzip file that does not contain an idx file of images")
            magic = int.from_bytes(head[:4], "big")
            if magic != IDX_IMAGES or len(head) < 16:
                content = "labels" if magic == IDX_LABELS else "something else"
                raise UserError(f"is an idx file of {content}: it must hold images, unsigned bytes in three dimensions")
            shape = struct.unpack(">III", head[4:])
            size = math.prod(shape)
            if not size:
                raise UserError("is an idx file without an image")
            if size > MOST_IDX_BYTES:
                raise UserError(f"is too large: it must hold at most {MOST_IDX_BYTES:,} pixels; found {size:,}")
            content = file.read(size + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise UserError(f"is a damaged {kind}") from None
    if len(content) != size:
        raise UserError(
            f"is a damaged {kind}: its header says {' x '.join(map(str, shape))}, its content is of another size"
        )
    return np.frombuffer(content, np.uint8).reshape(shape)
