"""Compares our strategies on losses, and those with state, with TorchJD's, replica by replica, in float64."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from unittest.mock import patch

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor, nn
from torchjd import aggregation, scalarization

from mtlbench.plugins.registry import Registry
from tests.helpers.torchjd_problems import K, P, any_seed, assert_agree, build, each_count, few, problem, weigh
from tests.helpers.toy import given_step

pytestmark = pytest.mark.usefixtures("in_double")


@each_count
@few
@any_seed
def test_excessmtl_with_a_warm_up_of_one_step(registry: Registry, tasks: int, seed: int) -> None:
    """TorchJD adds 1e-7 to the first risk, by which it divides, and its weights sum to 1."""
    strategy = build(registry, "excessmtl", tasks, eta=0.1)
    first_risks = strategy.get_buffer("first_risks")
    theirs = [aggregation.ExcessMTLWeighting(robust_step_size=0.1, n_warmup_steps=1) for _ in range(K)]
    for index in range(5):
        losses, jacobian = problem(tasks, seed, index)
        actual = weigh(strategy, given_step(losses, jacobian, index=index))
        expected = [tasks * other(one) for other, one in zip(theirs, jacobian, strict=True)]
        assert_agree(actual, expected, 1e-10)
        if index == 0:
            first_risks += 1e-7


@pytest.mark.parametrize(
    ("name", "hyper", "theirs"),
    [
        ("modo", {"gamma": 0.1}, partial(aggregation.MoDoWeighting, gamma=0.1, rho=0.1)),
        ("sdmgrad", {"rate": 1.0, "max_norm": 0.0}, partial(aggregation.SDMGradWeighting, lr=1.0)),
    ],
)
@each_count
@few
@any_seed
def test_weights_from_products_of_two_batches(
    registry: Registry, name: str, hyper: dict[str, object], theirs: Callable[[], nn.Module], tasks: int, seed: int
) -> None:
    strategy, others = build(registry, name, tasks, **hyper), [theirs() for _ in range(K)]
    for index in range(5):
        losses, jacobian = problem(tasks, seed, index)
        step = given_step(losses, jacobian, index=index)
        actual = weigh(strategy, step)
        expected = [other(one) for other, one in zip(others, step.independent_gramian(), strict=True)]
        assert_agree(actual, expected, 1e-9)


@each_count
def test_sdmgrad_at_its_own_rate(registry: Registry, tasks: int) -> None:
    """One call of 20 steps only: at rate 10 they amplify rounding, so further calls may diverge."""
    for seed in range(20):
        losses, jacobian = problem(tasks, seed)
        step = given_step(losses, jacobian)
        actual = weigh(build(registry, "sdmgrad", tasks, max_norm=0.0), step)
        assert_agree(actual, (aggregation.SDMGradWeighting()(one) for one in step.independent_gramian()), 1e-7)


@each_count
@few
@given(seed=st.integers(0, 10**6), leak=st.sampled_from([0.0, 0.3]))
def test_graddrop_with_the_same_draws(registry: Registry, tasks: int, seed: int, leak: float) -> None:
    """On the gradients of the representation, as in the paper; TorchJD's users pass those of the parameters."""
    losses, jacobian = problem(tasks, seed)
    step = given_step(losses, jacobian)
    weigh(build(registry, "graddrop", tasks, leak=leak), step)
    assert step.representation_direction is not None
    theirs = aggregation.GradDrop(leak=torch.full((tasks,), leak))
    expected: list[Tensor] = []
    for drawn, one in zip(given_step(losses).rand(P), jacobian, strict=True):
        with patch("torch.rand", return_value=drawn):
            expected.append(theirs(one))
    assert_agree(step.representation_direction.squeeze(1), expected, 1e-12)


