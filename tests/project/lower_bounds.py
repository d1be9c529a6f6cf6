"""Prints constraints for pip that pin each declared requirement to its lower bound; `make test-oldest` installs them.

python -m tests.project.lower_bounds
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from pathlib import Path

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
PROJECT = "mtlbench"
RANGE = re.compile(r"(?P<name>[\w.-]+)(\[[\w,-]+\])?>=(?P<lower>[\d.]+)(,<[\d.]+)?")
PINNED = re.compile(r"[\w.-]+(\[[\w,-]+\])?==[\d.]+")


def lower_bounds(requirements: Iterable[str]) -> dict[str, str]:
    """The lower bound of each required package; pinned packages and the project's own extras have none."""
    bounds: dict[str, str] = {}
    for requirement in requirements:
        if requirement.startswith(f"{PROJECT}[") or PINNED.fullmatch(requirement):
            continue
        match = RANGE.fullmatch(requirement)
        if match is None:
            raise ValueError(f"{requirement!r} has no lower bound of the form name>=version")
        if bounds.setdefault(match["name"], match["lower"]) != match["lower"]:
            raise ValueError(f"{match['name']} has two lower bounds: {bounds[match['name']]} and {match['lower']}")
    return bounds


def declared() -> list[str]:
    """All requirements in pyproject.toml: to build, to run, and of every extra."""
    content = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))
    project = content["project"]
    extras = [requirement for extra in project["optional-dependencies"].values() for requirement in extra]
    return [*content["build-system"]["requires"], *project["dependencies"], *extras]


if __name__ == "__main__":
    for name, version in lower_bounds(declared()).items():
        print(f"{name}=={version}")
