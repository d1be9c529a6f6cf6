"""What the papers say of weights made from losses alone, and of their clusters and draws, in float64."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor, nn

from mtlbench.contracts.strategy import Step, Strategy
from mtlbench.plugins.registry import Registry
from tests.helpers.toy import GivenGradients, build, given_step, problem, weigh

Array = NDArray[np.float64]
shapes = st.tuples(st.integers(1, 3), st.integers(2, 5))
numbers = st.integers(0, 2**20)


def weights_of(strategy: Strategy, losses: Tensor, *, index: int = 0, epoch: int = 0) -> Tensor:
    return weigh(strategy, given_step(losses, index=index, epoch=epoch))[0]


@given(shape=shapes, seed=numbers)
def test_geometric_weights_are_its_value_over_each_loss(registry: Registry, shape: tuple[int, int], seed: int) -> None:
    losses, _ = problem(shape, seed)
    strategy = build(registry, "geometric", shape)
    value = losses.prod(-1) ** (1 / shape[1])
    torch.testing.assert_close(strategy(given_step(losses)).detach(), value)
    torch.testing.assert_close(weights_of(strategy, losses), value[:, None] / (shape[1] * losses))
    losses[:, 0] = 0
    weights = weights_of(strategy, losses)
    assert torch.equal(weights[:, 0], torch.zeros(shape[0], dtype=torch.float64))
    assert bool(weights.isfinite().all())


@given(shape=shapes, seed=numbers)
def test_imtl_l_makes_scaled_losses_alike(registry: Registry, shape: tuple[int, int], seed: int) -> None:
    losses, _ = problem(shape, seed)
    strategy = build(registry, "imtl-l", shape)
    (scales,) = strategy.parameters()
    for _ in range(60):  # Newton's method, no step longer than 1
        weights, (grad,) = weigh(strategy, given_step(losses))
        scales.data -= (grad / weights / losses).clamp(-1, 1)
    torch.testing.assert_close(weights_of(strategy, losses) * losses, torch.ones_like(losses))


@given(shape=shapes, seed=numbers, tau=st.floats(0.2, 50))
def test_uncertainty_softmax_weighs_by_inverse_losses(
    registry: Registry, shape: tuple[int, int], seed: int, tau: float
) -> None:
    losses, _ = problem(shape, seed)
    weights = weights_of(build(registry, "uncertainty-softmax", shape, hyper={"tau": tau}), losses)
    powers = (1 / (tau * losses)).exp()
    expected = powers / powers.sum(-1, keepdim=True)
    within = (1 / (tau * losses)).amax(-1) < 600  # beyond it exp overflows here
    torch.testing.assert_close(weights[within], expected[within])
    torch.testing.assert_close(weights.sum(-1), torch.ones(shape[0], dtype=torch.float64))
    assert bool((weights.argmax(-1) == losses.argmin(-1)).all())


@given(shape=shapes, seed=numbers, tau=st.floats(0.2, 50))
def test_dwa_weighs_by_the_ratio_of_the_last_two_epochs(
    registry: Registry, shape: tuple[int, int], seed: int, tau: float
) -> None:
    strategy = build(registry, "dwa", shape, hyper={"tau": tau})
    means = [problem(shape, seed + epoch)[0].clamp(0.1, 10) for epoch in range(4)]
    for epoch, mean in enumerate(means):
        expected = torch.ones_like(mean)
        if epoch >= 2:
            powers = (means[epoch - 1] / means[epoch - 2] / tau).exp()
            expected = shape[1] * powers / powers.sum(-1, keepdim=True)
        torch.testing.assert_close(weights_of(strategy, mean, epoch=epoch), expected)
        strategy.epoch_end(mean)


@given(shape=shapes, seed=numbers, mu=st.floats(0.05, 20), ideal=st.floats(-2, 2))
def test_stch_is_a_smooth_maximum(
    registry: Registry, shape: tuple[int, int], seed: int, mu: float, ideal: float
) -> None:
    losses, _ = problem(shape, seed)
    tasks = shape[1]
    strategy = build(registry, "stch", shape, hyper={"mu": mu, "ideal": ideal})
    distances = (losses - ideal) / tasks
    value = strategy(given_step(losses)).detach()
    # Proposition 3.4 of the paper: within mu log T above the maximum.
    assert bool((value >= distances.amax(-1) - 1e-12).all())
    assert bool((value <= distances.amax(-1) + mu * math.log(tasks) + 1e-12).all())
    shares = ((distances - distances.amax(-1, keepdim=True)) / mu).exp()
    torch.testing.assert_close(weights_of(strategy, losses), shares / shares.sum(-1, keepdim=True) / tasks)
    sharp = weights_of(build(registry, "stch", shape, hyper={"mu": 1e-9}), losses)
    torch.testing.assert_close(sharp, nn.functional.one_hot(losses.argmax(-1), tasks).double() / tasks)


@given(shape=shapes, seed=numbers, mu=st.floats(0.2, 20), warm_up=st.integers(1, 3))
def test_stch_warms_up_on_logarithms(
    registry: Registry, shape: tuple[int, int], seed: int, mu: float, warm_up: int
) -> None:
    strategy = build(registry, "stch", shape, hyper={"mu": mu, "warm_up": warm_up})
    last = torch.ones(shape, dtype=torch.float64)
    for epoch in range(warm_up + 2):
        losses, mean = problem(shape, seed + epoch)[0], problem(shape, seed + 10 + epoch)[0]
        if epoch < warm_up:
            expected, last = 1 / losses, mean
        else:
            powers = (losses / last) ** (1 / mu)
            expected = shape[1] * powers / powers.sum(-1, keepdim=True) / losses
        torch.testing.assert_close(weights_of(strategy, losses, epoch=epoch), expected)
        strategy.epoch_end(mean)


@given(
    shape=shapes,
    seed=numbers,
    lr=st.floats(0.001, 0.5),
    decay=st.sampled_from([0.0, 1e-3, 0.1]),
    least=st.sampled_from([0.0, -1.0]),
)
def test_famo_is_torchs_adam_on_its_logits(
    registry: Registry, shape: tuple[int, int], seed: int, lr: float, decay: float, least: float
) -> None:
    strategy = build(registry, "famo", shape, hyper={"lr": lr, "weight_decay": decay, "least": least})
    logits = nn.Parameter(torch.zeros(shape, dtype=torch.float64))
    optimizer = torch.optim.Adam([logits], lr=lr, weight_decay=decay)
    for step in range(5):
        before, after = problem(shape, seed + step)[0], problem(shape, seed + 10 + step)[0]
        shares = logits.softmax(-1)
        parts = shares.detach() / (before - least + 1e-8)
        weights = weights_of(strategy, before, index=step)
        torch.testing.assert_close(weights, parts / parts.sum(-1, keepdim=True), rtol=1e-8, atol=0)
        torch.testing.assert_close(weights.sum(-1), torch.ones(shape[0], dtype=torch.float64))
        gains = (before - least + 1e-8).log() - (after - least + 1e-8).log()
        optimizer.zero_grad()
        shares.backward(gains)
        optimizer.step()
        strategy.after_update(after)


def best_groups(values: Array, groups: int) -> Array:
    """Each value replaced by its group's mean, in the best of all partitions into at most `groups` intervals."""
    order = np.argsort(values)
    best, least = values, np.inf
    for cuts in itertools.product([False, True], repeat=len(values) - 1):
        if sum(cuts) < groups:
            parts = np.split(order, [i + 1 for i, cut in enumerate(cuts) if cut])
            filled = np.empty_like(values)
            for part in parts:
                filled[part] = values[part].mean()
            cost = float(((filled - values) ** 2).sum())
            if cost < least:
                best, least = filled, cost
    return best


