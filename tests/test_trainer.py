"""A training step of the stack against single networks in plain torch, and what a step promises."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from mtlbench.registry import Registry
from mtlbench.setups import MNIST, Setup, Split
from mtlbench.strategy import Step, Strategy
from mtlbench.trainer import ContractError, Trainer
from tests.plain import PlainNetwork, train
from tests.plain_methods import PLAIN
from tests.toy import toy_setup

BATCH, LR = 6, 1e-2
SEEDS = (3, 0, 11)


def make_trainer(registry: Registry, label: str, seeds: tuple[int, ...] = SEEDS, setup: Setup | None = None) -> Trainer:
    setup = setup or toy_setup()
    spec = registry.parse(label, setup)
    return Trainer(
        setup,
        partial(registry.build, spec),
        seeds,
        setup.samples()[0],
        batch_size=BATCH,
        lr=LR,
        device=torch.device("cpu"),
        dtype=torch.float64,
    )


def run_steps(trainer: Trainer, steps: int) -> Tensor:
    for taken in range(steps):
        if taken % trainer.steps_per_epoch == 0:
            if taken:
                trainer.end_epoch()
            trainer.start_epoch(taken // trainer.steps_per_epoch)
        trainer.step()
    return trainer.network.parameters


def start_like(network: PlainNetwork, trainer: Trainer, replica: int) -> None:
    """Give a plain network the parameters of one replica of a stack."""
    with torch.no_grad():
        for mine, theirs in zip(network.trunk, trainer.network.trunk, strict=True):
            assert isinstance(mine, nn.Linear)
            mine.weight.copy_(theirs.weight[replica])
            mine.bias.copy_(theirs.bias[replica])
        weights = trainer.network.split_outputs(trainer.network.heads.weight[replica].mT)
        biases = trainer.network.split_outputs(trainer.network.heads.bias[replica])
        for head, weight, bias in zip(network.heads, weights, biases, strict=True):
            assert isinstance(head, nn.Linear)
            head.weight.copy_(weight.mT)
            head.bias.copy_(bias)


def replica_flat(trainer: Trainer, replica: int, setup: Setup) -> Tensor:
    plain = PlainNetwork(setup)
    start_like(plain, trainer, replica)
    return plain.flat()


def test_every_strategy_has_a_plain_version(registry: Registry) -> None:
    assert {label.partition(":")[0] for label in PLAIN} >= set(registry.strategies)


@pytest.mark.parametrize("label", PLAIN)
@pytest.mark.parametrize("steps", [1, 25])
def test_a_stack_equals_single_networks_in_plain_torch(registry: Registry, label: str, steps: int) -> None:
    """25 steps are two epochs and a half, so that what is done at their ends tells."""
    setup = toy_setup()
    trainer = make_trainer(registry, label)
    networks = [PlainNetwork(setup) for _ in SEEDS]
    for replica, network in enumerate(networks):
        start_like(network, trainer, replica)
    run_steps(trainer, steps)
    for replica, (seed, network) in enumerate(zip(SEEDS, networks, strict=True)):
        train(PLAIN[label](), network, setup, setup.samples()[0], seed=seed, steps=steps, batch=BATCH, lr=LR)
        found, expected = replica_flat(trainer, replica, setup), network.flat()
        assert (found - expected).norm() / expected.norm() < 1e-8


@given(
    seeds=st.lists(st.integers(0, 50), min_size=1, max_size=5, unique=True),
    label=st.sampled_from(["fixed", "uncertainty", "gradnorm"]),
)
def test_a_seed_does_not_depend_on_its_stack(registry: Registry, seeds: list[int], label: str) -> None:
    setup = toy_setup()
    together = make_trainer(registry, label, tuple(seeds))
    alone = make_trainer(registry, label, (seeds[-1],))
    run_steps(together, 12)
    run_steps(alone, 12)
    expected = replica_flat(alone, 0, setup)
    assert (replica_flat(together, len(seeds) - 1, setup) - expected).norm() < 1e-10 * expected.norm()


def test_effective_weights_are_the_derivative_by_the_losses(registry: Registry) -> None:
    trainer = make_trainer(registry, "fixed:weights=[1,0.25]")
    run_steps(trainer, 3)
    weights = trainer.traces["weights"][:3]
    assert torch.equal(weights, torch.tensor([1, 0.25], dtype=torch.float64).expand(3, len(SEEDS), 2))


def test_own_heads_learn_at_weight_one(registry: Registry) -> None:
    own = make_trainer(registry, "fixed:weights=[1,0],heads=own")
    before = own.network.heads.weight.clone()
    run_steps(own, 1)
    assert not torch.equal(own.network.heads.weight[:, -1], before[:, -1])
    weighted = make_trainer(registry, "fixed:weights=[1,0],heads=weighted")
    run_steps(weighted, 1)
    assert torch.equal(weighted.network.heads.weight[:, -1], before[:, -1])


def meta_step(build: Callable[[tuple[int, int]], Strategy]) -> Trainer:
    empty = Split(torch.zeros(130, 784, dtype=torch.uint8), torch.zeros(130, 2, dtype=torch.int64))
    trainer = Trainer(MNIST, build, (0, 1), empty, batch_size=64, lr=1e-3, device=torch.device("meta"))
    trainer.start_epoch(0)
    trainer.step()
    trainer.step()
    trainer.end_epoch()
    return trainer


def test_each_strategys_whole_step_runs_on_meta(registry: Registry) -> None:
    for cls in registry.strategies.values():
        assert meta_step(cls).network.parameters.is_meta


def test_a_step_that_asks_the_host_fails_on_meta() -> None:
    class AsksTheHost(Strategy):
        def forward(self, step: Step) -> Tensor:
            return step.losses.sum(-1) * step.losses.mean().item()

    with pytest.raises(RuntimeError, match="meta"):
        meta_step(AsksTheHost)


def test_a_wrong_objective_is_named() -> None:
    class Summed(Strategy):
        def forward(self, step: Step) -> Tensor:
            return step.losses.sum()

    with pytest.raises(ContractError, match=r"one objective per replica, shape \[2\], not \[\]"):
        meta_step(Summed)


def test_after_update_sees_the_same_batch_after_the_step() -> None:
    class Watcher(Strategy):
        seen: list[tuple[Tensor, Tensor]]

        def __init__(self, shape: tuple[int, int]) -> None:
            super().__init__(shape)
            self.seen = []

        def forward(self, step: Step) -> Tensor:
            self.before = step.losses.detach()
            return step.losses.sum(-1)

        def after_update(self, losses_after: Tensor) -> None:
            self.seen.append((self.before, losses_after.clone()))

    setup = toy_setup()
    trainer = Trainer(
        setup,
        Watcher,
        SEEDS,
        setup.samples()[0],
        batch_size=60,
        lr=1e-3,
        device=torch.device("cpu"),
        dtype=torch.float64,
    )
    for epoch in range(3):
        trainer.start_epoch(epoch)
        trainer.step()
    watcher = trainer.strategy
    assert isinstance(watcher, Watcher)
    # The batch is the whole split, so what one update leaves is what the next one starts from.
    for (_, after), (before, _) in pairwise(watcher.seen):
        torch.testing.assert_close(after, before)


def test_epoch_end_sees_the_mean_training_losses(registry: Registry) -> None:
    trainer = make_trainer(registry, "fixed")
    seen: list[Tensor] = []
    trainer.strategy.epoch_end = seen.append  # pyright: ignore[reportAttributeAccessIssue]
    run_steps(trainer, trainer.steps_per_epoch)
    trainer.end_epoch()
    torch.testing.assert_close(seen[0], trainer.traces["losses"].mean(0))


def test_evaluation_counts_every_sample_once(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make_trainer(registry, "fixed")
    split = toy_setup().test()
    whole = trainer.evaluate(split)
    monkeypatch.setattr("mtlbench.trainer.EVALUATION_CHUNK", 7)
    for one, other in zip(trainer.evaluate(split), whole, strict=True):
        torch.testing.assert_close(one, other)


def test_evaluation_leaves_the_samples_as_they_are(registry: Registry) -> None:
    setup = replace(toy_setup(), scale=2.0, shift=1.0)
    trainer = make_trainer(registry, "fixed", setup=setup)
    first, again = trainer.evaluate(setup.test()), trainer.evaluate(setup.test())
    assert torch.equal(first[0], again[0])


def test_the_batch_is_normalised_as_torchvision_does(registry: Registry) -> None:
    pixels = torch.randint(0, 256, (64, 784), dtype=torch.uint8)
    split = Split(pixels, torch.zeros(64, 2, dtype=torch.int64))
    trainer = Trainer(MNIST, registry.get("fixed"), (0,), split, batch_size=64, lr=1e-3, device=torch.device("cpu"))
    losses, _ = trainer.evaluate(split)
    network = PlainNetwork(MNIST)
    start_like(network, trainer, 0)
    outputs = network(((pixels.double() / 255) - 0.1307) / 0.3081)
    expected = nn.functional.cross_entropy(outputs[0], torch.zeros(64, dtype=torch.int64))
    assert float(losses[0, 0]) == pytest.approx(float(expected.detach()), rel=1e-5)
