"""The contract that every registered strategy keeps, and what is special to each."""

from __future__ import annotations

import math
import typing
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from mtlbench.check import Subject, failures
from mtlbench.check.strategy.cases import random_case
from mtlbench.check.strategy.properties import replicas_are_independent, state_round_trips, tasks_are_alike
from mtlbench.contracts.strategy import Step
from mtlbench.engine.trainer import Trainer
from mtlbench.plugins.registry import Registry
from mtlbench.setups import MNIST
from tests.helpers.toy import GivenGradients, build, given_step, problem, weigh

shapes = st.tuples(st.integers(1, 4), st.integers(2, 5))
NAMES = tuple(Registry.load().strategies)


def subject(registry: Registry, name: str) -> Subject:
    return Subject(registry, registry.parse(name, MNIST))


@pytest.mark.parametrize("name", NAMES)
def test_each_strategy_keeps_the_contract(registry: Registry, name: str) -> None:
    assert failures(subject(registry, name)) == []


@pytest.mark.parametrize("name", NAMES)
@given(shape=shapes, seed=st.integers(0, 1000))
@settings(max_examples=50)
def test_replicas_are_independent(registry: Registry, name: str, shape: tuple[int, int], seed: int) -> None:
    replicas_are_independent(subject(registry, name), random_case(shape, seed))


@pytest.mark.parametrize("name", NAMES)
@given(shape=shapes, seed=st.integers(0, 1000), data=st.data())
@settings(max_examples=50)
def test_permuting_tasks_permutes_weights(
    registry: Registry, name: str, shape: tuple[int, int], seed: int, data: st.DataObject
) -> None:
    order = data.draw(st.permutations(range(shape[1])))
    tasks_are_alike(subject(registry, name), random_case(shape, seed), order)


@pytest.mark.parametrize("name", NAMES)
@given(shape=shapes, seed=st.integers(0, 1000))
@settings(max_examples=5)
def test_state_dict_is_the_whole_state(registry: Registry, name: str, shape: tuple[int, int], seed: int) -> None:
    state_round_trips(subject(registry, name), random_case(shape, seed, steps=6), after=3)


POSITIVE, NOT_NEGATIVE, SHARE = (0, -1), (-1e-9, -1), (-0.1, 1.1)
REFUSED: dict[tuple[str, str], tuple[float | list[float], ...]] = {
    ("cagrad", "c"): NOT_NEGATIVE,
    ("db-mtl", "beta"): (-0.1, 1.0),
    ("db-mtl", "decay"): NOT_NEGATIVE,
    ("dwa", "tau"): POSITIVE,
    ("excessmtl", "eta"): POSITIVE,
    ("fairgrad", "alpha"): POSITIVE,
    ("famo", "least"): (),
    ("famo", "lr"): POSITIVE,
    ("famo", "weight_decay"): NOT_NEGATIVE,
    ("fixed", "weights"): ([1.0], [0.0, 0.0], [1.0, -1.0], [1.0, math.nan], [1.0, math.inf]),
    ("go4align", "beta"): NOT_NEGATIVE,
    ("go4align", "groups"): POSITIVE,
    ("graddrop", "leak"): SHARE,
    ("gradnorm", "alpha"): NOT_NEGATIVE,
    ("gradnorm", "floor"): (*POSITIVE, 1),
    ("gradnorm", "lr"): POSITIVE,
    ("gradvac", "beta"): SHARE,
    ("moco", "beta"): (0, 1.1),
    ("moco", "decay"): NOT_NEGATIVE,
    ("moco", "gamma"): POSITIVE,
    ("moco", "rho"): NOT_NEGATIVE,
    ("modo", "gamma"): POSITIVE,
    ("modo", "rho"): NOT_NEGATIVE,
    ("sdmgrad", "momentum"): (-0.1, 1.0),
    ("sdmgrad", "rate"): POSITIVE,
    ("sdmgrad", "steps"): POSITIVE,
    ("sdmgrad", "strength"): NOT_NEGATIVE,
    ("stch", "ideal"): (),
    ("stch", "mu"): POSITIVE,
    ("stch", "warm_up"): (-1,),
    ("uncertainty", "c"): POSITIVE,
    ("uncertainty", "s"): (),
    ("uncertainty-softmax", "tau"): POSITIVE,
}


def test_every_hyper_parameter_has_values_that_are_refused(registry: Registry) -> None:
    """Those that are one word of a list are checked where the command line is read."""
    parameters = {(name, key): found for name in NAMES for key, found in registry.parameters(name).items()}
    free = {key for key, found in parameters.items() if typing.get_origin(found.annotation) is not typing.Literal}
    assert free == set(REFUSED)


