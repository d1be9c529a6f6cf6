"""Files written by `mtlbench new` and `new-setup` pass their tests, the linter and the type checker unchanged."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mtlbench.cli import scaffold
from mtlbench.errors import UserError
from mtlbench.plugins.registry import Registry

ROOT = Path(__file__).parents[2]
WARNINGS = ("-o", "filterwarnings=error:::(mtlbench|test_made_anew$)")


def run(*command: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=folder, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like a checkout, with a new strategy in it."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("strategies", "tests"):
        (folder / name).mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert scaffold.write("strategy", "made-anew") == (
            Path("strategies/made_anew.py"),
            Path("tests/test_made_anew.py"),
        )
    return folder


@pytest.fixture(scope="module")
def written_setup(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a new setup."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("setups", "tests"):
        (folder / name).mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert scaffold.write("setup", "made-anew") == (Path("setups/made_anew.py"), Path("tests/test_made_anew.py"))
    return folder


def test_the_test_of_a_new_setup_passes(written_setup: Path) -> None:
    assert "2 passed" in run("pytest", "-q", *WARNINGS, "tests/test_made_anew.py", folder=written_setup)


def test_invalid_names_of_setups_are_refused(tmp_path: Path) -> None:
    for name, says in (("mnist", "taken"), ("Mine", "'Mine'"), ("statistics", "module statistics")):
        with pytest.raises(UserError, match=says):
            scaffold.write("setup", name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_test_of_a_new_strategy_passes(written: Path) -> None:
    assert "2 passed" in run("pytest", "-q", *WARNINGS, "tests/test_made_anew.py", folder=written)


def test_new_files_are_formatted_linted_and_typed(written: Path, written_setup: Path) -> None:
    (written / "setups").mkdir()
    own = written / "setups" / "made_setup.py", written / "tests" / "test_made_setup.py"
    for path, made in zip(own, ("setups/made_anew.py", "tests/test_made_anew.py"), strict=True):
        path.write_text((written_setup / made).read_text())
    (written / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    (written / "mtlbench").symlink_to(ROOT / "mtlbench")  # so that the linter takes it for the project's own
    files = ["strategies/made_anew.py", "tests/test_made_anew.py", *(str(path.relative_to(written)) for path in own)]
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
