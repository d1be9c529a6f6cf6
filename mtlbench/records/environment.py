"""What a bench was run on and with."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

from mtlbench import __version__
from mtlbench.records.records import Environment

PACKAGES = ("torch", "numpy", "scipy", "pandas", "seaborn")
CODE = ("mtlbench", "strategies", "setups")  # folders that code is imported from


def now() -> str:
    """The time in UTC, to the second, ISO 8601."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def versions() -> dict[str, str]:
    """Versions of what computes."""
    packages = {package: version(package) for package in PACKAGES}
    return {"mtlbench": __version__, "python": platform.python_version(), **packages}


def describe(device: str) -> Environment:
    """Machine, versions and commit as of now.

    Args:
        device: the kind that is trained on; a GPU is named beside the processor.
    """
    found, machine = versions(), _processor()
    if device == "cuda":
        import torch

        machine = f"{torch.cuda.get_device_name()}, {machine}"
        found["cuda"] = str(torch.version.cuda)
    return Environment(
        machine=machine,
        cores=cores(),
        memory_gib=round(_memory_bytes() / 2**30, 1),
        system=f"{platform.system()} {platform.machine()}",
        versions=found,
        commit=_commit(),
    )


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory_bytes() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return 0


def _commit() -> str | None:
    """The commit of the checkout this package runs from; None where it is installed without one.

    It ends with `-dirty` if files differ from it, or if there are others beside the code that is imported.
    """
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        commit = _git(root, "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*")
        added = _git(root, "ls-files", "--others", "--exclude-standard", "--", *CODE)
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{commit}-dirty" if added and not commit.endswith("-dirty") else commit


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()
