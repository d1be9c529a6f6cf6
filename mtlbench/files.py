"""Atomic file writes that survive power loss."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path


def is_there(path: Path) -> bool:
    """True if the path is an existing file; False also for names that the system rejects."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


@contextmanager
def replaced(path: Path) -> Generator[Path]:
    """Context manager that yields a scratch file to write, beside `path`; on exit it is synced and renamed to `path`.

    If anything is raised, the scratch file is removed.

    Raises:
        OSError: the file cannot be written; the previous content of `path` is intact.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".", suffix=f"-{path.name}", dir=path.parent)
    os.close(handle)
    scratch = Path(name)
    try:
        yield scratch
        scratch.chmod(0o644)  # only now: the caller may have replaced the scratch file by a new one
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