@given(tasks=st.integers(2, 6), groups=st.integers(1, 8), seed=numbers, beta=st.sampled_from([0.0, 1e-4, 0.3]))
def test_go4align_clusters_as_by_enumeration(
    registry: Registry, tasks: int, groups: int, seed: int, beta: float
) -> None:
    strategy = build(registry, "go4align", (2, tasks), hyper={"groups": groups, "beta": beta})
    indicator = np.full((2, tasks), 1 / tasks)
    for step in range(3):
        losses, _ = problem((2, tasks), seed + step)
        risks = losses.numpy()
        indicator = indicator * np.exp(-beta * risks)
        indicator /= indicator.sum(-1, keepdims=True)
        scaled = indicator * risks.sum(-1, keepdims=True) / risks
        expected = np.array([best_groups(row, groups) for row in scaled])
        torch.testing.assert_close(weights_of(strategy, losses, index=step), torch.from_numpy(expected))


@given(tasks=st.integers(2, 6), seed=numbers)
def test_go4align_with_one_group_weighs_alike_and_with_t_each_alone(registry: Registry, tasks: int, seed: int) -> None:
    losses, _ = problem((2, tasks), seed)
    one = weights_of(build(registry, "go4align", (2, tasks), hyper={"groups": 1}), losses)
    torch.testing.assert_close(one, one[:, :1].expand_as(one))
    alone = weights_of(build(registry, "go4align", (2, tasks), hyper={"groups": tasks, "beta": 0.0}), losses)
    torch.testing.assert_close(alone * losses, losses.mean(-1, keepdim=True).expand_as(losses))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_go4align_clusters_beside_a_loss_of_zero(registry: Registry, dtype: torch.dtype) -> None:
    losses = torch.tensor([[0.0, 2.0, 1.0]], dtype=dtype)
    strategy = build(registry, "go4align", (1, 3), hyper={"beta": 0.0}).to(dtype)
    weights = weigh(strategy, given_step(losses))[0]
    shared = torch.tensor([[(3 / 2 + 3 / 1) / 3 / 2]], dtype=dtype)
    torch.testing.assert_close(weights[:, 1:], shared.expand(1, 2))
    assert 1e10 < float(weights[0, 0]) < math.inf


