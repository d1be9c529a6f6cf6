"""The two backward products: inner products of the task gradients, and the weighted weight-gradients.

Both are made from the same deltas (gradients by the pre-activations), which are linear in the cotangent of the
losses: what a Gramian has already taken apart per task is summed with the weights, not computed again.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mtlbench.network import Network, Tape
from mtlbench.strategy import Heads


def ghost_gramian(x: Tensor, deltas: Tensor) -> Tensor:
    """Gramian of one layer's task gradients without forming them.

    With input rows x_b and deltas d_tb, dW_t = sum_b d_tb x_b', so <dW_s, dW_t> + <db_s, db_t> =
    sum_bc (x_b . x_c + 1) (d_sb . d_tc) (the identity behind ghost clipping, Goodfellow, arXiv:1510.01799).

    Args:
        x: layer input `[K, B, in]`.
        deltas: per-task gradients by the pre-activation `[K, T, B, out]`.

    Returns:
        `[K, T, T]`, weight and bias together.
    """
    replicas, tasks, batch, out = deltas.shape
    kernel = torch.baddbmm(x.new_ones(1, 1, 1), x, x.mT)  # [K, B, B]
    columns = deltas.permute(0, 2, 1, 3).reshape(replicas, batch, tasks * out)
    smoothed = torch.bmm(kernel, columns).view(replicas, batch, tasks, out)
    right = smoothed.permute(0, 2, 1, 3).reshape(replicas, tasks, batch * out)
    return torch.bmm(deltas.reshape(replicas, tasks, batch * out), right.mT)


def explicit_jacobian(x: Tensor, deltas: Tensor) -> Tensor:
    """One layer's task gradients, weight then bias, `[K, T, out * in + out]`; arguments as in `ghost_gramian`."""
    replicas, tasks, batch, out = deltas.shape
    rows = deltas.permute(0, 1, 3, 2).reshape(replicas, tasks * out, batch)
    weight = torch.bmm(rows, x).view(replicas, tasks, -1)  # [K, T, out * in]
    return torch.cat([weight, deltas.sum(2)], dim=-1)


def layer_gramian(x: Tensor, deltas: Tensor) -> Tensor:
    """Gramian of one layer's task gradients, `[K, T, T]`, by the cheaper of the two products for the shape."""
    _, tasks, batch, out = deltas.shape
    into = x.shape[-1]
    ghost = batch * batch * (into + tasks * out) + tasks * tasks * batch * out
    explicit = tasks * batch * into * out + tasks * tasks * into * out
    if ghost <= explicit:
        return ghost_gramian(x, deltas)
    jacobian = explicit_jacobian(x, deltas)
    return torch.bmm(jacobian, jacobian.mT)


class TaskGradients:
    """The gradients of one step's task losses, computed layer by layer as they are asked for.

    Args:
        network: the stack that made the tape.
        tape: its forward pass.
        output_delta: gradient of the sum of all task losses by the heads' outputs, `[K, B, O]`; a column
            belongs to one task, so this holds every task's own.
    """

    def __init__(self, network: Network, tape: Tape, output_delta: Tensor) -> None:
        self._network = network
        self._tape = tape
        self._output_delta = output_delta
        self._task_deltas: dict[int, Tensor] = {}

    def gramian(self, *, last: bool = False) -> Tensor:
        """Inner products of the task gradients over the trunk, or over its last layer alone, `[K, T, T]`."""
        depth = len(self._network.trunk)
        chosen = [depth - 1] if last else range(depth)
        parts = [layer_gramian(self._tape.inputs[i], self._deltas_of(i)) for i in chosen]
        return torch.stack(parts).sum(0)

    def jacobian(self) -> Tensor:
        """The task gradients over the trunk, layer after layer, weight then bias, `[K, T, P]`."""
        depth = len(self._network.trunk)
        parts = [explicit_jacobian(self._tape.inputs[i], self._deltas_of(i)) for i in range(depth)]
        return torch.cat(parts, dim=-1)

    def write(self, weights: Tensor, heads: Heads) -> None:
        """Write the gradient of `sum_t weights_t L_t` into the network's buffers.

        Args:
            weights: `[K, T]`.
            heads: `weighted` gives head t its share of that sum, `own` the gradient of L_t itself.
        """
        network, inputs = self._network, self._tape.inputs
        delta = self._output_delta * (weights @ network.mask).unsqueeze(1)  # [K, B, O]
        network.heads.write_gradient(inputs[-1], delta if heads == "weighted" else self._output_delta)
        above = network.heads
        for i in reversed(range(len(network.trunk))):
            if i in self._task_deltas:
                per_task = self._task_deltas[i]  # [K, T, B, F]
                delta = torch.bmm(weights.unsqueeze(1), per_task.flatten(2)).view(-1, *per_task.shape[2:])
            else:
                delta = _through_relu(above.input_delta(delta), inputs[i + 1])
            network.trunk[i].write_gradient(inputs[i], delta)
            above = network.trunk[i]

    def _deltas_of(self, layer: int) -> Tensor:
        """Per-task gradients by the pre-activation of a trunk layer, `[K, T, B, F]`."""
        if layer not in self._task_deltas:
            network = self._network
            if layer == len(network.trunk) - 1:
                above, deltas = network.heads, self._output_delta.unsqueeze(1) * network.mask[:, None]
            else:
                above, deltas = network.trunk[layer + 1], self._deltas_of(layer + 1)
            below = above.input_delta(deltas.flatten(1, 2)).view(*deltas.shape[:3], -1)
            self._task_deltas[layer] = _through_relu(below, self._tape.inputs[layer + 1].unsqueeze(1))
        return self._task_deltas[layer]


def _through_relu(delta: Tensor, activation: Tensor) -> Tensor:
    """Gradient by the pre-activation of a ReLU, in place where shapes agree; zero at zero, as in torch."""
    if delta.shape != activation.shape:
        return delta.mul_(activation > 0)
    return torch.ops.aten.threshold_backward.grad_input(delta, activation, 0, grad_input=delta)
