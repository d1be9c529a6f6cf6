"""Files written by `mtlbench new` and `new-setup` pass their tests, the linter and the type checker unchanged."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mtlbench.cli import scaffold
from mtlbench.contracts.collection import Kind
from mtlbench.errors import UserError
from mtlbench.plugins.registry import Registry

ROOT = Path(__file__).parents[2]
WARNINGS = ("-o", "filterwarnings=error:::(mtlbench|test_made_anew$|test_made_setup$)")
KINDS: dict[Kind, str] = {"strategy": "made_anew", "setup": "made_setup"}
FOLDERS: dict[Kind, str] = {"strategy": "strategies", "setup": "setups"}


def run(*command: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=folder, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like a checkout, with a new strategy and a new setup in it."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("strategies", "setups", "tests"):
        (folder / name).mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for kind, name in KINDS.items():
            files = Path(f"{FOLDERS[kind]}/{name}.py"), Path(f"tests/test_{name}.py")
            assert scaffold.write(kind, name.replace("_", "-")) == files
    return folder


def test_invalid_names_of_setups_are_refused(tmp_path: Path) -> None:
    for name, says in (("mnist", "taken"), ("Mine", "'Mine'"), ("statistics", "module statistics")):
        with pytest.raises(UserError, match=says):
            scaffold.write("setup", name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_tests_of_a_new_strategy_and_of_a_new_setup_pass(written: Path) -> None:
    assert "4 passed" in run("pytest", "-q", *WARNINGS, "tests", folder=written)


def test_new_files_are_formatted_linted_and_typed(written: Path) -> None:
    (written / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    (written / "mtlbench").symlink_to(ROOT / "mtlbench")  # so that the linter takes it for the project's own
    files = [
        str(path.relative_to(written))
        for folder in ("strategies", "setups", "tests")
        for path in sorted((written / folder).glob("*.py"))
    ]
    assert len(files) == 4
    run("ruff", "format", "--check", *files, folder=written)
    run("ruff", "check", *files, folder=written)
    interpreter = ("--pythonpath", sys.executable)
    assert "0 errors" in run("pyright", *interpreter, *files, folder=written)


def test_a_new_strategy_has_a_tuning_space(written: Path) -> None:
    registry = Registry.load([written / "strategies" / "made_anew.py"])
    assert registry.problems == []
    assert list(registry.spaces("made-anew")) == ["alpha"]


def test_both_files_go_to_the_given_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tests").mkdir()
    monkeypatch.chdir(tmp_path)
    out = Path("deep/down")
    assert scaffold.write("strategy", "mine", out) == (out / "mine.py", out / "test_mine.py")


def test_both_files_go_to_the_current_folder_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert scaffold.write("strategy", "mine") == (Path("mine.py"), Path("test_mine.py"))
    assert (tmp_path / "test_mine.py").read_text().count("mine.py") == 1


@pytest.mark.parametrize("there", ["mine.py", "test_mine.py"])
def test_nothing_is_overwritten(tmp_path: Path, there: str) -> None:
    (tmp_path / there).write_text("kept")
    with pytest.raises(UserError, match=f"{there} already exists"):
        scaffold.write("strategy", "mine", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [there]
    assert (tmp_path / there).read_text() == "kept"


def test_a_folder_that_cannot_be_created_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file"):
        scaffold.write("strategy", "mine", tmp_path / "file" / "below")
