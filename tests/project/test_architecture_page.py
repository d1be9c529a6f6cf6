"""`docs/architecture.md` names every module once, its paths exist, and its picture and purposes come from the code."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.project.rooms import PICTURE, drawn

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "mtlbench"
TEXT = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
MOST_FILES = {"The life of a run": 25, "The life of a number": 11}


def section(heading: str) -> str:
    return TEXT.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def rows() -> dict[str, tuple[str, list[str]]]:
    """The purpose and the modules of each room, by its folder in the package."""
    rooms: dict[str, tuple[str, list[str]]] = {}
    for name, purpose, modules in re.findall(r"^\| \*\*(.*?)\*\*<br>(.*?) \| (.*) \|$", section("Rooms"), re.MULTILINE):
        folder = name.strip("`/").replace("root", ".")
        rooms[folder] = (purpose, [re.findall(r"`(.*?)`", module)[0] for module in modules.split("<br>")])
    return rooms


def test_each_path_exists() -> None:
    paths = re.findall(r"`([\w./]+/[\w./]*|Makefile)`", TEXT)
    assert len(paths) > sum(MOST_FILES.values())
    folders = [path for path in paths if not any((base / path).exists() for base in (ROOT, PACKAGE))]
    assert [path for path in folders if not path.startswith("results/")] == []


def files_of(walk: str) -> list[str]:
    steps = [line for line in section(walk).splitlines() if re.match(r"\d+\. ", line)]
    return [re.findall(r"^\d+\. `(.*?)`", step)[0] for step in steps]


def imported_by(file: str) -> set[str]:
    """The modules that a file imports, wherever in it, as paths."""
    names: set[str] = set()
    for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            names |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {f"{name.replace('.', '/')}.py" for name in names}


@pytest.mark.parametrize("walk", MOST_FILES)
def test_a_walk_is_short_and_its_steps_are_files(walk: str) -> None:
    files = files_of(walk)
    assert 2 < len(files) <= MOST_FILES[walk]
    assert len(set(files)) == len(files)
    assert [file for file in files if not (ROOT / file).is_file()] == []


def test_each_file_in_the_life_of_a_run_is_imported_by_an_earlier_one() -> None:
    makefile, program, *files = files_of("The life of a run")
    assert (makefile, program) == ("Makefile", "mtlbench/cli/app.py")
    reached = imported_by(program)
    for file in files:
        assert file in reached
        reached |= imported_by(file)


def test_each_module_is_named_once() -> None:
    named = sorted(
        (Path(room) / f"{module}.py").as_posix() for room, (_, modules) in rows().items() for module in modules
    )
    modules = [file for file in PACKAGE.rglob("*.py") if file.name != "__init__.py" or file.parent == PACKAGE]
    assert named == sorted(file.relative_to(PACKAGE).as_posix() for file in modules)


def test_purposes_are_the_docstrings_of_the_rooms() -> None:
    folders = {file.parent for file in PACKAGE.rglob("__init__.py")} - {PACKAGE}
    documentation = {
        folder.relative_to(PACKAGE).as_posix(): ast.get_docstring(
            ast.parse((folder / "__init__.py").read_text("utf-8"))
        )
        for folder in folders
    }
    purposes = {room: purpose for room, (purpose, _) in rows().items() if room != "."}
    assert purposes == {room: (text or "").partition("\n")[0] for room, text in documentation.items()}


def test_functions_that_answer_the_questions_are_in_the_files_beside_them() -> None:
    answers = re.findall(r"`(\w+)` in `(mtlbench/[\w/]+\.py)`", section("Five questions"))
    assert len(answers) >= 3
    for function, file in answers:
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        assert function in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}, (function, file)


def test_the_picture_is_drawn_from_the_declared_imports() -> None:
    assert PICTURE.read_text(encoding="utf-8") == drawn(), "run `python -m tests.project.rooms`"
