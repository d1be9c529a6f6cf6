"""Both backward products against autograd, in float64, on random networks."""

from __future__ import annotations

from typing import Any, NoReturn

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mtlbench.gradients import TaskGradients, explicit_jacobian, ghost_product, layer_gramian
from mtlbench.network import Network
from mtlbench.setups import binary, classification, regression
from tests.toy import given_step

TOLERANCE = 1e-10
KINDS = (classification("classes", 3), binary("binary"), regression("real"))

networks = st.fixed_dictionaries(
    {
        "replicas": st.integers(1, 3),
        "widths": st.lists(st.integers(1, 9), min_size=2, max_size=4),
        "kinds": st.lists(st.sampled_from(KINDS), min_size=1, max_size=4),
        "batch": st.integers(1, 12),
        "seed": st.integers(0, 2**20),
    }
)


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm().clamp_min(1e-12))


class Reference:
    """The same network written replica by replica with `torch.nn`, differentiated by autograd."""

    def __init__(self, replicas: int, widths: list[int], kinds: list[Any], batch: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        columns = [task.columns for task in kinds]
        self.network = Network(list(range(seed, seed + replicas)), widths, columns, dtype=torch.float64)
        self.inputs = torch.randn(replicas, batch, widths[0], generator=generator, dtype=torch.float64)
        self.targets = torch.randint(0, 2, (replicas, batch, len(kinds)), generator=generator)
        self.kinds = kinds

    def task_losses(self, outputs: Tensor) -> Tensor:
        parts = zip(self.kinds, self.network.split_outputs(outputs), self.targets.unbind(-1), strict=True)
        return torch.stack([task.loss(out, target) for task, out, target in parts], dim=-1)

    def gradients(self) -> TaskGradients:
        def no_further_batch() -> NoReturn:
            raise AssertionError("no further batch was to be drawn")

        tape = self.network.forward(self.inputs)
        outputs = tape.outputs.detach().requires_grad_()
        (delta,) = torch.autograd.grad(self.task_losses(outputs).sum(), outputs)
        return TaskGradients(self.network, tape, delta, no_further_batch)

    def autograd(self, weights: Tensor | None = None) -> tuple[Tensor, list[list[Tensor]]]:
        """Per-replica trunk Jacobian `[K, T, P]`, and the weighted gradient of every parameter."""
        layers = [*self.network.trunk, self.network.heads]
        parameters = [(layer.weight.clone(), layer.bias.clone()) for layer in layers]
        flat = [p.requires_grad_() for pair in parameters for p in pair]
        hidden = self.inputs
        for weight, bias in parameters[:-1]:
            hidden = torch.relu(torch.einsum("kbi,koi->kbo", hidden, weight) + bias[:, None])
        weight, bias = parameters[-1]
        losses = self.task_losses(torch.einsum("kbi,koi->kbo", hidden, weight) + bias[:, None])
        rows = []
        for task in range(len(self.kinds)):
            grads = torch.autograd.grad(losses[:, task].sum(), flat[:-2], retain_graph=True)
            rows.append(torch.cat([g.flatten(1) for g in grads], dim=-1))
        weighted = (losses * (1.0 if weights is None else weights)).sum()
        summed = torch.autograd.grad(weighted, flat)
        return torch.stack(rows, dim=1), [list(summed[i : i + 2]) for i in range(0, len(summed), 2)]


@given(networks, st.booleans())
def test_gramian_matches_autograd(shape: dict[str, Any], last: bool) -> None:
    reference = Reference(**shape)
    jacobian, _ = reference.autograd()
    if last:
        layer = reference.network.trunk[-1]
        jacobian = jacobian[..., -(layer.weight[0].numel() + layer.bias[0].numel()) :]
    assert relative(reference.gradients().gramian(last=last), jacobian @ jacobian.mT) < TOLERANCE


@given(networks)
def test_jacobian_matches_autograd(shape: dict[str, Any]) -> None:
    reference = Reference(**shape)
    assert relative(reference.gradients().jacobian(), reference.autograd()[0]) < TOLERANCE


@given(networks, st.sampled_from(["none", "last", "trunk"]), st.booleans())
def test_weighted_gradient_matches_autograd(shape: dict[str, Any], asked: str, own: bool) -> None:
    reference = Reference(**shape)
    replicas, tasks = shape["replicas"], len(shape["kinds"])
    weights = torch.randn(replicas, tasks, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    gradients = reference.gradients()
    if asked != "none":
        gradients.gramian(last=asked == "last")
    gradients.write(weights, "own" if own else "weighted", given_step(torch.ones(replicas, tasks)))
    _, expected = reference.autograd(weights)
    if own:
        expected[-1] = reference.autograd()[1][-1]
    layers = [*reference.network.trunk, reference.network.heads]
    for layer, (weight, bias) in zip(layers, expected, strict=True):
        assert relative(layer.weight_grad, weight) < TOLERANCE
        assert relative(layer.bias_grad, bias) < TOLERANCE


@given(
    st.integers(1, 3),
    st.integers(1, 4),
    st.integers(1, 40),
    st.integers(1, 20),
    st.integers(1, 20),
)
def test_both_gramian_paths_agree(replicas: int, tasks: int, batch: int, into: int, out: int) -> None:
    x = torch.randn(replicas, batch, into, dtype=torch.float64)
    deltas = torch.randn(replicas, tasks, batch, out, dtype=torch.float64)
    jacobian = explicit_jacobian(x, deltas)
    expected = jacobian @ jacobian.mT
    assert relative(ghost_product(x, deltas, x, deltas), expected) < TOLERANCE
    assert relative(layer_gramian(x, deltas), expected) < TOLERANCE


@pytest.mark.parametrize(("batch", "path"), [(4, "ghost_product"), (400, "explicit_jacobian")])
def test_the_cheaper_path_is_taken(monkeypatch: pytest.MonkeyPatch, batch: int, path: str) -> None:
    taken: list[str] = []
    for name, function in (("ghost_product", ghost_product), ("explicit_jacobian", explicit_jacobian)):

        def spy(*arguments: Tensor, name: str = name, function: Any = function) -> Tensor:
            taken.append(name)
            return function(*arguments)

        monkeypatch.setattr(f"mtlbench.gradients.{name}", spy)
    layer_gramian(torch.randn(1, batch, 50), torch.randn(1, 2, batch, 40))
    assert taken == [path]
