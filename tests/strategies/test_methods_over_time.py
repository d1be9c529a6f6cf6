"""Methods whose state or direction goes beyond one Gramian, against plain loops over explicit gradients in float64."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from mtlbench.contracts.strategy import Step, Strategy
from mtlbench.plugins.registry import Registry
from tests.helpers.toy import GivenGradients, build, given_step, uneven_problem, weigh

Array = NDArray[np.float64]
REPLICAS, FEATURES, STEPS = 3, 9, 5
task_counts = st.integers(2, 4)
numbers = st.integers(0, 2**20)
few = settings(max_examples=30)  # each example is a stack of problems over several steps


def play(strategy: Strategy, tasks: int, seed: int) -> list[tuple[Array, Array, Array, Array, list[Array]]]:
    """Several steps: losses `[K, T]`, Jacobian `[K, T, P]`, weights, direction `[K, P]`, two further Jacobians."""
    played: list[tuple[Array, Array, Array, Array, list[Array]]] = []
    for index in range(STEPS):
        problems = [uneven_problem(tasks, seed + 1000 * i + index, replicas=REPLICAS) for i in range(3)]
        losses, jacobian = problems[0]
        further = problems[1][1], problems[2][1]
        step = given_step(losses, jacobian, index=index, further=further)
        weights, _ = weigh(strategy, step)
        chosen = (weights.unsqueeze(1) @ jacobian).squeeze(1) if step.direction is None else step.direction
        # Buffers are written in place.
        seen = [tensor.clone().numpy() for tensor in (losses, jacobian, weights, chosen)]
        played.append((seen[0], seen[1], seen[2], seen[3], [tensor.numpy() for tensor in further]))
    return played


def on_simplex(v: Array) -> Array:
    """The nearest point of the simplex, by bisection on what is taken off every entry."""
    low, high = float(v.min()) - 1, float(v.max())
    for _ in range(70):
        middle = (low + high) / 2
        low, high = (middle, high) if np.maximum(v - middle, 0).sum() > 1 else (low, middle)
    return np.maximum(v - high, 0)


def equal_shares(tasks: int) -> Array:
    """1 / T as a buffer holds it, which is made in float32."""
    return np.full((REPLICAS, tasks), np.float32(1 / tasks)).astype(np.float64)


def assert_close(found: Array, expected: Array) -> None:
    assert np.linalg.norm(found - expected) < 1e-8 * np.linalg.norm(expected)


@few
@given(tasks=task_counts, seed=numbers, beta=st.floats(0.05, 1), gamma=st.floats(1e-3, 1), rho=st.floats(0, 1))
def test_moco_is_its_loop(registry: Registry, tasks: int, seed: int, beta: float, gamma: float, rho: float) -> None:
    hyper: dict[str, object] = {"beta": beta, "gamma": gamma, "rho": rho, "decay": 0.5}
    averages, shares = np.zeros((REPLICAS, tasks, FEATURES)), equal_shares(tasks)
    steps = play(build(registry, "moco", (REPLICAS, tasks), FEATURES, hyper=hyper), tasks, seed)
    for k, (_, jacobian, weights, found, _) in enumerate(steps, start=1):
        for r in range(REPLICAS):
            averages[r] += beta / np.sqrt(k) * (jacobian[r] - averages[r])
            slope = (averages[r] @ averages[r].T + rho * np.eye(tasks)) @ shares[r]
            shares[r] = on_simplex(shares[r] - gamma / np.sqrt(k) * slope)
            assert_close(weights[r], shares[r])
            assert_close(found[r], shares[r] @ averages[r])


@few
@given(tasks=task_counts, seed=numbers, gamma=st.floats(1e-4, 0.1), rho=st.floats(0, 1))
def test_modo_is_its_loop(registry: Registry, tasks: int, seed: int, gamma: float, rho: float) -> None:
    shares = equal_shares(tasks)
    strategy = build(registry, "modo", (REPLICAS, tasks), hyper={"gamma": gamma, "rho": rho})
    for _, jacobian, weights, found, (one, other) in play(strategy, tasks, seed):
        for r in range(REPLICAS):
            slope = one[r] @ (other[r].T @ shares[r]) + rho * shares[r]
            shares[r] = on_simplex(shares[r] - gamma * slope)
            assert_close(weights[r], shares[r])
            assert_close(found[r], shares[r] @ jacobian[r])


@few
@given(
    tasks=task_counts,
    seed=numbers,
    strength=st.floats(0, 2),
    rate=st.floats(0.1, 10),
    momentum=st.floats(0, 0.9),
    steps=st.integers(1, 8),
)
def test_sdmgrad_is_its_loop(
    registry: Registry, tasks: int, seed: int, strength: float, rate: float, momentum: float, steps: int
) -> None:
    hyper: dict[str, object] = {"strength": strength, "rate": rate, "momentum": momentum, "steps": steps}
    shares = torch.from_numpy(equal_shares(tasks))
    strategy = build(registry, "sdmgrad", (REPLICAS, tasks), hyper=hyper)
    for _, jacobian, weights, found, (one, other) in play(strategy, tasks, seed):
        for r in range(REPLICAS):
            products = torch.from_numpy(one[r] @ other[r].T)
            length = products.diag().clamp_min(0).sqrt().mean()
            v = nn.Parameter(shares[r].clone())
            optimizer = torch.optim.SGD([v], lr=rate, momentum=momentum)
            for _ in range(steps):
                v.grad = products @ (v.detach() + strength / tasks) / (length**2 + 1e-8)
                optimizer.step()
                v.data.copy_(torch.from_numpy(on_simplex(v.detach().numpy())))
            shares[r] = v.detach()
            expected = ((shares[r] + strength / tasks) / (1 + strength)).numpy()
            assert_close(weights[r], expected)
            assert_close(found[r], expected @ jacobian[r])


@few
@given(tasks=task_counts, seed=numbers, eta=st.floats(1e-3, 2))
def test_excessmtl_is_its_loop(registry: Registry, tasks: int, seed: int, eta: float) -> None:
    squares = np.zeros((REPLICAS, tasks, FEATURES))
    logs, first = np.zeros((REPLICAS, tasks)), np.zeros((REPLICAS, tasks))
    strategy = build(registry, "excessmtl", (REPLICAS, tasks), FEATURES, hyper={"eta": eta})
    for index, (_, jacobian, weights, _, _) in enumerate(play(strategy, tasks, seed)):
        squares += jacobian**2
        risks = (jacobian**2 / np.sqrt(squares + 1e-7)).sum(-1)
        if index == 0:
            first = risks
        else:
            logs += eta * risks / first
        shares = np.exp(logs - logs.max(-1, keepdims=True))
        assert_close(weights, tasks * shares / shares.sum(-1, keepdims=True))


@few
@given(tasks=task_counts, seed=numbers, beta=st.floats(0, 0.95), decay=st.floats(0, 1))
def test_db_mtl_is_its_loop(registry: Registry, tasks: int, seed: int, beta: float, decay: float) -> None:
    averages = np.zeros((REPLICAS, tasks, FEATURES))
    hyper: dict[str, object] = {"beta": beta, "decay": decay}
    strategy = build(registry, "db-mtl", (REPLICAS, tasks), FEATURES, hyper=hyper)
    for k, (losses, jacobian, weights, found, _) in enumerate(play(strategy, tasks, seed), start=1):
        logs = jacobian / (losses + 1e-8)[..., None]
        averages = logs + beta / k**decay * (averages - logs)
        lengths = np.linalg.norm(averages, axis=-1)
        factors = lengths.max(-1, keepdims=True) / lengths
        assert_close(found, (factors[..., None] * averages).sum(1))
        assert_close(weights, (1.0 if beta else factors) / (losses + 1e-8))


@few
@given(tasks=task_counts, seed=numbers)
def test_imtl_balances_losses_and_then_gradients(registry: Registry, tasks: int, seed: int) -> None:
    strategy = build(registry, "imtl", (REPLICAS, tasks), FEATURES)
    (scales,) = strategy.parameters()
    for index in range(STEPS):
        losses, jacobian = uneven_problem(tasks, seed + index, replicas=REPLICAS)
        weights, (grad,) = weigh(strategy, given_step(losses, jacobian, index=index))
        factors = scales.detach().exp()
        shares = weights / factors
        torch.testing.assert_close(shares.sum(-1), torch.ones(REPLICAS, dtype=torch.float64))
        d = ((shares * factors).unsqueeze(1) @ jacobian).squeeze(1)
        d /= d.norm(dim=-1, keepdim=True)
        projections = (jacobian @ d.unsqueeze(-1)).squeeze(-1) / jacobian.norm(dim=-1)
        torch.testing.assert_close(projections, projections[:, :1].expand_as(projections), rtol=0, atol=1e-9)
        torch.testing.assert_close(grad, factors * losses - 1)
        scales.data -= 0.3 * grad.clamp(-1, 1)


@few
@given(tasks=task_counts, seed=numbers, beta=st.floats(0, 1))
def test_gradvac_is_its_loop(registry: Registry, tasks: int, seed: int, beta: float) -> None:
    usual = np.zeros((REPLICAS, tasks, tasks))
    strategy = build(registry, "gradvac", (REPLICAS, tasks), FEATURES, hyper={"beta": beta})
    for index, (_, jacobian, _, found, _) in enumerate(play(strategy, tasks, seed)):
        orders = given_step(torch.zeros(REPLICAS, tasks), index=index).rand(tasks, tasks).argsort(-1).numpy()
        for r, gradients in enumerate(jacobian):
            total = np.zeros(FEATURES)
            for i in range(tasks):
                h = gradients[i].copy()
                for j in orders[r, i]:
                    if j == i:
                        continue
                    g, p = gradients[j], usual[r, i, j]
                    cosine = h @ g / np.linalg.norm(h) / np.linalg.norm(g)
                    if cosine < p:
                        turn = p * np.sqrt(1 - cosine**2) - cosine * np.sqrt(1 - p**2)
                        h = h + np.linalg.norm(h) * turn / (np.linalg.norm(g) * np.sqrt(1 - p**2)) * g
                    usual[r, i, j] = (1 - beta) * p + beta * cosine
                total += h
            assert_close(found[r], total)


@given(seed=numbers, targets=st.tuples(st.floats(-0.95, 0.95), st.floats(-0.95, 0.95)))
def test_gradvac_turns_a_gradient_to_its_target(registry: Registry, seed: int, targets: tuple[float, float]) -> None:
    losses, jacobian = uneven_problem(2, seed)
    strategy = build(registry, "gradvac", (len(losses), 2), hyper={"beta": 0.0})
    strategy.get_buffer("usual")[:, 0, 1], strategy.get_buffer("usual")[:, 1, 0] = targets
    extra = weigh(strategy, given_step(losses, jacobian))[0].unsqueeze(-1) - 1  # of g_t, added to the other gradient
    turned = jacobian + extra.flip(1) * jacobian.flip(1)
    before = torch.cosine_similarity(jacobian, jacobian.flip(1), dim=-1)
    after = torch.cosine_similarity(turned, jacobian.flip(1), dim=-1)
    torch.testing.assert_close(after, before.maximum(torch.tensor(targets, dtype=torch.float64)))


@few
@given(tasks=task_counts, seed=numbers)
def test_gradvac_without_targets_is_pcgrad(registry: Registry, tasks: int, seed: int) -> None:
    shape = (REPLICAS, tasks)
    vaccine = play(build(registry, "gradvac", shape, hyper={"beta": 0.0}), tasks, seed)
    surgery = play(build(registry, "pcgrad", shape), tasks, seed)
    for one, other in zip(vaccine, surgery, strict=True):
        assert_close(one[2], other[2])


class Features(GivenGradients):
    """Gradients of a representation `[K, T, B, F]`."""

    def __init__(self, gradients: Tensor) -> None:
        super().__init__(gradients.flatten(2))
        self._gradients = gradients

    def representation_gradients(self) -> Tensor:
        return self._gradients


def drop(registry: Registry, gradients: Tensor, leak: float) -> tuple[Tensor, Tensor]:
    """Weights `[K, T]` and what the representation passes on, `[K, B, F]`."""
    replicas, tasks = gradients.shape[:2]
    step = Step(
        torch.ones(replicas, tasks, dtype=torch.float64, requires_grad=True),
        Features(gradients),
        index=torch.tensor(2),
        epoch=torch.tensor(0),
        seeds=torch.arange(replicas),
    )
    weights, _ = weigh(build(registry, "graddrop", (replicas, tasks), hyper={"leak": leak}), step)
    assert step.representation_direction is not None
    return weights, step.representation_direction


@given(tasks=task_counts, seed=numbers, leak=st.floats(0, 1))
def test_graddrop_keeps_one_sign_at_each_feature(registry: Registry, tasks: int, seed: int, leak: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    gradients = torch.randn(4, tasks, 5, 6, generator=generator, dtype=torch.float64)
    weights, found = drop(registry, gradients, leak)
    assert torch.equal(weights, torch.ones_like(weights))
    positive = (gradients.sum(2, keepdim=True) > 0).double()  # [K, T, 1, F]
    up = (gradients * (leak + (1 - leak) * positive)).sum(1)
    down = (gradients * (leak + (1 - leak) * (1 - positive))).sum(1)
    matches = torch.stack([torch.isclose(found, either, atol=1e-12).all(1) for either in (up, down)])
    assert bool(matches.any(0).all())  # [K, F]


@given(tasks=task_counts, seed=numbers)
def test_graddrop_without_drops_is_the_sum(registry: Registry, tasks: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    gradients = torch.randn(4, tasks, 5, 6, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(drop(registry, gradients, 1.0)[1], gradients.sum(1))
    one_sign = gradients.abs() * torch.tensor([1.0, -1.0, 1.0, 1.0, -1.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(drop(registry, one_sign, 0.0)[1], one_sign.sum(1))


def test_graddrop_draws_the_positive_sign_with_its_share(registry: Registry) -> None:
    gradients = torch.tensor([[1.0, 3.0, 0.2], [-1.0, -1.0, -1.8]], dtype=torch.float64)
    replicas = 4000
    _, found = drop(registry, gradients[None, :, None].expand(replicas, -1, 1, -1), 0.0)
    shares = torch.tensor([0.5, 0.75, 0.1], dtype=torch.float64)
    error = (shares * (1 - shares) / replicas).sqrt()
    assert bool((((found[:, 0] > 0).double().mean(0) - shares).abs() < 4 * error).all())
    # One draw for all tasks at a feature, another for each feature.
    signs = (found[:, 0] > 0).double().T.corrcoef() - torch.eye(3, dtype=torch.float64)
    assert float(signs.abs().max()) < 4 / replicas**0.5


@few
@given(tasks=task_counts, seed=numbers)
def test_graddrop_expects_each_sign_in_its_share(registry: Registry, tasks: int, seed: int) -> None:
    """Over draws, the gradient at a feature is P times the positive part plus (1 - P) times the negative part."""
    generator = torch.Generator().manual_seed(seed)
    gradients = torch.randn(1, tasks, 1, 6, generator=generator, dtype=torch.float64)
    _, found = drop(registry, gradients.expand(2000, -1, -1, -1), 0.0)
    positive, negative = gradients.clamp_min(0).sum(1), gradients.clamp_max(0).sum(1)  # [1, 1, F]
    share = positive / (positive - negative)
    spread = (share * (1 - share)).sqrt() * (positive - negative) / 2000**0.5
    error = found.mean(0, keepdim=True) - share * positive - (1 - share) * negative
    assert bool((error.abs() < 6 * spread + 1e-12).all())
