"""The two backward products: inner products of the task gradients, and the weighted weight-gradients.

Both are made from the same deltas (gradients by the pre-activations), which are linear in the cotangent of the
losses: what a Gramian has already taken apart per task is summed with the weights, not computed again.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mtlbench.contracts.strategy import Heads, Step
from mtlbench.engine.layers import Linear, Seen, explicit_jacobian
from mtlbench.engine.network import Network, Tape

Differentiated = tuple[Seen, Tensor]
"""What a layer has seen of a batch, and the deltas of the tasks `[K, T, B, F]`."""

# A value of the Jacobian is written to memory and read again, which took as long as about that many multiply-adds:
# without it, narrow layers go the longer way (docs/performance.md).
PER_JACOBIAN_VALUE = 16


def ghost_product(x: Tensor, deltas: Tensor, y: Tensor, others: Tensor) -> Tensor:
    """Inner products of one layer's task gradients on two batches, without forming them.

    With input rows x_b and deltas d_tb, dW_t = sum_b d_tb x_b', so <dW_s, dW_t> + <db_s, db_t> =
    sum_bc (x_b . y_c + 1) (d_sb . e_tc) (the identity behind ghost clipping, Goodfellow, arXiv:1510.01799).
    The rows are samples; of a convolution, the patches of all samples.

    Args:
        x: what the layer's weight was multiplied with, `[K, B, in]`.
        deltas: per-task gradients by the products, `[K, T, B, out]`.
        y: rows of the other batch, or `x` again for a Gramian.
        others: its deltas.

    Returns:
        `[K, T, T]`, weight and bias together.
    """
    replicas, tasks, batch, out = deltas.shape
    kernel = torch.baddbmm(x.new_ones(1, 1, 1), x, y.mT)  # [K, B, B]
    columns = others.permute(0, 2, 1, 3).reshape(replicas, batch, tasks * out)
    smoothed = torch.bmm(kernel, columns).view(replicas, batch, tasks, out)
    right = smoothed.permute(0, 2, 1, 3).reshape(replicas, tasks, batch * out)
    return torch.bmm(deltas.reshape(replicas, tasks, batch * out), right.mT)


def explicit_gramian(x: Tensor, deltas: Tensor) -> Tensor:
    """What `ghost_product(x, deltas, x, deltas)` is, by way of the Jacobian."""
    jacobian = explicit_jacobian(x, deltas)
    return torch.bmm(jacobian, jacobian.mT)


def gramian_costs(*, tasks: int, batch: int, into: int, out: int, jacobians: int = 1) -> tuple[int, int]:
    """What `ghost_product` and `explicit_gramian` cost for one replica of a layer.

    It is the multiply-adds of their matrix products, and `PER_JACOBIAN_VALUE` for each value of the Jacobian.

    Args:
        tasks: T.
        batch: rows; of a convolution, the patches of all samples.
        into: values of a row.
        out: outputs of a row.
        jacobians: 1 for a Gramian; 2 for the products between two batches, `explicit` then being by way of both.
    """
    ghost = batch * batch * (into + tasks * out) + tasks * tasks * batch * out
    values = tasks * (into + 1) * out
    explicit = jacobians * (tasks * batch * into * out + PER_JACOBIAN_VALUE * values) + tasks * values
    return ghost, explicit


def layer_product(layer: Linear, one: Differentiated, other: Differentiated) -> Tensor:
    """Inner products of one layer's task gradients on two batches, `[K, T, T]`, by the cheaper way for the shape.

    Args:
        layer: of the trunk.
        one: of a batch.
        other: of the other batch, or `one` again for a Gramian.
    """
    same = other is one
    _, out, into = layer.weight.shape
    tasks, batch = one[1].shape[1], layer.row_count(one[0])
    ghost, explicit = gramian_costs(tasks=tasks, batch=batch, into=into, out=out, jacobians=1 if same else 2)
    if ghost <= explicit:
        rows = layer.rows(*one)
        return ghost_product(*rows, *(rows if same else layer.rows(*other)))
    jacobian = layer.jacobian(*one)
    return torch.bmm(jacobian, (jacobian if same else layer.jacobian(*other)).mT)


class TaskGradients:
    """The gradients of one step's task losses, computed layer by layer as they are asked for.

    Args:
        network: the stack that made the tape.
        tape: its forward pass.
        output_delta: gradient of the sum of all task losses by the heads' outputs, `[K, B, O]`; a column
            belongs to one task, so this holds every task's own.
        another: makes the gradients of a further batch.
    """

    def __init__(
        self, network: Network, tape: Tape, output_delta: Tensor, another: Callable[[], TaskGradients]
    ) -> None:
        self._network = network
        self._tape = tape
        self._output_delta = output_delta
        self._another = another
        self._task_deltas: dict[int, Tensor] = {}

    def gramian(self, *, last: bool = False) -> Tensor:
        """Inner products of the task gradients over the trunk, or over its last layer alone, `[K, T, T]`."""
        depth = len(self._network.trunk)
        chosen = [depth - 1] if last else range(depth)
        parts = [layer_product(self._network.trunk[i], of, of) for i in chosen for of in [self._differentiated(i)]]
        return torch.stack(parts).sum(0)

    def jacobian(self) -> Tensor:
        """The task gradients over the trunk, layer after layer, weight then bias, `[K, T, P]`."""
        sizes = self._network.trunk_sizes
        replicas, tasks = self._deltas_of(len(sizes) - 1).shape[:2]
        jacobian = self._output_delta.new_empty(replicas, tasks, sum(sizes))
        for i, part in enumerate(jacobian.split(sizes, dim=-1)):
            self._network.trunk[i].jacobian(*self._differentiated(i), part)
        return jacobian

    def independent_gramian(self) -> Tensor:
        """Inner products over the trunk between the task gradients of two further batches, `[K, T, T]`."""
        one, other = self._another(), self._another()
        parts = [
            layer_product(layer, one._differentiated(i), other._differentiated(i))
            for i, layer in enumerate(self._network.trunk)
        ]
        return torch.stack(parts).sum(0)

    def representation_gradients(self) -> Tensor:
        """Gradients by the representation that pass its ReLU, `[K, T, B, F]`."""
        return self._deltas_of(len(self._network.trunk) - 1)

    def write(self, weights: Tensor, heads: Heads, step: Step) -> None:
        """Write the gradients of a step into the network's buffers.

        The trunk gets the gradient of `sum_t weights_t L_t`, or what the strategy chose in its place.

        Args:
            weights: `[K, T]`.
            heads: `weighted` gives head t its share of that sum, `own` the gradient of L_t itself.
            step: what the strategy has seen, with the direction it chose.
        """
        network, last, seen = self._network, self._tape.inputs[-1], self._tape.seen[-1]
        delta = self._output_delta * (weights @ network.mask).unsqueeze(1)  # [K, B, O]
        network.heads.write_gradient(seen, delta if heads == "weighted" else self._output_delta)
        if step.direction is not None:
            network.write_trunk_gradient(step.direction)
        elif step.representation_direction is not None:
            self._write_trunk(step.representation_direction)
        elif self._task_deltas:
            self._write_trunk(_weighted(weights, self._deltas_of(len(network.trunk) - 1)), weights)
        else:
            self._write_trunk(_through_relu(network.heads.input_delta(seen, delta), last))

    def _write_trunk(self, delta: Tensor, weights: Tensor | None = None) -> None:
        """Write the trunk's gradients, given the gradient by the last pre-activation, `[K, B, F]`.

        With `weights`, the per-task deltas that are already there are summed instead of being computed again.
        """
        trunk, inputs, seen = self._network.trunk, self._tape.inputs, self._tape.seen
        for i in reversed(range(len(trunk))):
            trunk[i].write_gradient(seen[i], delta)
            if i and weights is not None and i - 1 in self._task_deltas:
                delta = _weighted(weights, self._task_deltas[i - 1])
            elif i:
                delta = _through_relu(trunk[i].input_delta(seen[i], delta), inputs[i])

    def _differentiated(self, layer: int) -> Differentiated:
        return self._tape.seen[layer], self._deltas_of(layer)

    def _deltas_of(self, layer: int) -> Tensor:
        """Per-task gradients by the pre-activation of a trunk layer, `[K, T, B, F]`."""
        if layer not in self._task_deltas:
            network = self._network
            if layer == len(network.trunk) - 1:
                above, deltas = network.heads, self._output_delta.unsqueeze(1) * network.mask[:, None]
            else:
                above, deltas = network.trunk[layer + 1], self._deltas_of(layer + 1)
            below = above.input_delta(self._tape.seen[layer + 1], deltas)
            self._task_deltas[layer] = _through_relu(below, self._tape.inputs[layer + 1].unsqueeze(1))
        return self._task_deltas[layer]


def _weighted(weights: Tensor, deltas: Tensor) -> Tensor:
    """Sum over tasks, `[K, B, F]` from `[K, T]` and `[K, T, B, F]`."""
    return torch.bmm(weights.unsqueeze(1), deltas.flatten(2)).view(-1, *deltas.shape[2:])


def _through_relu(delta: Tensor, activation: Tensor) -> Tensor:
    """Gradient by the pre-activation of a ReLU, in place where shapes agree; zero at zero, as in torch."""
    if delta.shape != activation.shape:
        return delta.mul_(activation > 0)
    return torch.ops.aten.threshold_backward.grad_input(delta, activation, 0, grad_input=delta)
