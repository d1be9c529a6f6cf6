"""Files that are there whole or not at all, also after a power cut."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path


def is_there(path: Path) -> bool:
    """Whether there is a file of that name; of a name that the system refuses there is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


@contextmanager
def replaced(path: Path) -> Generator[Path]:
    """A scratch file beside `path` to be written; synced and renamed to it at the end, removed if anything is raised.

    Raises:
        OSError: it cannot be written; what was at `path` before is still there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".", suffix=f"-{path.name}", dir=path.parent)
    os.close(handle)
    scratch = Path(name)
    try:
        yield scratch
        scratch.chmod(0o644)  # here, since what was written may have replaced the scratch file by one of its own
        _sync(scratch)
        scratch.replace(path)
        _sync(path.parent)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
