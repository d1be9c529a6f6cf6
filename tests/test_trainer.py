"""A training step of the stack against single networks in plain torch, and what a step promises."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from mtlbench.registry import Registry
from mtlbench.setups import MNIST, Setup, Split
from mtlbench.strategy import Step, Strategy
from mtlbench.trainer import ContractError, Trainer
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
            trainer.start_epoch(taken // trainer.steps_per_epoch)
        trainer.step()
    return trainer.network.parameters


class PlainNetwork(nn.Module):
    """The same network for one seed as anybody would write it."""

    def __init__(self, setup: Setup) -> None:
        super().__init__()
        widths = setup.widths
        self.trunk = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.heads = nn.ModuleList(nn.Linear(widths[-1], task.columns) for task in setup.tasks)
        self.double()

    def forward(self, x: Tensor) -> list[Tensor]:
        for layer in self.trunk:
            x = torch.relu(layer(x))
        return [head(x) for head in self.heads]

    def start_like(self, trainer: Trainer, replica: int) -> None:
        with torch.no_grad():
            for mine, theirs in zip(self.trunk, trainer.network.trunk, strict=True):
                assert isinstance(mine, nn.Linear)
                mine.weight.copy_(theirs.weight[replica])
                mine.bias.copy_(theirs.bias[replica])
            weights = trainer.network.split_outputs(trainer.network.heads.weight[replica].mT)
            biases = trainer.network.split_outputs(trainer.network.heads.bias[replica])
            for head, weight, bias in zip(self.heads, weights, biases, strict=True):
                assert isinstance(head, nn.Linear)
                head.weight.copy_(weight.mT)
                head.bias.copy_(bias)

    def flat(self) -> Tensor:
        return torch.cat([parameter.detach().flatten() for parameter in self.parameters()])


def replica_flat(trainer: Trainer, replica: int, setup: Setup) -> Tensor:
    plain = PlainNetwork(setup)
    plain.start_like(trainer, replica)
    return plain.flat()


Objective = Callable[[Tensor, PlainNetwork], Tensor]


class PlainFixed:
    def __init__(self, weights: list[float]) -> None:
        self.weights = torch.tensor(weights, dtype=torch.float64)

    def train(self, network: PlainNetwork, batches: list[Callable[[], Tensor]]) -> None:
        optimizer = torch.optim.Adam(network.parameters(), lr=LR)
        for losses in batches:
            optimizer.zero_grad()
            (self.weights * losses()).sum().backward()
            optimizer.step()


class PlainUncertainty:
    def train(self, network: PlainNetwork, batches: list[Callable[[], Tensor]]) -> None:
        s = nn.Parameter(torch.zeros(2, dtype=torch.float64))
        optimizer = torch.optim.Adam([*network.parameters(), s], lr=LR)
        for losses in batches:
            optimizer.zero_grad()
            (losses() / s.exp() + 0.5 * s).sum().backward()
            optimizer.step()


class PlainGradNorm:
    """Algorithm 1 of the paper with two backward passes per task."""

    def __init__(self, alpha: float) -> None:
        self.alpha = alpha

    def train(self, network: PlainNetwork, batches: list[Callable[[], Tensor]]) -> None:
        w = nn.Parameter(torch.ones(2, dtype=torch.float64))
        optimizer = torch.optim.Adam(network.parameters(), lr=LR)
        weight_optimizer = torch.optim.Adam([w], lr=0.025)
        first: Tensor | None = None
        for losses in batches:
            values = losses()
            first = values.detach() if first is None else first
            last = list(network.trunk[-1].parameters())
            norms = []
            for task in range(2):
                grads = torch.autograd.grad(w[task] * values[task], last, retain_graph=True, create_graph=True)
                norms.append(torch.cat([g.flatten() for g in grads]).norm())
            weighted = torch.stack(norms)
            rate = values.detach() / first
            target = (weighted.mean() * (rate / rate.mean()) ** self.alpha).detach()
            (weight_grad,) = torch.autograd.grad((weighted - target).abs().sum(), w, retain_graph=True)
            optimizer.zero_grad()
            (w.detach() * values).sum().backward()
            optimizer.step()
            w.grad = weight_grad
            weight_optimizer.step()
            with torch.no_grad():
                w.mul_(2 / w.sum())


PLAIN = {
    "fixed": PlainFixed([1.0, 1.0]),
    "fixed:weights=[1,0.1]": PlainFixed([1.0, 0.1]),
    "single:above_five": PlainFixed([0.0, 1.0]),
    "uncertainty": PlainUncertainty(),
    "gradnorm": PlainGradNorm(1.5),
    "gradnorm:alpha=0.12": PlainGradNorm(0.12),
}


@pytest.mark.parametrize("label", PLAIN)
@pytest.mark.parametrize("steps", [1, 20])
def test_a_stack_equals_single_networks_in_plain_torch(registry: Registry, label: str, steps: int) -> None:
    setup = toy_setup()
    samples = setup.samples()[0]
    trainer = make_trainer(registry, label)
    networks = [PlainNetwork(setup) for _ in SEEDS]
    for replica, network in enumerate(networks):
        network.start_like(trainer, replica)
    run_steps(trainer, steps)
    for replica, (seed, network) in enumerate(zip(SEEDS, networks, strict=True)):
        PLAIN[label].train(network, plain_batches(setup, samples, network, seed, steps))
        found, expected = replica_flat(trainer, replica, setup), network.flat()
        assert (found - expected).norm() / expected.norm() < 1e-8


def plain_batches(
    setup: Setup, samples: Split, network: PlainNetwork, seed: int, steps: int
) -> list[Callable[[], Tensor]]:
    per_epoch = len(samples) // BATCH

    def losses(step: int) -> Tensor:
        epoch, position = divmod(step, per_epoch)
        order = np.random.default_rng((seed, 1 + epoch)).permutation(len(samples))
        rows = torch.from_numpy(order[position * BATCH : (position + 1) * BATCH])
        outputs = network(samples.inputs[rows])
        targets = samples.targets[rows]
        digit = nn.functional.cross_entropy(outputs[0], targets[:, 0])
        above = nn.functional.binary_cross_entropy_with_logits(outputs[1][:, 0], targets[:, 1].double())
        return torch.stack([digit, above])

    return [partial(losses, step) for step in range(steps)]


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
    network.start_like(trainer, 0)
    outputs = network(((pixels.double() / 255) - 0.1307) / 0.3081)
    expected = nn.functional.cross_entropy(outputs[0], torch.zeros(64, dtype=torch.int64))
    assert float(losses[0, 0]) == pytest.approx(float(expected.detach()), rel=1e-5)
