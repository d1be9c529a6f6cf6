"""The wheel, the source distribution, public types and the citation file."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path
from typing import Any

import pytest
import yaml

import mtlbench

ROOT = Path(__file__).parents[2]
PLUGINS = ("strategies", "setups")
"""Folders beside the package whose files are packed into it."""
# https://github.com/citation-file-format/citation-file-format, schema 1.2.0
CITATION_KEYS = {
    "abstract", "authors", "cff-version", "commit", "contact", "date-released", "doi", "identifiers", "keywords",
    "license", "license-url", "message", "preferred-citation", "references", "repository", "repository-artifact",
    "repository-code", "title", "type", "url", "version",
}  # fmt: skip


def build(source: Path, folder: Path, *targets: str) -> None:
    chosen = [word for target in targets for word in ("--target", target)]
    command = [sys.executable, "-m", "hatchling", "build", "--directory", str(folder), *chosen]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    build(ROOT, folder, "wheel", "sdist")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """The files of the wheel in a folder, by name."""
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as files:
        return {name: files.read(name) for name in files.namelist()}


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_the_wheel_is_the_package_with_its_plugins_and_templates(built: Path) -> None:
    names = {name for name in contents(built) if ".dist-info/" not in name}
    package = {path.relative_to(ROOT).as_posix() for path in (ROOT / "mtlbench").rglob("*") if path.is_file()}
    package = {name for name in package if "__pycache__" not in name}
    assert package <= names
    assert {"mtlbench/py.typed", "mtlbench/cli/templates/strategy.py.j2"} <= package
    plugins = {path.name for folder in PLUGINS for path in (ROOT / folder).glob("*.py")}
    assert "gradnorm.py" in plugins
    assert {name.rpartition("/")[2] for name in names - package} == plugins


def test_the_metadata_of_the_wheel_are_those_of_the_project(built: Path) -> None:
    files = contents(built)
    (metadata,) = [text.decode() for name, text in files.items() if name.endswith(".dist-info/METADATA")]
    fields = Parser().parsestr(metadata)
    assert fields["Version"] == mtlbench.__version__
    assert fields["License-Expression"] == "MIT"
    assert fields.get_all("License-File") == ["LICENSE"]
    assert "Typing :: Typed" in (fields.get_all("Classifier") or [])
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in files)
    assert any(name.endswith("entry_points.txt") and b"mtlbench = mtlbench.cli:main" in files[name] for name in files)


def test_the_source_distribution_builds_the_same_wheel(built: Path, tmp_path: Path) -> None:
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as files:
        files.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    for needed in ("Makefile", "mkdocs.yml", "docs/engine.md", "tests/conftest.py", "results/reference/bench.json"):
        assert (source / needed).is_file(), needed
    build(source, tmp_path / "again", "wheel")
    assert contents(tmp_path / "again") == contents(built)


def test_every_public_name_is_used_in_a_strictly_typed_file() -> None:
    tree = ast.parse((ROOT / "tests" / "helpers" / "typed_use.py").read_text(encoding="utf-8"))
    used = {
        name.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "mtlbench"
        for name in node.names
    }
    assert used == set(mtlbench.__all__)
    assert all(getattr(mtlbench, name) is not None for name in mtlbench.__all__)


def test_the_citation_file_is_valid() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited.keys() <= CITATION_KEYS
    assert cited["cff-version"] == "1.2.0"
    assert cited["type"] == "software"
    assert cited["title"] == project()["name"]
    assert cited["version"] == mtlbench.__version__
    assert cited["license"] == project()["license"]
    assert cited["message"]
    assert cited["authors"] == project()["authors"]
    assert len(set(cited["keywords"])) == len(cited["keywords"])
    assert set(cited["keywords"]) == set(project()["keywords"])


def test_the_version_is_that_of_the_package() -> None:
    assert "version" in project()["dynamic"]
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+)?", mtlbench.__version__)