@pytest.mark.parametrize(
    ("name", "hyper", "theirs"),
    [
        ("fixed", {}, scalarization.Sum),
        ("fixed", {"weights": [1.0, 0.5, 2.0]}, partial(scalarization.Constant, torch.tensor([1.0, 0.5, 2.0]))),
        ("fixed", {"weights": [1 / 3] * 3}, scalarization.Mean),
        ("uncertainty", {"c": 0.5}, partial(scalarization.UW, 3)),
        ("imtl-l", {}, partial(scalarization.IMTLL, 3)),
        ("geometric", {}, scalarization.GeometricMean),
        ("stch", {"warm_up": 0}, partial(scalarization.STCH, 1.0)),
        (
            "stch",
            {"mu": 0.1, "ideal": -0.5, "warm_up": 0},
            partial(scalarization.STCH, 0.1, reference=torch.full((3,), -0.5, dtype=torch.float64)),
        ),
    ],
)
@few
@any_seed
def test_functions_of_the_losses(
    registry: Registry, name: str, hyper: dict[str, object], theirs: Callable[[], nn.Module], seed: int
) -> None:
    """Values and gradients by the losses and by the method's parameters agree."""
    losses, _ = problem(3, seed)
    strategy = build(registry, name, 3, **hyper)
    parameters, step = list(strategy.parameters()), given_step(losses)
    with torch.no_grad():
        for parameter in parameters:
            parameter.copy_(torch.randn(K, 3, generator=torch.Generator().manual_seed(seed)))
    value = strategy(step)
    actual = torch.autograd.grad(value.sum(), [step.losses, *parameters])
    for k in range(K):
        other, own_losses = theirs(), losses[k].clone().requires_grad_()
        with torch.no_grad():
            for parameter, of_all in zip(other.parameters(), parameters, strict=True):
                parameter.copy_(of_all[k])
        expected = other(own_losses)
        torch.testing.assert_close(value[k], expected, rtol=1e-12, atol=1e-12)
        gradients = torch.autograd.grad(expected, [own_losses, *other.parameters()])
        torch.testing.assert_close([gradient[k] for gradient in actual], list(gradients), rtol=1e-12, atol=1e-12)


@each_count
@few
@given(seed=st.integers(0, 10**6), tau=st.sampled_from([0.5, 2.0]))
def test_dwa_over_epochs(registry: Registry, tasks: int, seed: int, tau: float) -> None:
    strategy, theirs = build(registry, "dwa", tasks, tau=tau), [scalarization.DWA(tau) for _ in range(K)]
    for epoch in range(5):
        epoch_losses: list[Tensor] = []
        for index in range(3):
            step = given_step(problem(tasks, seed, 3 * epoch + index)[0], epoch=epoch)
            epoch_losses.append(step.losses.detach())
            expected = [other(losses) for other, losses in zip(theirs, step.losses, strict=True)]
            torch.testing.assert_close(strategy(step), torch.stack(expected), rtol=1e-12, atol=0)
        strategy.epoch_end(torch.stack(epoch_losses).mean(0))
        for other in theirs:
            other.step()


@each_count
@few
@given(seed=st.integers(0, 10**6), least=st.sampled_from([0.0, -0.5]))
def test_famo_over_updates(registry: Registry, tasks: int, seed: int, least: float) -> None:
    strategy = build(registry, "famo", tasks, least=least)
    theirs = [scalarization.FAMO(tasks, min_losses=torch.full((tasks,), least)) for _ in range(K)]
    for index in range(6):
        losses, after = problem(tasks, seed, index)[0], problem(tasks, seed + 1, index)[0]
        step = given_step(losses, index=index)
        value = strategy(step)
        (actual,) = torch.autograd.grad(value.sum(), step.losses)
        for k, other in enumerate(theirs):
            own_losses = losses[k].clone().requires_grad_()
            expected = other(own_losses)
            torch.testing.assert_close(value[k], expected, rtol=1e-9, atol=1e-12)
            torch.testing.assert_close(actual[k], torch.autograd.grad(expected, own_losses)[0], rtol=1e-9, atol=1e-12)
            other.update(after[k])
        with torch.no_grad():
            strategy.after_update(after)


@each_count
def test_rlw_in_distribution(registry: Registry, tasks: int) -> None:
    strategy, losses = build(registry, "rlw", tasks), torch.ones(K, tasks)
    actual = torch.cat([weigh(strategy, given_step(losses, index=index))[:, 0] for index in range(500)])
    theirs = aggregation.RandomWeighting()
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        expected = torch.stack([theirs(torch.eye(tasks))[0] for _ in range(1000)])
    assert stats.ks_2samp(actual.numpy(), expected.numpy()).pvalue > 1e-3