@pytest.mark.parametrize(("name", "key"), REFUSED)
def test_bad_hyper_parameters_are_refused_with_rule_and_value(registry: Registry, name: str, key: str) -> None:
    values = list(REFUSED[name, key])
    annotation = registry.parameters(name)[key].annotation
    if float in (annotation, *typing.get_args(annotation)):
        values += [math.nan, math.inf, -math.inf]
    assert values
    for value in values:
        with pytest.raises(ValueError, match=rf"^{key} must .*, not ") as refused:
            build(registry, name, (1, 2), hyper={key: value})
        said = str(refused.value).rpartition("not ")[2]
        found = {str(value), str(len(value))} if isinstance(value, list) else {str(value), str(float(value))}
        assert said in found


@given(seed=st.integers(0, 1000), s=st.floats(-3, 3), c=st.sampled_from([0.5, 1.0]))
def test_uncertainty_weights_by_precision(registry: Registry, seed: int, s: float, c: float) -> None:
    losses, _ = problem((2, 3), seed)
    strategy = registry.strategies["uncertainty"]((2, 3), c=c, s=s).double()  # pyright: ignore[reportCallIssue]
    weights, (grad,) = weigh(strategy, given_step(losses))
    torch.testing.assert_close(weights, torch.full_like(weights, c * math.exp(-s)), rtol=1e-6, atol=0)
    torch.testing.assert_close(grad, 0.5 - weights * losses)


def test_uncertainty_recovers_known_noise(registry: Registry) -> None:
    """Gal's toy problem: y1 = 2x + 8 + 10 e, y2 = 3x + 3 + e; enough data that fitting it shrinks no sigma."""
    setup = registry.setup("toy-regression")
    samples, _ = setup.samples()
    spec = registry.parse("uncertainty:c=0.5", setup)
    trainer = Trainer(
        setup,
        partial(registry.build, spec),
        (0, 1),
        samples,
        batch_size=20,
        lr=3e-3,
        device=torch.device("cpu"),
    )
    for epoch in range(45 // setup.passes):
        trainer.start_epoch(epoch)
        for _ in range(trainer.steps_per_epoch):
            trainer.step()
    sigmas = torch.exp(trainer.strategy.state_dict()["log_variances"] / 2)
    torch.testing.assert_close(sigmas, torch.tensor([10.0, 1.0]).expand(2, 2), rtol=0.1, atol=0)


@given(seed=st.integers(0, 1000))
def test_gradnorm_pulls_weighted_norms_to_their_target(registry: Registry, seed: int) -> None:
    losses, jacobian = problem((3, 2), seed)
    strategy = build(registry, "gradnorm", (3, 2))
    _, (grad,) = weigh(strategy, given_step(losses, jacobian))
    norms = jacobian.norm(dim=-1)
    # At the first step all rates are 1, so the target is the mean norm.
    torch.testing.assert_close(grad, torch.sign(norms - norms.mean(-1, keepdim=True)) * norms)


def test_gradnorm_keeps_weights_positive_with_sum_t(registry: Registry) -> None:
    strategy = build(registry, "gradnorm", (2, 3))
    with torch.no_grad():
        strategy.get_parameter("weights").copy_(torch.tensor([[-1.0, 0.5, 1.0], [3.0, 3.0, 3.0]]))
        strategy.project()
    weights = strategy.get_parameter("weights")
    assert bool((weights > 0).all())
    torch.testing.assert_close(weights.sum(-1), torch.full((2,), 3.0, dtype=torch.float64))


def test_gradnorm_remembers_the_first_losses(registry: Registry) -> None:
    strategy = build(registry, "gradnorm", (1, 2))
    first, jacobian = problem((1, 2), 0)
    weigh(strategy, given_step(first, jacobian))
    weigh(strategy, given_step(3 * first, jacobian, index=1))
    torch.testing.assert_close(strategy.get_buffer("first_losses"), first)


def draws(seeds: list[int], index: int = 0, count: int = 1) -> list[Tensor]:
    step = Step(
        torch.ones(len(seeds), 2, dtype=torch.float64),
        GivenGradients(torch.zeros(len(seeds), 2, 1)),
        index=torch.tensor(index),
        epoch=torch.tensor(0),
        seeds=torch.tensor(seeds),
    )
    return [step.rand(500, 2) for _ in range(count)]


def test_random_numbers_are_uniform_and_streams_differ() -> None:
    numbers = torch.cat([draw.flatten() for i in range(20) for draw in draws([0, 1, 2], i, 2)])
    assert float(numbers.min()) >= 0
    assert float(numbers.max()) < 1
    assert stats.kstest(numbers.numpy(), "uniform").pvalue > 1e-3
    streams = [
        draws([0])[0],
        draws([1])[0],
        draws([0], index=1)[0],
        draws([0], count=2)[1],
    ]
    correlations = torch.corrcoef(torch.stack([stream.flatten() for stream in streams]))
    assert float((correlations - torch.eye(4)).abs().max()) < 0.12


@given(st.lists(st.integers(0, 2**62), min_size=1, max_size=4, unique=True))
def test_a_seeds_random_numbers_do_not_depend_on_its_stack(seeds: list[int]) -> None:
    assert torch.equal(draws(seeds)[0][-1], draws(seeds[-1:])[0][0])
