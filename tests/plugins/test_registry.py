"""Strategies are found in files and packages, each plug-in whole or not at all."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from mtlbench.errors import UserError
from mtlbench.plugins.registry import Registry
from mtlbench.setups import MNIST

PLUGIN = """
from mtlbench import Strategy, register

@register("{name}")
class Mine(Strategy):
    def forward(self, step):
        return step.losses.sum(-1)
"""


def plugin(path: Path, name: str, extra: str = "") -> Path:
    path.write_text(PLUGIN.format(name=name) + extra)
    return path


def test_a_plugin_file_is_found(tmp_path: Path) -> None:
    path = plugin(tmp_path / "mine.py", "mine")
    registry = Registry.load([path])
    assert registry.source("mine") == path
    before = registry.digest("mine")
    plugin(path, "mine", "# edited\n")
    assert registry.digest("mine") != before


def test_shipped_strategies_are_distinguished_from_others(tmp_path: Path) -> None:
    registry = Registry.load([plugin(tmp_path / "mine.py", "mine")])
    assert registry.shipped("gradnorm")
    assert not any(map(registry.shipped, ("mine", "torchjd:UPGrad", "absent")))


def test_a_missing_plugin_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent\.py"):
        Registry.load([tmp_path / "absent.py"])


def test_an_entry_point_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin(tmp_path / "from_a_package.py", "from-a-package")
    monkeypatch.syspath_prepend(str(tmp_path))
    entry = EntryPoint("x", "from_a_package", "mtlbench.strategies")

    def found(group: str) -> list[EntryPoint]:
        return [entry] if group == "mtlbench.strategies" else []

    monkeypatch.setattr("mtlbench.plugins.discovery.entry_points", found)
    for _ in range(3):  # its module is imported once
        registry = Registry.load()
        assert "from-a-package" in registry.strategies
        assert registry.problems == []


def test_an_entry_point_to_a_package_is_found_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "of_many"
    package.mkdir()
    plugin(package / "one.py", "one-of-many")
    plugin(package / "two.py", "two-of-many")
    (package / "__init__.py").write_text("from of_many import one, two\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    def found(group: str) -> list[EntryPoint]:
        return [EntryPoint("x", "of_many", group), EntryPoint("y", "of_many.two:Mine", group)]

    monkeypatch.setattr("mtlbench.plugins.discovery.entry_points", found)
    for _ in range(2):
        registry = Registry.load()
        assert {"one-of-many", "two-of-many"} < set(registry.strategies)
        assert registry.problems == []
    assert Registry.load([plugin(tmp_path / "clash.py", "two-of-many")]).problems


def test_the_later_of_two_strategies_with_one_name_is_left_out(tmp_path: Path) -> None:
    registry = Registry.load([plugin(tmp_path / "clash.py", "gradnorm")])
    (problem,) = registry.problems
    assert "clash.py" in problem
    assert "gradnorm.py" in problem
    assert registry.source("gradnorm").name == "gradnorm.py"


@pytest.mark.parametrize("fault", ["raise RuntimeError('no')", "import not_there", "def (", "raise SystemExit(3)"])
def test_only_the_plugin_that_fails_to_import_is_left_out(tmp_path: Path, fault: str) -> None:
    bad = plugin(tmp_path / "bad.py", "half", fault)
    registry = Registry.load([bad, plugin(tmp_path / "good.py", "good")])
    assert "good" in registry.strategies
    assert "half" not in registry.strategies
    assert str(bad) in registry.problems[0]
    with pytest.raises(UserError, match=r"bad\.py"):
        registry.get("half")


TWO = """
from __future__ import annotations
from typing import TYPE_CHECKING
from mtlbench import Strategy, register
if TYPE_CHECKING:
    from torch import Tensor

@register("first")
class First(Strategy):
    def __init__(self, shape: tuple[int, int], *, {hyper}) -> None:
        super().__init__(shape)
        {body}

{end}
"""


def two(path: Path, *, hyper: str = "a: float = 1.0", body: str = "pass", end: str = "") -> Path:
    path.write_text(TWO.format(hyper=hyper, body=body, end=end))
    return path


@pytest.mark.parametrize(
    ("hyper", "end", "says"),
    [
        ("a: float = 1.0", "raise RuntimeError('after the first')", "after the first"),
        ("a: float = 1.0", "register('Not A Name')(First)", "Not A Name"),
        ("a: Tensor | None = None", "", "Tensor"),
    ],
    ids=["raises after a strategy", "malformed name", "hints that cannot be read"],
)
def test_a_plugin_is_loaded_as_a_whole_or_not_at_all(tmp_path: Path, hyper: str, end: str, says: str) -> None:
    path = two(tmp_path / "two.py", hyper=hyper, end=end)
    registry = Registry.load([path])
    assert "first" not in registry.strategies
    assert "gradnorm" in registry.strategies
    (problem,) = registry.problems
    assert str(path) in problem
    assert says in problem


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("raise RuntimeError('one line\\nmore')", "first: one line"),
        ("raise KeyError", "first: KeyError"),
        ("1 / 0", "first: division by zero"),
    ],
)
def test_any_error_of_a_constructor_is_one_line(tmp_path: Path, body: str, says: str) -> None:
    registry = Registry.load([two(tmp_path / "two.py", body=body)])
    with pytest.raises(UserError) as raised:
        registry.parse("first", MNIST)
    assert str(raised.value) == says


def test_a_default_bench_has_no_strategy_of_torchjd(registry: Registry) -> None:
    assert not any("torchjd" in name for name in registry.strategies)


def test_the_error_without_torchjd_names_what_to_install(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "mtlbench.plugins.torchjd", raising=False)
    monkeypatch.setitem(sys.modules, "torchjd", None)
    with pytest.raises(UserError, match=r"pip install 'mtlbench\[torchjd\]'"):
        registry.parse("torchjd:UPGrad", MNIST)


def test_the_version_of_torchjd_is_part_of_a_digest(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    before = registry.digest("torchjd:UPGrad"), registry.digest("upgrad")
    assert registry.source("torchjd:UPGrad").name == "torchjd.py"

    def version(_: str) -> str:
        return "0.0"

    monkeypatch.setattr("mtlbench.plugins.registry.version", version)
    assert registry.digest("torchjd:UPGrad") != before[0]
    assert registry.digest("upgrad") == before[1]
