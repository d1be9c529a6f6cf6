"""The two backward products: inner products of the task gradients, and the weighted gradients of all parameters.

Both use the same deltas, the gradients with respect to the pre-activations, which are linear in the cotangent of the
losses: deltas that a Gramian has already computed per task are summed with the weights, not computed again. Each task's
deltas are in a unit of their own, so that their squares neither vanish nor overflow.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mtlbench.contracts.strategy import Heads, Step
from mtlbench.engine.layers import Linear, Saved
from mtlbench.engine.network import Network, Tape
from mtlbench.engine.products import Products
from mtlbench.solvers.linalg import scaled_back, unit_of

LayerDeltas = tuple[Saved, Tensor]
"""What a layer saved for a batch, and the task deltas `[K, T, B, F]`, each task's in its unit."""

# Writing a value of the Jacobian to memory and reading it again took as long as about this many multiply-adds
# (docs/performance.md). Without this term, narrow layers would take the slower way.
PER_JACOBIAN_VALUE = 16


def ghost_product(x: Tensor, deltas: Tensor, y: Tensor, others: Tensor, products: Products | None = None) -> Tensor:
    """Inner products of one layer's task gradients on two batches, without forming them.

    With input rows x_b and deltas d_tb, dW_t = sum_b d_tb x_b', so <dW_s, dW_t> + <db_s, db_t> =
    sum_bc (x_b . y_c + 1) (d_sb . e_tc) (the identity behind ghost clipping, Goodfellow, arXiv:1510.01799).
    Rows are samples; for a convolution, the patches of all samples.

    Args:
        x: the rows that the layer's weight multiplies, `[K, B, in]`.
        deltas: per-task gradients of the products, `[K, T, B, out]`.
        y: rows of the other batch, or `x` again for a Gramian.
        others: deltas of the other batch.
        products: how matrices are multiplied.

    Returns:
        `[K, T, T]`, weight and bias together.
    """
    replicas, tasks, batch, out = deltas.shape
    products = products or Products()
    kernel = products.affine(x, y, x.new_ones(1, 1))  # [K, B, B]
    columns = others.permute(0, 2, 1, 3).reshape(replicas, batch, tasks * out)
    smoothed = products.multiply(kernel, columns).view(replicas, batch, tasks, out)
    right = smoothed.permute(0, 2, 1, 3).reshape(replicas, tasks, batch * out)
    return torch.bmm(deltas.reshape(replicas, tasks, batch * out), right.mT)


def gramian_costs(*, tasks: int, batch: int, into: int, out: int, jacobians: int = 1) -> tuple[int, int]:
    """Costs of `ghost_product` and of the same products of explicit Jacobians, for one replica of a layer.

    A cost is the multiply-adds of the matrix products, plus `PER_JACOBIAN_VALUE` for each value of the Jacobian.
    `batch` is the number of rows, `into` and `out` are the values and outputs of a row. `jacobians` is 1 for a Gramian,
    and 2 for products between two batches, which need the Jacobians of both.
    """
    ghost = batch * batch * (into + tasks * out) + tasks * tasks * batch * out
    values = tasks * (into + 1) * out
    explicit = jacobians * (tasks * batch * into * out + PER_JACOBIAN_VALUE * values) + tasks * values
    return ghost, explicit


def layer_product(layer: Linear, one: LayerDeltas, other: LayerDeltas) -> Tensor:
    """Inner products of one trunk layer's task gradients on two batches, `[K, T, T]`, by the cheaper of the two ways.

    `other` belongs to the other batch, or is `one` again for a Gramian.
    """
    same = other[0] is one[0]
    _, out, into = layer.weight.shape
    tasks, batch = one[1].shape[1], layer.row_count(one[0])
    ghost, explicit = gramian_costs(tasks=tasks, batch=batch, into=into, out=out, jacobians=1 if same else 2)
    if ghost <= explicit:
        rows = layer.rows(*one)
        return ghost_product(*rows, *(rows if same else layer.rows(*other)), layer.products)
    jacobian = layer.jacobian(*one)
    return torch.bmm(jacobian, (jacobian if same else layer.jacobian(*other)).mT)


