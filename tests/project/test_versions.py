"""Versions of other packages: which warnings fail a test, which versions are pinned, and the declared lower bounds."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import warnings
from pathlib import Path

import pytest

from tests.project.lower_bounds import declared, lower_bounds

ROOT = Path(__file__).parents[2]


def warn_in(module: str) -> None:
    exec("import warnings; warnings.warn('old', DeprecationWarning)", {"__name__": module})


@pytest.mark.parametrize(
    "module", ["mtlbench", "mtlbench.stats", "mtlbench_plugin_gradnorm_0123abcd", "tests.toy", "__main__", "shown"]
)
def test_a_warning_attributed_to_our_code_is_an_error(module: str) -> None:
    with pytest.raises(DeprecationWarning):
        warn_in(module)


@pytest.mark.parametrize("module", ["torch.nn.modules.linear", "pandas", "numpy.tests.helpers", "testsuite", "sys"])
def test_a_warning_attributed_to_another_package_is_not_an_error(module: str) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warn_in(module)
    assert [str(warning.message) for warning in caught] == ["old"]


def test_every_requirement_has_one_lower_bound() -> None:
    bounds = lower_bounds(declared())
    assert {"torch", "torchvision", "pytest", "mkdocs", "dask", "torchjd", "hatchling"} <= bounds.keys()
    assert not {"mtlbench", "ruff", "pyright", "pandas-stubs", "scipy-stubs"} & bounds.keys()


def test_lower_bounds_are_read_from_every_form_of_requirement() -> None:
    requirements = ["a>=1.2", "b-c[d,e]>=3", "f>=2.5,<3", "g[h]==1.0.1", "mtlbench[docs]", "a>=1.2"]
    assert lower_bounds(requirements) == {"a": "1.2", "b-c": "3", "f": "2.5"}


@pytest.mark.parametrize("requirements", [["a"], ["a<3"], ["a>1"], ["a>=1", "a>=2"]])
def test_requirements_without_one_lower_bound_are_refused(requirements: list[str]) -> None:
    with pytest.raises(ValueError, match="lower bound"):
        lower_bounds(requirements)


def test_the_script_prints_constraints() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.project.lower_bounds"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.splitlines() == [f"{name}=={bound}" for name, bound in lower_bounds(declared()).items()]


def test_linter_type_checker_and_stubs_are_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    checkers = [name for name in project["optional-dependencies"]["dev"] if re.match("ruff|pyright|.*-stubs", name)]
    assert len(checkers) >= 4
    assert all(re.fullmatch(r"[\w-]+(\[nodejs\])?==[\d.]+", requirement) for requirement in checkers)
