"""The machine, versions and commit that a bench was run with."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import psutil

from mtlbench import __version__
from mtlbench.records.records import Environment

PACKAGES = ("torch", "numpy", "scipy", "pandas", "seaborn")
CODE = ("mtlbench", "strategies", "setups")  # folders with code


def now() -> str:
    """The time in UTC to the second, in ISO 8601."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def versions() -> dict[str, str]:
    """Versions of mtlbench, Python and the packages that results depend on."""
    packages = {package: version(package) for package in PACKAGES}
    return {"mtlbench": __version__, "python": platform.python_version(), **packages}


def describe(device: str) -> Environment:
    """The current machine, versions and commit; for the device `cuda`, the GPU is named with the processor."""
    installed, machine = versions(), _processor()
    if device == "cuda":
        import torch

        machine = f"{torch.cuda.get_device_name()}, {machine}"
        installed["cuda"] = str(torch.version.cuda)
    return Environment(
        machine=machine,
        cores=cores(),
        memory_gib=round(psutil.virtual_memory().total / 2**30, 1),
        system=f"{platform.system()} {platform.machine()}",
        versions=installed,
        commit=_commit(),
    )


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def _commit() -> str | None:
    """The commit of the checkout that the package runs from; None if it runs from no checkout.

    It ends with `-dirty` if tracked files differ from the commit, or if the folders of code have untracked files.
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
