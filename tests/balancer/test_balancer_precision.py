"""A Balancer under autocast, with a gradient scaler and in half precision."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mtlbench import Balancer, Step, Strategy, UserError
from mtlbench.balancer.products import gramian_of
from tests.helpers.loops import NAMES, Net, make, scalar


@pytest.mark.parametrize("name", NAMES)
def test_under_autocast_the_strategy_runs_in_full_precision(name: str) -> None:
    """Inside and outside an autocast block, weights and gradients are the same, and gradients are float32."""
    found: list[tuple[Tensor, dict[str, Tensor | None]]] = []
    for inside in (True, False):
        net = Net(2, dtype=torch.float32)
        balance = make(name, net)
        with torch.autocast("cpu", torch.bfloat16):
            features = net.trunk(net.x)
            losses = net.losses(features)

        def further(net: Net = net) -> list[Tensor]:
            with torch.autocast("cpu", torch.bfloat16):
                return net.losses(net.trunk(net.x.flip(-1)))

        with torch.autocast("cpu", torch.bfloat16, enabled=inside):
            total = balance(losses, features, further=further)
        total.backward()
        found.append((balance.weights, net.gradients()))
    (weights, gradients), (same_weights, same_gradients) = found
    assert torch.equal(weights, same_weights)
    for key, grad in gradients.items():
        other = same_gradients[key]
        assert grad is not None
        assert other is not None
        assert grad.dtype == torch.float32
        assert torch.equal(grad, other)
        assert bool(grad.isfinite().all())


def test_further_losses_are_computed_under_the_callers_autocast() -> None:
    net, seen = Net(2, dtype=torch.float32), list[torch.dtype]()

    def further() -> list[Tensor]:
        features = net.trunk(net.x)
        seen.append(net.heads[0](features.flatten(1)).dtype)
        return net.losses(features)

    with torch.autocast("cpu", torch.bfloat16):
        make("modo", net)(net.losses(net.trunk(net.x)), further=further)
    assert seen == [torch.bfloat16] * 2


@pytest.mark.parametrize("name", NAMES)
def test_scaling_by_a_power_of_two_changes_nothing(name: str) -> None:
    """A power of two changes no digit of float32, so results must be equal bit for bit."""
    trained: list[Tensor] = []
    for enabled in (False, True):
        net = Net(2, dtype=torch.float32)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, enabled=enabled)
        balance = Balancer(name, tasks=2, shared=net.trunk, scaler=scaler)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
        for _ in range(3):
            optimizer.zero_grad()
            scaler.scale(net.balanced(balance)).backward()
            scaler.step(optimizer)
            scaler.update()
            balance.after_update(lambda net=net: net.losses(net.trunk(net.x)))
        trained.append(torch.cat([p.detach().flatten() for p in [*net.parameters(), *balance.parameters()]]))
    assert torch.equal(*trained)


def small_step(dtype: torch.dtype, scale: float) -> tuple[Tensor, torch.amp.GradScaler, Balancer]:
    """A step of MGDA on losses whose gradients with respect to activations are too small for half precision."""
    net = Net(2, dtype=torch.float32)
    scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    balance = Balancer("mgda", tasks=2, shared=net.trunk, scaler=scaler)
    before = torch.cat([p.detach().flatten() for p in net.parameters()])
    optimizer = torch.optim.SGD(net.parameters(), lr=1e6)
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        losses = [1e-7 * loss for loss in net.losses(net.trunk(net.x))]
    scaler.scale(balance(losses)).backward()
    scaler.step(optimizer)
    scaler.update()
    return torch.cat([p.detach().flatten() for p in net.parameters()]) - before, scaler, balance


def test_the_scale_preserves_small_gradients_in_half_precision() -> None:
    expected, _, _ = small_step(torch.float32, 1.0)
    found, _, _ = small_step(torch.float16, 2.0**20)
    lost, _, _ = small_step(torch.float16, 1.0)
    assert float((found - expected).norm() / expected.norm()) < 0.02
    assert float((lost - expected).norm() / expected.norm()) > 0.2


def test_a_step_with_overflowing_gradients_is_skipped_entirely() -> None:
    moved, scaler, balance = small_step(torch.float16, 2.0**45)
    assert not moved.any()
    assert scaler.get_scale() == 2.0**44
    assert balance.index == 0
    assert bool(balance.weights.isnan().all())


@pytest.mark.parametrize("name", NAMES)
def test_with_a_scaler_an_infinite_loss_leaves_the_strategy_unchanged(name: str) -> None:
    net = Net(2, dtype=torch.float32)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    balance = Balancer(name, tasks=2, shared=net.trunk, scaler=scaler)
    optimizer = torch.optim.SGD(net.parameters(), 0.01)
    for step in range(4):
        features = net.trunk(net.x)
        losses = net.losses(features)
        if step == 1:
            losses[0] = losses[0] * torch.inf
        optimizer.zero_grad()
        scaler.scale(balance(losses, features, further=lambda: net.losses(net.trunk(net.x)))).backward()
        scaler.step(optimizer)
        scaler.update()
        balance.after_update(lambda: net.losses(net.trunk(net.x)))
        assert balance.index == (step if step else 1)
    assert scaler.get_scale() == 2
    assert bool(balance.weights.isfinite().all())
    assert all(bool(value.isfinite().all()) for value in balance.strategy.state_dict().values())


def test_losses_after_an_update_are_those_of_the_updated_network_under_autocast() -> None:
    """Autocast caches half-precision copies of parameters until its block ends."""
    states: list[Tensor] = []
    for inside in (True, False):
        net = Net(2, dtype=torch.float32)
        balance = Balancer("famo", tasks=2)
        optimizer = torch.optim.SGD(net.parameters(), 0.1)
        for _ in range(5):
            with torch.autocast("cpu", torch.bfloat16):
                losses = net.losses(net.trunk(net.x))
                optimizer.zero_grad()
                balance(losses).backward()
                optimizer.step()
                if inside:
                    balance.after_update(lambda net=net: net.losses(net.trunk(net.x)))
            if not inside:
                with torch.autocast("cpu", torch.bfloat16):
                    balance.after_update(lambda net=net: net.losses(net.trunk(net.x)))
        states.append(balance.strategy.state_dict()["logits"])
    assert bool(states[0].any())
    torch.testing.assert_close(states[0], states[1])


@pytest.mark.parametrize("exponent", [-80, -60, 60])
def test_gradients_of_any_size_in_float32_have_the_same_gramian(exponent: int) -> None:
    """Squares of lengths below 2^-63 or above 2^63 are not in range; a power of two changes no digit."""
    net = Net(3, dtype=torch.float32)
    gramians: list[Tensor] = []
    for factor in (1.0, 2.0**exponent):
        terms = [loss * factor for loss in net.losses(net.trunk(net.x))]
        shared = list(net.trunk.parameters())
        rows = [torch.autograd.grad(term, shared, retain_graph=True) for term in terms]
        gramians.append(gramian_of([[part.flatten() for part in row] for row in rows]).double() / factor**2)
    torch.testing.assert_close(gramians[1], gramians[0], rtol=1e-6, atol=0)
    assert bool((gramians[1].diagonal() > 0).all())


@pytest.mark.parametrize("name", NAMES)
def test_a_default_dtype_of_half_precision_changes_nothing(name: str) -> None:
    states: list[dict[str, Any]] = []
    for default in (torch.float32, torch.bfloat16):
        torch.set_default_dtype(default)
        try:
            trunk, heads = nn.Linear(3, 4, dtype=torch.float32), nn.Linear(4, 3, dtype=torch.float32)
            for parameter in (*trunk.parameters(), *heads.parameters()):
                nn.init.constant_(parameter, 0.1)
            balance = Balancer(name, tasks=3, shared=None if takes_losses_alone(name) else trunk)

            def losses(features: Tensor, heads: nn.Module = heads) -> Tensor:
                return (heads(features) - torch.arange(3)).square().mean(0)

            for _ in range(3):
                features = trunk(torch.ones(2, 3, dtype=torch.float32)).relu()
                balance(losses(features), features, further=lambda features=features: losses(features)).backward()
                balance.after_update(losses(features) * 0.9)
            balance.epoch_end()
            states.append(balance.state_dict())
        finally:
            torch.set_default_dtype(torch.float32)
    one, other = states
    for key, value in one.items():
        if isinstance(value, Tensor):
            assert value.dtype == other[key].dtype
            assert torch.equal(value, other[key]), key


@cache
def takes_losses_alone(name: str) -> bool:
    try:
        Balancer(name, tasks=2)([scalar(), scalar()])
    except UserError as error:
        assert "shared" in str(error)
        return False
    return True


@pytest.mark.parametrize("name", NAMES)
def test_losses_in_float64_are_weighed_in_float64(name: str) -> None:
    """Without `shared`, nothing else tells the dtype; a state is loaded in the dtype in which it was saved."""
    if not takes_losses_alone(name):
        return
    balances = [Balancer(name, tasks=3), Balancer(name, tasks=3).double()]
    for step in range(3):
        totals: list[Tensor] = []
        for balance in balances:
            x = torch.tensor([0.3, 2.0, 5.0], dtype=torch.float64, requires_grad=True)
            totals.append(balance(x * (1 + step / 3)))
            balance.after_update(x)
        assert totals[0].dtype == torch.float64
        torch.testing.assert_close(*totals, rtol=1e-7, atol=0)
        again = Balancer(name, tasks=3)
        again.load_state_dict(balances[0].state_dict())
        assert torch.equal(again.weights, balances[0].weights)
        balances[0] = again


def test_lbfgs_finds_the_minimum_in_float64() -> None:
    x = torch.tensor([3.0, -2.0], dtype=torch.float64, requires_grad=True)
    balance = Balancer("fixed:weights=[0.3,7]", tasks=2)
    optimizer = torch.optim.LBFGS(
        [x], max_iter=200, tolerance_grad=1e-12, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        total = balance([(x - 1).pow(4).sum() + x.square().sum(), (x[0] * x[1] - 2).square()])
        total.backward()
        return total

    optimizer.step(closure)
    assert x.grad is not None
    assert float(x.grad.norm()) < 1e-7  # in float32, 1e-4


def test_losses_after_an_update_may_contain_derivatives() -> None:
    """As those of physics: the residual of u' = -u."""
    net = nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 1))

    def losses() -> list[Tensor]:
        x = torch.linspace(0, 1, 8).view(-1, 1).requires_grad_()
        u = net(x)
        (slope,) = torch.autograd.grad(u.sum(), x, create_graph=True)
        return [(slope + u).square().mean(), (net(torch.zeros(1, 1)) - 1).square().mean()]

    given: list[Tensor] = []

    class Keeps(Strategy):
        def forward(self, step: Step) -> Tensor:
            return step.losses.sum(-1)

        def after_update(self, losses_after: Tensor) -> None:
            given.append(losses_after)

    balance = Balancer(Keeps, tasks=2)
    for mode in (torch.enable_grad, torch.no_grad, torch.inference_mode):
        balance(losses()).backward()
        with mode():
            balance.after_update(losses)
    assert torch.equal(given[2], torch.stack(losses()).unsqueeze(0))
    assert not any(values.requires_grad or values.is_inference() for values in given)