class TaskGradients:
    """The gradients of one step's task losses, computed layer by layer on demand.

    `tape` is a forward pass of `network`. `output_delta` is the gradient of the sum of all task losses with respect to
    the heads' outputs, `[K, B, O]`: each column belongs to one task, so it contains the gradient of every single loss.
    `another` makes the gradients of a further batch.
    """

    def __init__(
        self, network: Network, tape: Tape, output_delta: Tensor, another: Callable[[], TaskGradients]
    ) -> None:
        self._network, self._tape = network, tape
        self._output_delta, self._another = output_delta, another
        self._task_deltas: dict[int, Tensor] = {}
        self._units_of_deltas: Tensor | None = None

    def gramian(self, *, last: bool = False) -> Tensor:
        """Inner products of the task gradients over the trunk, or its last layer alone, `[K, T, T]`, as in `Step`."""
        depth = len(self._network.trunk)
        return self._product(self, self, range(depth - 1 if last else 0, depth))

    def jacobian(self) -> Tensor:
        """The task gradients over the trunk, ordered by layer, weight before bias, `[K, T, P]`."""
        sizes = self._network.trunk_sizes
        jacobian = self._output_delta.new_empty(*self._units.shape, sum(sizes))
        for i, part in enumerate(jacobian.split(sizes, dim=-1)):
            saved, deltas = self._layer_deltas(i)
            self._network.trunk[i].jacobian(saved, deltas * self._units[..., None, None], part)
        return jacobian

    def independent_gramian(self) -> Tensor:
        """Inner products over the trunk between the task gradients of two further batches, `[K, T, T]`."""
        return self._product(self._another(), self._another(), range(len(self._network.trunk)))

    def representation_gradients(self) -> Tensor:
        """Gradients with respect to the representation, 0 where its ReLU is off, `[K, T, B, F]`."""
        return self._deltas_of(len(self._network.trunk) - 1) * self._units[..., None, None]

    def write(self, weights: Tensor, heads: Heads, step: Step) -> None:
        """Write the gradients of a step into the network's buffers.

        The trunk gets the gradient of `sum_t weights_t L_t`, `weights` being `[K, T]`, or the direction that the
        strategy chose in `step`. Head t gets its share of the sum (`weighted`), or the gradient of L_t itself (`own`).
        """
        network, last, saved = self._network, self._tape.inputs[-1], self._tape.saved[-1]
        delta = self._output_delta * (weights @ network.mask).unsqueeze(1)  # [K, B, O]
        network.heads.write_gradient(saved, delta if heads == "weighted" else self._output_delta)
        if step.direction is not None:
            network.write_trunk_gradient(step.direction)
        elif step.representation_direction is not None:
            self._write_trunk(step.representation_direction)
        elif self._task_deltas:
            weights = weights * self._units
            self._write_trunk(_weighted(weights, self._deltas_of(len(network.trunk) - 1)), weights)
        else:
            self._write_trunk(_through_relu(network.heads.input_delta(saved, delta), last))

    def _write_trunk(self, delta: Tensor, weights: Tensor | None = None) -> None:
        """Write the trunk's gradients, given the gradient with respect to the last pre-activation, `[K, B, F]`.

        With `weights`, those of the task deltas in their units, deltas that were already computed are summed rather
        than computed again.
        """
        trunk, inputs, saved = self._network.trunk, self._tape.inputs, self._tape.saved
        for i in reversed(range(len(trunk))):
            trunk[i].write_gradient(saved[i], delta)
            if i and weights is not None and i - 1 in self._task_deltas:
                delta = _weighted(weights, self._task_deltas[i - 1])
            elif i:
                delta = _through_relu(trunk[i].input_delta(saved[i], delta), inputs[i])

    def _product(self, one: TaskGradients, other: TaskGradients, layers: range) -> Tensor:
        """Inner products over these trunk layers between the task gradients of two batches, `[K, T, T]`."""
        trunk = self._network.trunk
        parts = [layer_product(trunk[i], one._layer_deltas(i), other._layer_deltas(i)) for i in layers]
        return scaled_back(torch.stack(parts).sum(0), one._units, other._units)

    @property
    def _units(self) -> Tensor:
        """The units of the task deltas, `[K, T]`."""
        if self._units_of_deltas is None:
            largest = self._output_delta.abs().amax(1)  # [K, O]
            self._units_of_deltas = unit_of((largest.unsqueeze(1) * self._network.mask).amax(-1))
        return self._units_of_deltas

    def _layer_deltas(self, layer: int) -> LayerDeltas:
        return self._tape.saved[layer], self._deltas_of(layer)

    def _deltas_of(self, layer: int) -> Tensor:
        """Per-task gradients with respect to the pre-activation of a trunk layer, in their units, `[K, T, B, F]`."""
        if layer not in self._task_deltas:
            network = self._network
            if layer == len(network.trunk) - 1:
                columns = network.mask / self._units.unsqueeze(-1)  # [K, T, O]
                above, deltas = network.heads, self._output_delta.unsqueeze(1) * columns.unsqueeze(2)
            else:
                above, deltas = network.trunk[layer + 1], self._deltas_of(layer + 1)
            below = above.input_delta(self._tape.saved[layer + 1], deltas)
            self._task_deltas[layer] = _through_relu(below, self._tape.inputs[layer + 1].unsqueeze(1))
        return self._task_deltas[layer]


def _weighted(weights: Tensor, deltas: Tensor) -> Tensor:
    """The weighted sum over tasks, `[K, B, F]`, of deltas `[K, T, B, F]` with weights `[K, T]`."""
    return torch.bmm(weights.unsqueeze(1), deltas.flatten(2)).view(-1, *deltas.shape[2:])


def _through_relu(delta: Tensor, activation: Tensor) -> Tensor:
    """Gradient with respect to the pre-activation of a ReLU, computed in place; zero at zero, as in torch."""
    if delta.shape != activation.shape:
        return delta.mul_(activation > 0)
    return torch.ops.aten.threshold_backward.grad_input(delta, activation, 0, grad_input=delta)
