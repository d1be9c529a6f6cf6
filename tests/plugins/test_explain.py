"""Strategies explained by their stored source alone, as the registry explains them by running it."""

from __future__ import annotations

import inspect

import pytest

from mtlbench.plugins.explain import Explanation, explain
from mtlbench.plugins.registry import Registry


def test_every_strategy_is_explained_as_its_class_is(registry: Registry) -> None:
    for name, cls in registry.strategies.items():
        found = explain(registry.source(name).read_text(encoding="utf-8"), name)
        assert found.description == inspect.getdoc(cls)
        assert found.about == found.description.splitlines()[0]
        assert found.heads == cls.heads
        assert [key for key, _ in found.hyper] == [key for key in registry.parameters(name) if key != "heads"]


@pytest.mark.parametrize("source", ["", "x = 1", "class A: ...", "def broken(", "\x00", "@register('b')\nclass A: ..."])
def test_a_source_without_the_strategy_explains_nothing(source: str) -> None:
    assert explain(source, "a") == Explanation()
