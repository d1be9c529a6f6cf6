"""The contract that every registered strategy keeps, and what is special to each."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from mtlbench.registry import Registry
from mtlbench.setups import Setup, Split, regression
from mtlbench.strategy import Step
from mtlbench.trainer import Trainer
from tests.toy import GivenGradients, build, given_step, problem, weigh

shapes = st.tuples(st.integers(1, 4), st.integers(2, 5))


NAMES = tuple(Registry.load().strategies)
RANDOM = {"rlw", "pcgrad", "gradvac"}  # they draw a number for each task, so tasks are alike in distribution only


@pytest.mark.parametrize("name", NAMES)
@given(shape=shapes, seed=st.integers(0, 1000))
def test_replicas_are_independent(registry: Registry, name: str, shape: tuple[int, int], seed: int) -> None:
    losses, jacobian = problem(shape, seed)
    together, grads = weigh(build(registry, name, shape), given_step(losses, jacobian))
    for k in range(shape[0]):
        step = Step(
            losses[k : k + 1].clone().requires_grad_(),
            GivenGradients(jacobian[k : k + 1]),
            index=torch.tensor(0),
            epoch=torch.tensor(0),
            seeds=torch.tensor([k]),
        )
        alone, alone_grads = weigh(build(registry, name, (1, shape[1])), step)
        torch.testing.assert_close(together[k : k + 1], alone)
        torch.testing.assert_close([grad[k : k + 1] for grad in grads], alone_grads)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in RANDOM])
@given(shape=shapes, seed=st.integers(0, 1000), data=st.data())
def test_permuting_tasks_permutes_weights(
    registry: Registry, name: str, shape: tuple[int, int], seed: int, data: st.DataObject
) -> None:
    order = data.draw(st.permutations(range(shape[1])))
    losses, jacobian = problem(shape, seed)
    weights, grads = weigh(build(registry, name, shape), given_step(losses, jacobian))
    permuted, permuted_grads = weigh(build(registry, name, shape), given_step(losses[:, order], jacobian[:, order]))
    torch.testing.assert_close(permuted, weights[:, order])
    torch.testing.assert_close(permuted_grads, [grad[:, order] for grad in grads])


@pytest.mark.parametrize("name", NAMES)
def test_state_dict_is_the_whole_state(registry: Registry, name: str) -> None:
    losses, jacobian = problem((2, 3), 0)
    one = build(registry, name, (2, 3))
    weigh(one, given_step(losses, jacobian))
    with torch.no_grad():
        for parameter in one.parameters():
            parameter.mul_(1.1)
        one.project()
    other = build(registry, name, (2, 3))
    other.load_state_dict(one.state_dict())
    later = partial(given_step, *problem((2, 3), 1), index=7)
    torch.testing.assert_close(weigh(one, later())[0], weigh(other, later())[0], rtol=0, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_docstring_names_source_and_arguments(registry: Registry, name: str) -> None:
    text = registry.get(name).__doc__ or ""
    assert "Source:" in text
    for key in registry.parameters(name):
        assert key == "heads" or f"{key}:" in text


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("jacobian", ["zero", "parallel", "opposite"])
def test_degenerate_gradients_leave_everything_finite(registry: Registry, name: str, jacobian: str) -> None:
    row = torch.ones(1, 1, 5, dtype=torch.float64)
    chosen = {
        "zero": torch.cat([0 * row, 0 * row], 1),
        "parallel": torch.cat([row, 2 * row], 1),
        "opposite": torch.cat([row, -row], 1),
    }
    losses = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
    weights, grads = weigh(build(registry, name, (1, 2), 5), given_step(losses, chosen[jacobian]))
    assert all(bool(tensor.isfinite().all()) for tensor in (weights, *grads))


@given(seed=st.integers(0, 1000), s=st.floats(-3, 3), c=st.sampled_from([0.5, 1.0]))
def test_uncertainty_weights_by_precision(registry: Registry, seed: int, s: float, c: float) -> None:
    losses, _ = problem((2, 3), seed)
    strategy = registry.strategies["uncertainty"]((2, 3), c=c, s=s).double()  # pyright: ignore[reportCallIssue]
    weights, (grad,) = weigh(strategy, given_step(losses))
    torch.testing.assert_close(weights, torch.full_like(weights, c * math.exp(-s)), rtol=1e-6, atol=0)
    torch.testing.assert_close(grad, 0.5 - weights * losses)


def test_uncertainty_recovers_known_noise(registry: Registry) -> None:
    """Gal's toy problem: y1 = 2x + 8 + 10 e, y2 = 3x + 3 + e; enough data that fitting it shrinks no sigma."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4000, 1, generator=generator)
    noise = torch.randn(4000, 2, generator=generator) * torch.tensor([10.0, 1.0])
    y = x * torch.tensor([2.0, 3.0]) + torch.tensor([8.0, 3.0]) + noise
    samples = Split(x, y)
    setup = Setup(
        name="toy-regression",
        about="two lines with known noise",
        tasks=(regression("wide"), regression("narrow")),
        widths=(1, 1024),
        samples=lambda: (samples, samples),
        test=lambda: samples,
        training_size=4000,
    )
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
    for epoch in range(45):
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