def drawn_weights(registry: Registry, distribution: str, tasks: int) -> Tensor:
    """The weights of 4,000 seeds, `[K, T]`."""
    losses = torch.ones(4000, tasks, dtype=torch.float64)
    strategy = build(registry, "rlw", (4000, tasks), hyper={"distribution": distribution})
    step = Step(
        losses.requires_grad_(),
        GivenGradients(torch.zeros(4000, tasks, 1, dtype=torch.float64)),
        index=torch.tensor(3),
        epoch=torch.tensor(0),
        seeds=torch.arange(4000),
    )
    return weigh(strategy, step)[0]


@pytest.mark.parametrize("tasks", [2, 5])
def test_rlw_draws_normal_logits_or_uniformly_on_the_simplex(registry: Registry, tasks: int) -> None:
    normal, dirichlet = drawn_weights(registry, "normal", tasks), drawn_weights(registry, "dirichlet", tasks)
    for weights in (normal, dirichlet):
        torch.testing.assert_close(weights.sum(-1), torch.ones(len(weights), dtype=torch.float64))
        torch.testing.assert_close(weights.mean(0), torch.full_like(weights[0], 1 / tasks), rtol=0.05, atol=0)
    logs = normal.log()
    for one, other in itertools.combinations(range(tasks), 2):
        gap = (logs[:, one] - logs[:, other]) / math.sqrt(2)
        assert stats.kstest(gap.numpy(), "norm").pvalue > 1e-3
    for task in range(tasks):
        assert stats.kstest(dirichlet[:, task].numpy(), stats.beta(1, tasks - 1).cdf).pvalue > 1e-3
    covariance = torch.from_numpy(stats.dirichlet.cov(np.ones(tasks)))
    torch.testing.assert_close(dirichlet.T.cov(), covariance, rtol=0.15, atol=0.002)
