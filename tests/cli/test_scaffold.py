"""What `mtlbench new` and `new-setup` write passes its own test, the linter and the type checker as it is."""

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
    """A folder as a checkout has it, with a new strategy in it."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("strategies", "tests"):
        (folder / name).mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert scaffold.write("made-anew") == (Path("strategies/made_anew.py"), Path("tests/test_made_anew.py"))
    return folder


@pytest.fixture(scope="module")
def written_setup(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Likewise with a new setup."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("setups", "tests"):
        (folder / name).mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert scaffold.write_setup("made-anew") == (Path("setups/made_anew.py"), Path("tests/test_made_anew.py"))
    return folder


def test_the_test_of_a_new_setup_passes(written_setup: Path) -> None:
    assert "2 passed" in run("pytest", "-q", *WARNINGS, "tests/test_made_anew.py", folder=written_setup)


def test_a_setup_is_not_called_as_another_one(tmp_path: Path) -> None:
    for name, says in (("mnist", "already taken"), ("Mine", "lower-case words"), ("statistics", "hide the module")):
        with pytest.raises(UserError, match=says):
            scaffold.write_setup(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_its_test_passes(written: Path) -> None:
    assert "2 passed" in run("pytest", "-q", *WARNINGS, "tests/test_made_anew.py", folder=written)


def test_both_are_formatted_linted_and_typed(written: Path, written_setup: Path) -> None:
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


def test_it_is_a_strategy_with_a_tuning_space(written: Path) -> None:
    registry = Registry.load([written / "strategies" / "made_anew.py"])
    assert registry.problems == []
    assert list(registry.spaces("made-anew")) == ["alpha"]


def test_both_files_go_to_a_folder_that_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tests").mkdir()
    monkeypatch.chdir(tmp_path)
    out = Path("deep/down")
    assert scaffold.write("mine", out) == (out / "mine.py", out / "test_mine.py")


def test_both_files_go_here_where_there_are_no_such_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert scaffold.write("mine") == (Path("mine.py"), Path("test_mine.py"))
    assert (tmp_path / "test_mine.py").read_text().count("mine.py") == 1


@pytest.mark.parametrize("there", ["mine.py", "test_mine.py"])
def test_nothing_is_overwritten(tmp_path: Path, there: str) -> None:
    (tmp_path / there).write_text("kept")
    with pytest.raises(UserError, match=f"{there} is already there"):
        scaffold.write("mine", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [there]
    assert (tmp_path / there).read_text() == "kept"


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file"):
        scaffold.write("mine", tmp_path / "file" / "below")
