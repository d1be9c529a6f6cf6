"""Training steps of the stack, compared with single networks in plain torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor, nn

from mtlbench.check import Subject
from mtlbench.check.strategy.small_training import stack_trains_as_each_alone
from mtlbench.contracts.setup import Setup, Split
from mtlbench.contracts.strategy import Step, Strategy
from mtlbench.engine.trainer import Trainer
from mtlbench.errors import ContractError
from mtlbench.plugins.registry import Registry
from mtlbench.setups import MNIST
from mtlbench.setups.multimnist import MULTIMNIST
from tests.helpers.definitions import PLAIN
from tests.helpers.plain import PlainNetwork, replica_flat, start_like, train
from tests.helpers.toy import convolved_setup, toy_setup

BATCH, LR = 6, 1e-2
SEEDS = (3, 0, 11)


def make_trainer(registry: Registry, label: str, seeds: tuple[int, ...] = SEEDS, setup: Setup | None = None) -> Trainer:
    setup = setup or toy_setup()
    return make_with(partial(registry.build, registry.parse(label, setup)), seeds, setup)


def make_with(
    build: Callable[[tuple[int, int]], Strategy], seeds: tuple[int, ...], setup: Setup | None = None, batch: int = BATCH
) -> Trainer:
    setup, cpu = setup or toy_setup(), torch.device("cpu")
    samples, _ = setup.samples()
    return Trainer(setup, build, seeds, samples, batch_size=batch, lr=LR, device=cpu, dtype=torch.float64)


def run_steps(trainer: Trainer, steps: int) -> Tensor:
    for taken in range(steps):
        if taken % trainer.steps_per_epoch == 0:
            if taken:
                trainer.end_epoch()
            trainer.start_epoch(taken // trainer.steps_per_epoch)
        trainer.step()
    return trainer.network.parameters


def test_every_strategy_has_a_plain_version(registry: Registry) -> None:
    assert {label.partition(":")[0] for label in PLAIN} >= set(registry.strategies)


@pytest.mark.parametrize("label", PLAIN)
def test_a_stack_equals_single_networks_in_plain_torch(registry: Registry, label: str) -> None:
    """12 steps are more than two epochs, so the hooks at the end of an epoch matter."""
    trains_as_single_networks(registry, label, 12, toy_setup(size=5 * BATCH))


@pytest.mark.parametrize("label", ["fixed", "mgda", "gradnorm", "modo", "moco", "graddrop"])
def test_a_stack_of_convolutions_equals_single_networks_in_plain_torch(registry: Registry, label: str) -> None:
    trains_as_single_networks(registry, label, 3, convolved_setup())


def trains_as_single_networks(registry: Registry, label: str, steps: int, setup: Setup) -> None:
    trainer = make_trainer(registry, label, setup=setup)
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
    label=st.sampled_from(["fixed", "uncertainty", "gradnorm", "rlw", "pcgrad", "graddrop", "modo", "db-mtl", "famo"]),
)
@settings(max_examples=20)
def test_a_seed_does_not_depend_on_its_stack(registry: Registry, seeds: list[int], label: str) -> None:
    stack_trains_as_each_alone(Subject(registry, registry.parse(label, toy_setup())), seeds)


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


def meta_step(build: Callable[[tuple[int, int]], Strategy], setup: Setup = MNIST) -> Trainer:
    empty = Split(torch.zeros(130, 784, dtype=torch.uint8), torch.zeros(130, 2, dtype=torch.int64))
    trainer = Trainer(setup, build, (0, 1), empty, batch_size=64, lr=1e-3, device=torch.device("meta"))
    trainer.start_epoch(0)
    trainer.step()
    trainer.step()
    trainer.end_epoch()
    return trainer


@pytest.mark.parametrize("name", ["fixed", "gradnorm", "mgda", "modo", "moco", "graddrop", "famo"])
@pytest.mark.parametrize("setup", [MNIST, MULTIMNIST], ids=lambda setup: setup.name)
def test_a_step_runs_on_meta_whichever_signals_it_uses(registry: Registry, name: str, setup: Setup) -> None:
    assert meta_step(registry.get(name), setup).network.parameters.is_meta


def test_an_objective_of_the_wrong_shape_is_refused() -> None:
    class Summed(Strategy):
        def forward(self, step: Step) -> Tensor:
            return step.losses.sum()

    with pytest.raises(ContractError, match=r"torch.float32.*\[2\].*\[\]"):
        meta_step(Summed)


def test_a_strategy_that_changes_the_losses_is_refused() -> None:
    class InPlace(Strategy):
        def forward(self, step: Step) -> Tensor:
            with torch.no_grad():
                step.losses.mul_(2)
            return step.losses.sum(-1)

    class Replaced(Strategy):
        def forward(self, step: Step) -> Tensor:
            step.losses = 2 * step.losses
            return step.losses.sum(-1)

    for changes in (InPlace, Replaced):
        with pytest.raises(ContractError, match=r"step\.losses"):
            meta_step(changes)


def test_after_update_sees_the_same_batch_after_the_step() -> None:
    losses: list[tuple[Tensor, Tensor]] = []  # of each step, before and after its update

    class Watcher(Strategy):
        def forward(self, step: Step) -> Tensor:
            self.before = step.losses.detach()
            return step.losses.sum(-1)

        def after_update(self, losses_after: Tensor) -> None:
            losses.append((self.before, losses_after.clone()))

    trainer = make_with(Watcher, SEEDS, batch=60)
    for epoch in range(3):
        trainer.start_epoch(epoch)
        trainer.step()
    assert len(losses) == 3
    # The batch is the whole split, so the losses after one update are those before the next.
    for (_, after), (before, _) in pairwise(losses):
        torch.testing.assert_close(after, before)


def test_allocate_is_called_with_the_trunks_size_before_any_step() -> None:
    class Allocating(Strategy):
        def allocate(self, parameters: int) -> None:
            self.register_buffer("kept", torch.zeros(*self.shape, parameters))

        def forward(self, step: Step) -> Tensor:
            self.get_buffer("kept").copy_(step.jacobian())
            return step.losses.sum(-1)

    setup = toy_setup()
    trainer = make_with(Allocating, SEEDS)
    run_steps(trainer, 1)
    trunk = PlainNetwork(setup).trunk.parameters()
    kept = trainer.strategy.get_buffer("kept")
    assert kept.shape == (len(SEEDS), 2, sum(parameter.numel() for parameter in trunk))
    assert kept.dtype == torch.float64
    assert bool(kept.any(-1).all())


class TwoFurtherBatches(Strategy):
    def forward(self, step: Step) -> Tensor:
        step.independent_gramian()
        return step.losses.sum(-1)


def further_rows(monkeypatch: pytest.MonkeyPatch, seeds: tuple[int, ...], steps: int) -> Tensor:
    """Samples of the two further batches of every step, `[S, 2, K, B]`."""
    drawn: list[Tensor] = []
    original = Trainer._differentiate  # pyright: ignore[reportPrivateUsage]

    def spy(trainer: Trainer, rows: Tensor) -> Any:
        drawn.append(rows.clone())
        return original(trainer, rows)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_differentiate", spy)
        run_steps(make_with(TwoFurtherBatches, seeds), steps)
    assert len(drawn) == 3 * steps  # the step's own batch comes first
    return torch.stack(drawn).view(steps, 3, len(seeds), BATCH)[:, 1:]


def test_further_batches_are_drawn_uniformly_and_independently(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = further_rows(monkeypatch, SEEDS, 300)
    size = len(toy_setup().samples()[0])
    assert stats.chisquare(rows.flatten().bincount(minlength=size).numpy()).pvalue > 1e-3
    streams = torch.stack([rows[:-1, 0, 0], rows[:-1, 1, 0], rows[:-1, 0, 1], rows[1:, 0, 0]]).flatten(1).double()
    assert float((streams.corrcoef() - torch.eye(4)).abs().max()) < 4 / streams.shape[1] ** 0.5
    # No two batches are equal, whether of one step, of two seeds or of two steps.
    every = rows.transpose(2, 1).flatten(0, 2)  # [S * K * 2, B]
    assert len(every.unique(dim=0)) == len(every)


@given(seeds=st.lists(st.integers(0, 50), min_size=2, max_size=4, unique=True))
@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_seeds_further_batches_do_not_depend_on_its_stack(monkeypatch: pytest.MonkeyPatch, seeds: list[int]) -> None:
    together = further_rows(monkeypatch, tuple(seeds), 3)
    alone = further_rows(monkeypatch, (seeds[-1],), 3)
    assert torch.equal(together[:, :, -1:], alone)


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
    monkeypatch.setattr("mtlbench.engine.trainer.EVALUATION_CHUNK", 7)
    for one, other in zip(trainer.evaluate(split), whole, strict=True):
        torch.testing.assert_close(one, other)


def test_evaluation_of_convolutions_counts_every_sample_once(registry: Registry) -> None:
    setup = convolved_setup()
    trainer, split = make_trainer(registry, "fixed", setup=setup), setup.test()
    one_by_one = [trainer.evaluate(Split(split.inputs[i : i + 1], split.targets[i : i + 1])) for i in range(len(split))]
    for found, expected in zip(trainer.evaluate(split), zip(*one_by_one, strict=True), strict=True):
        torch.testing.assert_close(found, torch.stack(expected).mean(0))


def test_a_setup_with_layers_that_do_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"toy.*8.*\(9, 5\)"):
        replace(convolved_setup(), widths=(9, 5))


def test_evaluation_does_not_change_the_samples(registry: Registry) -> None:
    setup = replace(toy_setup(), scale=2.0, shift=1.0)
    trainer = make_trainer(registry, "fixed", setup=setup)
    first, again = trainer.evaluate(setup.test()), trainer.evaluate(setup.test())
    assert torch.equal(first[0], again[0])


def test_inputs_are_normalised_as_in_torchvision(registry: Registry) -> None:
    pixels = torch.randint(0, 256, (64, 784), dtype=torch.uint8)
    split = Split(pixels, torch.zeros(64, 2, dtype=torch.int64))
    trainer = Trainer(MNIST, registry.get("fixed"), (0,), split, batch_size=64, lr=1e-3, device=torch.device("cpu"))
    losses, _ = trainer.evaluate(split)
    network = PlainNetwork(MNIST)
    start_like(network, trainer, 0)
    outputs = network(((pixels.double() / 255) - 0.1307) / 0.3081)
    expected = nn.functional.cross_entropy(outputs[0], torch.zeros(64, dtype=torch.int64))
    assert float(losses[0, 0]) == pytest.approx(float(expected.detach()), rel=1e-5)
