"""A step's signals for any network, computed by torch's autograd: one backward pass per task, on demand.

The stacked engine computes the same with its own products (`mtlbench.engine.gradients`); here there is a single
replica, K = 1.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, product

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node, get_gradient_edge

from mtlbench.balancer.given_gradients import Sum, with_gradients
from mtlbench.contracts.strategy import Heads, Step
from mtlbench.errors import UserError
from mtlbench.solvers.linalg import in_double, scaled_back, unit_of

OF_SHARED = "no loss depends on a parameter of shared: pass the module that the losses are computed with"
OF_FEATURES = "no loss depends on the given features: pass the same tensor that the heads are computed from"
NEEDS_SHARED = """this strategy treats shared parameters and heads differently: name the trained module that the tasks \
share, Balancer(..., shared=model.trunk)"""
NEEDS_FEATURES = """this strategy needs the shared representation, the trunk's output after its ReLU: pass it with the \
losses, balance(losses, features)"""
NEEDS_FURTHER = """this strategy needs the losses of two further batches in every step: pass a function that returns \
those of another batch at each call, balance(losses, further=FUNCTION)"""
Tensors = Sequence[Tensor]
V = typing.TypeVar("V")
Row = Tensors
"""A task's gradients, flat, by parameter."""


class GradientOverflowError(Exception):
    """A scaled task gradient is not finite: the scale is too large for half precision."""


