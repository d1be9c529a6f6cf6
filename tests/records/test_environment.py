"""The machine, versions and commit that a bench records."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from mtlbench.records import environment


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", *who, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with one commit, which the package appears to run from."""
    for name in ("mtlbench/records/environment.py", "strategies/fixed.py", ".gitignore"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("ignored.py\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    monkeypatch.setattr(environment, "__file__", str(tmp_path / "mtlbench" / "records" / "environment.py"))
    return tmp_path


def commit() -> str:
    found = environment.describe("cpu").commit
    assert found is not None
    return found


def test_a_clean_checkout_has_its_commit(checkout: Path) -> None:
    assert commit() == git(checkout, "rev-parse", "HEAD")[:12]
    (checkout / "notes.txt").write_text("beside the code")
    (checkout / "strategies" / "ignored.py").write_text("git is told to ignore it")
    assert commit() == git(checkout, "rev-parse", "HEAD")[:12]


@pytest.mark.parametrize("name", ["strategies/fixed.py", "strategies/new.py", "mtlbench/new.py", "mtlbench/a/new.py"])
def test_edited_or_added_code_is_dirty(checkout: Path, name: str) -> None:
    path = checkout / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("new")
    assert commit() == git(checkout, "rev-parse", "HEAD")[:12] + "-dirty"


def test_without_a_checkout_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "__file__", str(tmp_path / "mtlbench" / "records" / "environment.py"))
    assert environment.describe("cpu").commit is None
