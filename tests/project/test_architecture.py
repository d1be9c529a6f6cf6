"""Imports of the package run one way, each sub-package says what it holds, and tests mirror the package."""

from __future__ import annotations

import ast
import graphlib
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE, TESTS = ROOT / "mtlbench", ROOT / "tests"
BASE = {"errors", "files"}
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "files": {"errors"},
    "templating": set(),
    "solvers": set(),
    "data": {"errors"},
    "contracts": {"data", "errors"},
    "records": {"contracts", *BASE},
    "setups": {"contracts", "data", "errors"},
    "plugins": {"setups", "records", "contracts", *BASE},
    "engine": {"contracts", "records", "solvers", "errors"},
    "bench": {"engine", "plugins", "setups", "records", "contracts", "data", *BASE},
    "check": {"engine", "plugins", "setups", "contracts", "records", "solvers", "errors"},
    "balancer": {"plugins", "contracts", "solvers", "errors"},
    "stats": {"records", "contracts", "errors"},
    "models": {"bench", "engine", "records", "contracts", "data", *BASE},
    "report": {"stats", "records", "plugins", "setups", "contracts", "templating", *BASE},
    "cli": {"report", "models", "stats", "balancer", "check", "bench", "engine", "plugins", "setups", "records",
            "contracts", "data", "solvers", "templating", *BASE},
}  # fmt: skip
"""The sub-packages and root modules, and what each may import besides itself: the direction, said here once.

The package's `__init__` is not among them: it loads the public names on first use, and modules of the package take
nothing from it but the version.
"""
OTHER_FOLDERS_OF_TESTS = {"helpers", "strategies", "project", "benchmarks"}


def module_of(file: Path, root: Path) -> str:
    """The dotted name of a Python file below a folder."""
    parts = file.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(file: Path, root: Path) -> Iterator[tuple[int, str]]:
    """Line and full dotted name of each import of a file: of the module, and inside functions and `TYPE_CHECKING`."""
    package = module_of(file, root).split(".")
    package = package if file.stem == "__init__" else package[:-1]
    for node in import_statements(file.read_text(encoding="utf-8")):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        else:
            above = package[: len(package) + 1 - node.level] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


@cache
def import_statements(source: str) -> list[ast.Import | ast.ImportFrom]:
    return [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Import | ast.ImportFrom)]


def modules_imported(package: Path) -> dict[str, dict[str, tuple[Path, int]]]:
    """The modules of the package that each of its modules imports, with file and line of an import."""
    root = package.parent
    files = {module_of(file, root): file for file in sorted(package.rglob("*.py"))}
    graph: dict[str, dict[str, tuple[Path, int]]] = {}
    for module, file in files.items():
        if module == package.name:
            continue
        targets = graph.setdefault(module, {})
        for line, name in imports_of(file, root):
            if name.partition(".")[0] == package.name and name != f"{package.name}.__version__":
                parent = name.rpartition(".")[0]
                targets.setdefault(name if name in files else parent, (file, line))
    return graph


def room_of(module: str) -> str:
    """The sub-package or root module that a module belongs to; empty for the package itself."""
    return module.split(".")[1] if "." in module else ""


def upward_imports(package: Path) -> list[str]:
    """Each import that is not in `MAY_IMPORT`, with its place."""
    return [
        f"{file.relative_to(package.parent)}:{line}: {room_of(module)} may not import {target}"
        for module, targets in modules_imported(package).items()
        for target, (file, line) in targets.items()
        if room_of(target) not in {room_of(module), *MAY_IMPORT.get(room_of(module), ())}
    ]


def circle(package: Path) -> list[str]:
    """Modules that import each other in a circle, or nothing."""
    try:
        graphlib.TopologicalSorter(modules_imported(package)).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return []


def test_imports_run_one_way() -> None:
    assert upward_imports(PACKAGE) == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert circle(PACKAGE) == []


def test_every_module_belongs_to_a_sub_package_of_the_direction() -> None:
    rooms = {room_of(module_of(file, ROOT)) for file in PACKAGE.rglob("*.py")} - {""}
    assert rooms <= set(MAY_IMPORT)


@pytest.mark.parametrize(
    "planted",
    [
        "from mtlbench.cli import app",
        "import mtlbench.cli.app",
        "from ..cli import app",
        "def late():\n    from mtlbench.cli.app import main",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from mtlbench.cli import app",
        "from mtlbench import Balancer",
    ],
)
def test_an_upward_import_is_found(tmp_path: Path, planted: str) -> None:
    copy = tmp_path / "mtlbench"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    before = upward_imports(copy)
    (copy / "engine" / "planted.py").write_text(planted)
    (line,) = set(upward_imports(copy)) - set(before)
    assert "engine/planted.py" in line
    assert "engine may not import mtlbench" in line


def test_a_circle_is_found(tmp_path: Path) -> None:
    copy = tmp_path / "mtlbench"
    (copy / "engine").mkdir(parents=True)
    (copy / "__init__.py").touch()
    (copy / "engine" / "one.py").write_text("from mtlbench.engine import other")
    (copy / "engine" / "other.py").write_text("def late():\n    from mtlbench.engine.one import some")
    assert set(circle(copy)) == {"mtlbench.engine.one", "mtlbench.engine.other"}


@pytest.mark.parametrize("file", sorted(PACKAGE.rglob("__init__.py")), ids=lambda file: file.parent.name)
def test_a_sub_package_says_in_one_sentence_what_it_holds(file: Path) -> None:
    documentation = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    first = documentation.partition("\n")[0]
    assert first.endswith(".")
    assert ". " not in first


def test_folders_of_tests_are_those_of_the_package() -> None:
    rooms = {file.parent.name for file in PACKAGE.glob("*/__init__.py")}
    folders = {file.parent.name for file in TESTS.glob("*/__init__.py")}
    assert folders == rooms | OTHER_FOLDERS_OF_TESTS


def test_no_test_module_imports_another() -> None:
    imports = [
        f"{file.relative_to(ROOT)}:{line}: {name}"
        for file in sorted(TESTS.rglob("*.py"))
        for line, name in imports_of(file, ROOT)
        if name.startswith("tests.") and ".test_" in name
    ]
    assert imports == []