@dataclass(eq=False)
class LossGradients:
    """The gradients of one step's losses; P is the size of `shared`.

    Losses are multiplied by `scale` before every backward pass and gradients divided by it after, for half precision.
    """

    losses: Tensors  # T scalars with their graphs, which are retained
    shared: Tensors  # parameters that all tasks share and that require grad
    last: Tensors  # those of the last shared layer
    representation: Tensor | None  # the shared representation [B, ...] with its graph, if the caller gave it
    further: Callable[[], Tensors] | None  # computes the losses of a further batch, if the caller gave it
    dtype: torch.dtype  # of results; at least float32, whatever the precision of the losses
    scale: float | None  # None for no scaling
    # Once asked for: each task's gradients, flat, by shared parameter, and its heads' parameters with their gradients.
    _shared_rows: list[Row] | None = field(default=None, init=False)
    _of_heads: list[list[tuple[Tensor, Tensor]]] = field(default_factory=list[list[tuple[Tensor, Tensor]]], init=False)

    def gramian(self, *, last: bool = False) -> Tensor:
        """Inner products of the task gradients over the shared parameters, or the last layer's, as in `Step`."""
        if last and self.shared and not self.last:
            raise UserError("no last shared layer is trained: name one, Balancer(..., last=MODULE)")
        rows = self._rows(self.losses, self.last, OF_SHARED) if last else self._all_rows()
        return _gramian(rows).unsqueeze(0)

    def jacobian(self) -> Tensor:
        """The task gradients over all shared parameters, concatenated, `[1, T, P]`."""
        return torch.stack([torch.cat(list(row)) for row in self._all_rows()]).unsqueeze(0)

    def independent_gramian(self) -> Tensor:
        """Inner products between the task gradients of two further batches, `[1, T, T]`."""
        further = _required(self.further, NEEDS_FURTHER)
        one, other = (self._rows(further(), self.shared, OF_SHARED) for _ in range(2))
        return _scaled_products(one, other).unsqueeze(0)

    def representation_gradients(self) -> Tensor:
        """Gradients of the losses with respect to the representation, `[1, T, B, F]`; 0 where its ReLU is off."""
        features = _required(self.representation, NEEDS_FEATURES)
        rows = torch.stack([row for (row,) in self._rows(self.losses, [features], OF_FEATURES)])
        rows = rows.view(len(self.losses), len(features), -1)
        return (rows * (features.detach().flatten(1) != 0)).unsqueeze(0)

    def minimised(self, weights: Tensor, heads: Heads, step: Step) -> Tensor:
        """A scalar of value `sum_t weights_t L_t` whose backward pass gives every parameter its gradient.

        `weights` is `[T]`. Shared parameters get the gradient of that sum, or the direction of `step` if the strategy
        chose one. Other parameters that several losses depend on get that of the sum. Those of head t get their share
        of it (`heads` is `weighted`), or the gradient of L_t (`own`). If all of this is the gradient of the sum, and
        none over all shared parameters was computed before, the result is the sum with its graph. Otherwise the
        gradients are computed here, reusing those that the strategy asked for, and handed over as they are.
        """
        losses = torch.stack([loss.to(self.dtype) for loss in self.losses])
        total = (weights * losses).sum()
        directed = step.direction is not None or step.representation_direction is not None
        if heads == "weighted" and self._shared_rows is None and not directed:
            return total
        _required(self.shared or None, NEEDS_SHARED)
        one = weights.new_ones(1)
        gradients: dict[Tensor, Sum] = {}
        for weight, pairs in zip(weights.unsqueeze(1), self._of_heads, strict=False):
            gradients |= {leaf: Sum(one if heads == "own" else weight, [gradient]) for leaf, gradient in pairs}
        *of_heads, of_several = self._unshared
        rest = [leaf for leaf in chain.from_iterable(of_heads) if leaf not in gradients]
        for value, parameters in ((losses.sum() if heads == "own" else total, rest), (total, of_several)):
            gradients |= _whole(parameters, self._filled_gradients(value, parameters), one)
        if self._shared_rows is not None and not directed:
            columns = zip(*self._shared_rows, strict=True)
            shared = {leaf: Sum(weights, column) for leaf, column in zip(self.shared, columns, strict=True)}
        else:
            shared = _whole(self.shared, self._shared_gradients(total, step), one)
        # Without a direction over all of them, parameters that no loss depends on still get no gradient.
        reached = set(self.shared if step.direction is not None else chain.from_iterable(self._leaves))
        return with_gradients(total, gradients | {leaf: shared[leaf] for leaf in self.shared if leaf in reached})

    def _shared_gradients(self, total: Tensor, step: Step) -> list[Tensor]:
        if step.direction is not None:
            parts = step.direction[0].split([parameter.numel() for parameter in self.shared])
            return [part.view_as(parameter).to(parameter) for part, parameter in zip(parts, self.shared, strict=True)]
        if step.representation_direction is None:
            return self._filled_gradients(total, self.shared)
        features = _required(self.representation, NEEDS_FEATURES)
        cotangent = step.representation_direction.view_as(features).to(features.dtype)
        return self._filled_gradients(features, self.shared, cotangent)

    @cached_property
    def _leaves(self) -> list[list[Tensor]]:
        return leaves(self.losses)

    @cached_property
    def _unshared(self) -> list[list[Tensor]]:
        """The leaves of each loss alone, and last those of several losses, without the shared parameters."""
        shared = set(self.shared)
        return [[leaf for leaf in part if leaf not in shared] for part in self._leaves]

    def _all_rows(self) -> list[Row]:
        """Each task's gradients with respect to the shared parameters; those of the heads are kept, too."""
        if self._shared_rows is None:
            _required(self.shared or None, NEEDS_SHARED)
            depth, heads = len(self.shared), self._unshared[:-1]
            of_heads: list[list[Tensor]] = []

            def shared_gradients() -> Iterator[Sequence[Tensor | None]]:
                for loss, head in zip(self.losses, heads, strict=True):
                    gradients = self._gradients(loss, [*self.shared, *head])
                    of_heads.append(_filled(gradients[depth:], head))
                    yield gradients[:depth]

            self._shared_rows = self._flat(shared_gradients(), self.shared, OF_SHARED)
            self._of_heads = [list(zip(*each, strict=True)) for each in zip(heads, of_heads, strict=True)]
        return self._shared_rows

    def _rows(self, losses: Tensors, wanted: Tensors, problem: str) -> list[Row]:
        """Each loss's gradients with respect to the wanted tensors; a UserError with `problem` if there are none."""
        _required(self.shared or None, NEEDS_SHARED)
        return self._flat((self._gradients(loss, wanted) for loss in losses), wanted, problem)

    def _flat(self, gradients: Iterable[Sequence[Tensor | None]], wanted: Tensors, problem: str) -> list[Row]:
        rows: list[Row] = []
        exist = False
        for each in gradients:
            exist = exist or any(gradient is not None for gradient in each)
            parts = [part.flatten().to(self.dtype) for part in _filled(each, wanted)]
            if self.scale is not None and not all(bool(part.isfinite().all()) for part in parts):
                raise GradientOverflowError
            rows.append(parts)
        if not exist:
            raise UserError(problem)
        return rows

    def _filled_gradients(self, value: Tensor, wanted: Tensors, cotangent: Tensor | None = None) -> list[Tensor]:
        return _filled(self._gradients(value, wanted, cotangent), wanted)

    def _gradients(self, value: Tensor, wanted: Tensors, cotangent: Tensor | None = None) -> Sequence[Tensor | None]:
        """Gradients of `(cotangent * value).sum()`; None for tensors that it does not depend on."""
        if not (value.requires_grad and wanted and any(tensor.requires_grad for tensor in wanted)):
            return [None] * len(wanted)
        cotangent = torch.ones_like(value) if cotangent is None else cotangent
        if self.scale is not None:
            cotangent = cotangent * self.scale
        try:
            gradients = torch.autograd.grad(value, wanted, cotangent, retain_graph=True, allow_unused=True)
        except RuntimeError as error:
            if "donated" not in str(error):
                raise
            raise UserError(
                "this strategy differentiates losses or a trunk from torch.compile once per task: set "
                "torch._functorch.config.donated_buffer = False before compiling them"
            ) from None
        unscaled = typing.cast("Sequence[Tensor | None]", gradients)
        if self.scale is None:
            return unscaled
        return [None if gradient is None else gradient / self.scale for gradient in unscaled]


