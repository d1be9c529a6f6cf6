"""The contract that every registered strategy keeps, and what its test file has to declare."""

from __future__ import annotations

import math
import typing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlbench.check import Subject, failures
from mtlbench.check.strategy.cases import random_case
from mtlbench.check.strategy.properties import replicas_are_independent, state_round_trips, tasks_are_alike
from mtlbench.errors import ContractError
from mtlbench.plugins.registry import Registry
from mtlbench.setups import MNIST
from tests.helpers.definitions import DEFINITIONS, PLAIN, collect
from tests.helpers.toy import build

shapes, stacks = (st.tuples(st.integers(fewest, 4), st.integers(2, 5)) for fewest in (1, 2))
STRATEGIES = Registry.load().strategies
NAMES = tuple(STRATEGIES)
ALIKE = tuple(name for name, declared in STRATEGIES.items() if declared.value.symmetric)
REFUSED = [(name, key) for name, refused in DEFINITIONS.refused.items() for key in refused]


def subject(registry: Registry, name: str) -> Subject:
    return Subject(registry, registry.parse(name, MNIST))


@pytest.mark.parametrize("name", NAMES)
def test_each_strategy_keeps_the_contract(registry: Registry, name: str) -> None:
    assert failures(subject(registry, name)) == []


@pytest.mark.parametrize("name", NAMES)
@given(shape=stacks, seed=st.integers(0, 1000))
@settings(max_examples=20)
def test_replicas_are_independent(registry: Registry, name: str, shape: tuple[int, int], seed: int) -> None:
    replicas_are_independent(subject(registry, name), random_case(shape, seed))


@pytest.mark.parametrize("name", ALIKE)
@given(shape=shapes, seed=st.integers(0, 1000), data=st.data())
@settings(max_examples=20)
def test_permuting_tasks_permutes_weights(
    registry: Registry, name: str, shape: tuple[int, int], seed: int, data: st.DataObject
) -> None:
    order = data.draw(st.permutations(range(shape[1])))
    tasks_are_alike(subject(registry, name), random_case(shape, seed), order)


@pytest.mark.parametrize("name", sorted({*NAMES} - {*ALIKE}))
def test_a_strategy_with_a_main_task_distinguishes_it(registry: Registry, name: str) -> None:
    with pytest.raises(ContractError):
        tasks_are_alike(subject(registry, name), random_case((1, 3), 0, steps=3), (1, 2, 0))


@pytest.mark.parametrize("name", NAMES)
@given(shape=shapes, seed=st.integers(0, 1000))
@settings(max_examples=5)
def test_state_dict_is_the_whole_state(registry: Registry, name: str, shape: tuple[int, int], seed: int) -> None:
    state_round_trips(subject(registry, name), random_case(shape, seed, steps=6), after=3)


def test_every_strategy_has_its_test_file_with_the_method_in_plain_torch(registry: Registry) -> None:
    assert DEFINITIONS.missing == []
    assert set(DEFINITIONS.authors) == set(DEFINITIONS.refused) == set(NAMES)  # named by the first label of each PLAIN
    assert {label.partition(":")[0] for label in PLAIN} == {*NAMES, "single"}


def test_a_missing_test_file_or_definition_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path.parent)
    (tmp_path / "test_without_plain.py").touch()
    (tmp_path / "test_without_authors.py").write_text("PLAIN = {'without-authors': None}", encoding="utf-8")
    for name, definition in (("without_plain", "PLAIN"), ("anew", "PLAIN"), ("without_authors", "AUTHORS")):
        (line,) = collect([Path(f"{name}.py")], tmp_path, package=tmp_path.name).missing
        assert f"tests/strategies/test_{name}.py" in line
        assert definition in line


def test_every_hyper_parameter_has_values_that_are_refused(registry: Registry) -> None:
    """Except those that are one word of a list, which are checked where the command line is read."""
    parameters = {(name, key): found for name in NAMES for key, found in registry.parameters(name).items()}
    free = {key for key, found in parameters.items() if typing.get_origin(found.annotation) is not typing.Literal}
    assert free == set(REFUSED)


@pytest.mark.parametrize(("name", "key"), REFUSED)
def test_bad_hyper_parameters_are_refused_with_rule_and_value(registry: Registry, name: str, key: str) -> None:
    values = list(DEFINITIONS.refused[name][key])
    annotation = registry.parameters(name)[key].annotation
    if float in (annotation, *typing.get_args(annotation)):
        values += [math.nan, math.inf, -math.inf]
    assert values
    for value in values:
        with pytest.raises(ValueError, match=rf"^{key} must ") as refused:
            build(registry, name, (1, 2), hyper={key: value})
        message = str(refused.value)
        shown = {str(value), str(len(value))} if isinstance(value, list) else {str(value), str(float(value))}
        assert any(message.endswith(f" {text}") for text in shown), message
