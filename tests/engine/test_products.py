"""The two libraries of products and both precisions, compared with float64; and stacks that take turns."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mtlbench.contracts.setup import Setup
from mtlbench.engine import products as products_module
from mtlbench.engine.gradients import ghost_product
from mtlbench.engine.layers import explicit_jacobian
from mtlbench.engine.network import Network
from mtlbench.engine.products import Products, joined, library
from mtlbench.engine.trainer import Trainer
from mtlbench.engine.turns import Turns, trainer_of
from mtlbench.errors import UserError
from mtlbench.plugins.registry import Registry
from mtlbench.setups import MNIST
from tests.helpers.toy import toy_setup

ROUNDING = {"float32": 1e-5, "bf16": 1.5e-2}
"""Of each sum, relative to that of its terms' absolute values; bfloat16 has 8 bits."""
EVERY = [Products("bmm"), Products("onednn"), Products("bmm", "bf16"), Products("onednn", "bf16")]
every_products = pytest.mark.parametrize("products", EVERY, ids=lambda each: f"{each.library}-{each.precision}")
sizes = st.integers(1, 40)
ZEN_5 = "processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 26\nmodel\t: 2"


@pytest.fixture(autouse=True)
def each_replica_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let oneDNN multiply small matrices too."""
    monkeypatch.setattr(products_module, "SMALLEST", 1)


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def assert_is_product(found: Tensor, a: Tensor, b: Tensor, precision: str, added: Tensor | float = 0.0) -> None:
    a, b, added = a.double(), b.double(), torch.as_tensor(added).double()
    size = a.abs() @ b.abs() + added.abs()
    assert found.dtype == torch.float32
    assert bool(((found - (a @ b + added)).abs() <= ROUNDING[precision] * size).all())


@every_products
@given(replicas=st.integers(1, 3), rows=sizes, into=sizes, out=sizes, seed=st.integers(0, 2**20), flip=st.booleans())
@settings(max_examples=40)
def test_products_are_those_of_float64(
    products: Products, replicas: int, rows: int, into: int, out: int, seed: int, *, flip: bool
) -> None:
    """Also of transposed views, of inputs that all replicas share, and into views of a larger tensor."""
    x = random(rows, into, seed=seed).expand(replicas, -1, -1) if flip else random(replicas, rows, into, seed=seed)
    weight, bias = random(replicas, out, into, seed=seed + 1), random(replicas, out, seed=seed + 2)
    delta = random(replicas, out, rows, seed=seed + 3).mT if flip else random(replicas, rows, out, seed=seed + 3)
    operand, precision = products.operand, products.precision
    assert_is_product(products.affine(operand(x), operand(weight), bias), x, weight.mT, precision, bias[:, None])
    assert_is_product(products.multiply(operand(delta), operand(weight)), delta, weight, precision)
    pieces = products.pieces(weight)
    products.write_gradient(operand(delta).mT, operand(x), pieces)
    assert_is_product(joined(pieces), delta.mT, x, precision)
    assert joined(pieces).shape == weight.shape
    assert all(piece.data_ptr() == weight[k].data_ptr() for k, piece in enumerate(pieces))
    wide = torch.zeros(replicas, 2, out, into)
    products.multiply_into(operand(delta).mT, operand(x), wide[:, 1])
    assert_is_product(wide[:, 1], delta.mT, x, precision)
    assert not wide[:, 0].any()


@every_products
def test_inner_products_of_gradients_are_in_float32_at_either_precision(products: Products) -> None:
    x, deltas = random(2, 9, 30, seed=0), random(2, 3, 9, 20, seed=1)
    jacobian = explicit_jacobian(x.double(), deltas.double())
    assert_is_product(ghost_product(x, deltas, x, deltas, products), jacobian, jacobian.mT, "float32")
    ours = explicit_jacobian(x, deltas, products=products)
    torch.testing.assert_close(ours, jacobian.float(), rtol=0, atol=1e-5)


@every_products
def test_a_network_writes_any_gradient(products: Products) -> None:
    network = Network((0, 1), (30, 20, 10), [3, 1], products=products)
    direction = random(2, sum(network.trunk_sizes), seed=5)
    network.write_trunk_gradient(direction)
    parts = [grad.flatten(1) for layer in network.trunk for grad in (layer.weight_grad, layer.bias_grad)]
    assert torch.equal(torch.cat(parts, 1), direction)
    assert sum(piece.numel() for piece in network.pieces) == network.parameters.numel()


def trainer(
    registry: Registry,
    label: str,
    products: Products,
    *,
    setup: Setup | None = None,
    seeds: tuple[int, ...] = (3, 0, 11),
    build: Callable[..., Trainer | Turns] = Trainer,
) -> Trainer | Turns:
    setup = setup or toy_setup()
    make = partial(registry.build, registry.parse(label, setup))
    made = build(
        setup, make, seeds, setup.samples()[0], batch_size=6, lr=1e-2, device=torch.device("cpu"), products=products
    )
    made.start_epoch(0)
    return made


@pytest.mark.parametrize("label", ["fixed", "mgda", "gradnorm", "modo", "moco", "graddrop", "famo"])
def test_a_step_is_the_same_by_either_library(registry: Registry, label: str) -> None:
    bmm, onednn = (trainer(registry, label, Products(name)) for name in ("bmm", "onednn"))
    for each in (bmm, onednn):
        each.train(3)
    torch.testing.assert_close(onednn.state["parameters"], bmm.state["parameters"], rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(onednn.traces["losses"], bmm.traces["losses"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("label", ["fixed", "mgda", "gradnorm", "modo", "moco", "graddrop", "famo"])
def test_a_step_in_bf16_is_near_that_in_float32(registry: Registry, label: str) -> None:
    """Of losses after three steps; every state stays in float32."""
    exact, rounded = (trainer(registry, label, Products("bmm", name)) for name in ("float32", "bf16"))
    for each in (exact, rounded):
        each.train(3)
    torch.testing.assert_close(rounded.traces["losses"][:3], exact.traces["losses"][:3], rtol=0.1, atol=0.02)
    assert all(tensor.dtype != torch.bfloat16 for tensor in rounded.state.values())
    assert not torch.equal(rounded.state["parameters"], exact.state["parameters"])


@pytest.mark.parametrize("label", ["fixed", "gradnorm", "rlw", "famo", "db-mtl"])
def test_stacks_that_take_turns_train_as_one(registry: Registry, label: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over an epoch's end, with a restart from the kept state in between."""
    onednn = Products("onednn")
    monkeypatch.setattr(products_module, "cache_bytes", lambda: 2 * 4 * 4 * toy_setup().dense_weights)
    assert onednn.replicas(toy_setup().dense_weights, 3) == 2
    whole, turns, resumed = (trainer(registry, label, onednn, build=make) for make in (Trainer, trainer_of, trainer_of))
    assert isinstance(turns, Turns)
    for each in (whole, turns):
        each.train(each.steps_per_epoch)
        each.end_epoch()
    resumed.restore(turns.state)
    with pytest.raises(ValueError, match="does not fit"):
        resumed.restore({name: tensor for name, tensor in turns.state.items() if not name.startswith("1.")})
    for each in (whole, turns, resumed):
        each.start_epoch(1)
        each.train(4)
    for name, trace in whole.traces.items():
        torch.testing.assert_close(turns.traces[name], trace, rtol=1e-3, atol=1e-5)
        assert torch.equal(resumed.traces[name][:4], turns.traces[name][:4])
    split = toy_setup().samples()[1]
    for ours, theirs in zip(turns.evaluate(split), whole.evaluate(split), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def test_a_stack_fits_into_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    megabytes = 4 * 4 * MNIST.dense_weights / 2**20
    for cache, most in ((1, 1), (8, 1), (20, 2), (32, 3), (1000, 12)):
        monkeypatch.setattr(products_module, "cache_bytes", lambda cache=cache: cache << 20)
        assert Products("onednn").replicas(MNIST.dense_weights, 12) == most
        assert most in {1, 12} or most * megabytes <= cache
        assert Products("bmm").replicas(MNIST.dense_weights, 12) == 12


@pytest.mark.parametrize(
    ("processor", "mkl", "capability", "operator", "expected"),
    [
        (ZEN_5, True, "AVX512", True, "onednn"),
        ("AMD64 Family 26 Model 68 Stepping 0, AuthenticAMD", True, "AVX512", True, "onednn"),
        (ZEN_5, True, "AVX512", False, "bmm"),
        (ZEN_5, True, "AVX2", True, "bmm"),
        (ZEN_5, False, "AVX512", True, "bmm"),
        ("vendor_id\t: AuthenticAMD\ncpu family\t: 25\nmodel\t: 17", True, "AVX512", True, "bmm"),
        ("vendor_id\t: GenuineIntel\ncpu family\t: 26", True, "AVX512", True, "bmm"),
        ("", False, "DEFAULT", True, "bmm"),
    ],
)
def test_onednn_is_chosen_where_it_is_twice_as_fast(
    monkeypatch: pytest.MonkeyPatch, processor: str, mkl: bool, capability: str, operator: bool, expected: str
) -> None:
    monkeypatch.setattr(products_module, "_processor", lambda: processor)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: mkl)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(products_module, "has_onednn", lambda: operator)
    assert library("auto", "cpu") == expected
    assert library("auto", "cuda") == "bmm"
    assert library("bmm", "cpu") == "bmm"
    if not operator:
        with pytest.raises(UserError, match="onednn"):
            library("onednn", "cpu")


@pytest.mark.parametrize(("name", "device"), [("mkl", "cpu"), ("onednn", "cuda"), ("", "cpu")])
def test_products_that_cannot_be_had_are_refused(name: str, device: str) -> None:
    with pytest.raises(UserError, match="--products"):
        library(name, device)


@pytest.mark.parametrize(("name", "device"), [("bfloat16", "cpu"), ("bf16", "mps")])
def test_precisions_that_cannot_be_had_are_refused(name: str, device: str) -> None:
    with pytest.raises(UserError, match="--precision"):
        products_module.precision(name, device)
