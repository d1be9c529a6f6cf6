"""Training on a device that cannot mix its tensors with the host's: the same numbers, and no transfer in a step."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from mtlbench.contracts.setup import Setup
from mtlbench.engine.products import Products
from mtlbench.engine.trainer import Trainer
from mtlbench.plugins.registry import Registry
from tests.helpers.definitions import PLAIN
from tests.helpers.toy import convolved_setup, toy_setup

stand_in = pytest.importorskip(
    "tests.helpers.stand_in", reason="this torch has no backends in Python", exc_type=ImportError
)


def trained(
    registry: Registry, label: str, device: str, setup: Setup, products: Products | None = None
) -> tuple[Trainer, list[Tensor]]:
    """A trainer after two steps and the end of an epoch, and what its evaluation gives."""
    build = partial(registry.build, registry.parse(label, setup))
    trainer = Trainer(
        setup,
        build,
        (3, 0, 11),
        setup.samples()[0],
        batch_size=6,
        lr=1e-2,
        device=torch.device(device),
        products=products,
    )
    trainer.start_epoch(0)
    stand_in.transfers.clear()
    trainer.train(2)
    assert not stand_in.transfers
    trainer.end_epoch()
    return trainer, list(trainer.evaluate(setup.samples()[1]))


def equals_that_on_the_host(registry: Registry, label: str, setup: Setup, products: Products | None = None) -> None:
    here, evaluated = trained(registry, label, "cpu", setup, products)
    with stand_in.StandIn():
        there, evaluated_there = trained(registry, label, stand_in.NAME, setup, products)
        state = {name: tensor.cpu() for name, tensor in there.state.items()}
        traces = {name: tensor.cpu() for name, tensor in there.traces.items()}
    assert state.keys() == here.state.keys()
    for name, tensor in here.state.items():
        assert there.state[name].device.type == stand_in.NAME
        assert torch.equal(state[name], tensor), name
    for name, tensor in here.traces.items():
        assert torch.equal(traces[name], tensor), name
    for found, expected in zip(evaluated_there, evaluated, strict=True):
        assert found.device.type == "cpu"
        assert torch.equal(found, expected)


@pytest.mark.parametrize("label", [label for label in PLAIN if ":" not in label or label.startswith("single")])
def test_a_strategy_trains_as_on_the_host(registry: Registry, label: str) -> None:
    equals_that_on_the_host(registry, label, toy_setup())


@pytest.mark.parametrize("label", ["fixed", "mgda", "moco", "graddrop"])
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_convolutions_and_bf16_train_as_on_the_host(registry: Registry, label: str, precision: str) -> None:
    equals_that_on_the_host(registry, label, convolved_setup(), Products("bmm", precision))  # pyright: ignore[reportArgumentType]


def test_tensors_of_both_devices_do_not_mix_and_copies_are_counted() -> None:
    with stand_in.StandIn():
        ours, theirs = torch.ones(2, device=stand_in.NAME), torch.ones(2)
        assert ours.device.type == stand_in.NAME
        for mix in (
            lambda: ours + theirs,
            lambda: torch.mul(ours, theirs, out=ours),
            lambda: torch.stack([ours, theirs]),
        ):
            with pytest.raises(RuntimeError, match="same device"):
                mix()
        stand_in.transfers.clear()
        assert torch.equal((ours + theirs.to(stand_in.NAME)).cpu(), torch.full((2,), 2.0))
        ours.copy_(theirs)
        theirs.copy_(ours * 3)
        assert float(ours.sum()) == 2
        assert theirs.tolist() == [3, 3]
        assert stand_in.transfers == {"to device": 2, "to host": 2, "read": 1}
        ours.view(1, 2)[0, 1:].zero_()
        assert ours.cpu().tolist() == [1, 0]
