"""Explaining strategies from their source gives the same as running them."""

from __future__ import annotations

import inspect

import pytest

from mtlbench.plugins.explain import Explanation, explain
from mtlbench.plugins.registry import Registry


def test_the_explanation_of_every_strategy_is_that_of_its_class(registry: Registry) -> None:
    for name in registry.strategies:
        cls = registry.get(name)
        explanation = explain(registry.source(name).read_text(encoding="utf-8"), name)
        assert explanation.description == inspect.getdoc(cls)
        assert explanation.about == explanation.description.splitlines()[0]
        assert explanation.heads == cls.heads
        assert [key for key, _ in explanation.hyper] == list(registry.hyper_parameters(name))


@pytest.mark.parametrize("source", ["", "x = 1", "class A: ...", "def broken(", "\x00", "@register('b')\nclass A: ..."])
def test_a_source_without_the_strategy_explains_nothing(source: str) -> None:
    assert explain(source, "a") == Explanation()
