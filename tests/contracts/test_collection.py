"""Registering strategies and setups, within a load and outside of one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from torch import Tensor

from mtlbench import Balancer, Step, Strategy, register, register_setup
from mtlbench.contracts.collection import Collection, Declared, collecting
from mtlbench.plugins.registry import Registry
from mtlbench.setups import MNIST


class Sum(Strategy):
    """The sum of the losses."""

    def forward(self, step: Step) -> Tensor:
        return step.losses.sum(-1)


@pytest.fixture(autouse=True)
def collection() -> Iterator[Collection]:
    with collecting(Collection()) as collection:
        yield collection


def entry(value: object, module: str) -> Declared[object]:
    return Declared("setup", "own", value, MNIST_FILE, module)


MNIST_FILE = Registry.load().setups["mnist"].file


def test_a_script_registers_without_a_load(collection: Collection) -> None:
    assert Balancer(register("own-sum")(Sum), tasks=2).strategy.name == "own-sum"
    setup = register_setup(replace(MNIST, name="own"))
    assert [(entry.name, entry.value) for entry in collection.values()] == [("own-sum", Sum), ("own", setup)]
    assert {entry.file.name for entry in collection.values()} == {"test_collection.py"}
    with pytest.raises(ValueError, match=r"'own-sum'.*test_collection\.py"):
        register("own-sum")(type("Other", (Sum,), {}))
    with pytest.raises(ValueError, match=r"'own'.*test_collection\.py"):
        register_setup(replace(MNIST, name="own"))


def test_a_load_leaves_what_a_script_registered_alone(collection: Collection) -> None:
    register("own-sum")(Sum)
    registry = Registry.load()
    assert "own-sum" not in registry.strategies
    assert list(collection.of("strategy")) == ["own-sum"]


@pytest.mark.parametrize("name", ["Sum", "own_sum", "", "own-", "tuned"])
def test_malformed_and_reserved_names_are_refused(collection: Collection, name: str) -> None:
    with pytest.raises(ValueError, match=repr(name)):
        register(name)(Sum)
    assert not collection


def test_a_cell_of_a_notebook_may_be_run_again() -> None:
    collection = Collection()
    collection.add(entry("first", "__main__"))
    collection.add(entry("second", "__main__"))
    assert collection.of("setup")["own"].value == "second"
    with pytest.raises(ValueError, match="'own'"):
        collection.add(entry("third", "a_module"))