def _required(value: V | None, problem: str) -> V:
    if value is None:
        raise UserError(problem)
    return value


def _filled(gradients: Iterable[Tensor | None], wanted: Iterable[Tensor]) -> list[Tensor]:
    """The gradients, with zeros in place of None."""
    pairs = zip(gradients, wanted, strict=True)
    return [torch.zeros_like(tensor) if gradient is None else gradient for gradient, tensor in pairs]


def _whole(parameters: Tensors, gradients: Tensors, one: Tensor) -> dict[Tensor, Sum]:
    return {leaf: Sum(one, [gradient]) for leaf, gradient in zip(parameters, gradients, strict=True)}


def leaves(losses: Tensors) -> list[list[Tensor]]:
    """The tensors that a backward pass from these losses leaves gradients in, usually parameters.

    Returns:
        One list per loss of the leaves that no other loss depends on, and last the leaves of several losses.
    """
    owner: dict[Node, int] = {}
    several = len(losses)
    for number, loss in enumerate(losses):
        ahead: list[Node | None] = [get_gradient_edge(loss).node] if loss.requires_grad else []
        while ahead:
            node = ahead.pop()
            before = number if node is None else owner.get(node)
            if node is None or before in (number, several):
                continue
            owner[node] = number if before is None else several
            ahead += [input_node for input_node, _ in node.next_functions]
    parts: list[list[Tensor]] = [[] for _ in range(several + 1)]
    for node, number in owner.items():
        if type(node).__name__ == "AccumulateGrad":
            parts[number].append(typing.cast("typing.Any", node).variable)
    return parts


def _gramian(rows: Sequence[Row]) -> Tensor:
    """Inner products `[T, T]` of gradients of any size, as `scaled_back`.

    On CPU, where a look at the lengths costs nothing, gradients whose squares are in range are not scaled.
    """
    if rows[0][0].device.type == "cpu":
        direct, limits = _products(rows, rows), torch.finfo(rows[0][0].dtype)
        squares = direct.diagonal()
        if bool(((squares > limits.tiny**0.5) & (squares < limits.max**0.5)).all()):
            return in_double(direct)
    return _scaled_products(rows, rows)


def _scaled_products(rows: Sequence[Row], others: Sequence[Row]) -> Tensor:
    """Inner products `[T, T]` of gradients of any size, each in a unit of its own, as `scaled_back`."""
    scaled, units = zip(*map(_in_unit, rows), strict=True)
    others_scaled, other_units = (scaled, units) if others is rows else zip(*map(_in_unit, others), strict=True)
    return scaled_back(_products(scaled, others_scaled), torch.stack(units), torch.stack(other_units))


def _in_unit(row: Row) -> tuple[Row, Tensor]:
    """The gradients in units of a power of two, so that their squares are in range, and that unit."""
    unit = unit_of(torch.stack([torch.linalg.vector_norm(part, torch.inf) for part in row if part.numel()]).amax())
    return [part / unit for part in row], unit


def _products(rows: Sequence[Row], others: Sequence[Row]) -> Tensor:
    """Inner products `[T, T]` of gradients given parameter by parameter; a Gramian if both are the same.

    Pair by pair: joining them to one matrix first would copy them, which takes longer than the products.
    """
    products: dict[tuple[int, int], Tensor] = {}
    for s, t in product(range(len(rows)), repeat=2):
        if rows is others and t < s:
            products[s, t] = products[t, s]
        else:
            pairs = zip(rows[s], others[t], strict=True)
            products[s, t] = torch.stack([one @ other for one, other in pairs]).sum()
    return torch.stack(list(products.values())).view(len(rows), -1)


def last_layer(shared: nn.Module) -> nn.Module | None:
    """The last module, in the order of registration, with a trained weight of two dimensions or more.

    Normalisation layers have no such weight and are skipped.
    """
    for module in reversed(list(shared.modules())):
        if any(parameter.requires_grad and parameter.dim() > 1 for parameter in module.parameters(recurse=False)):
            return module
    return None
