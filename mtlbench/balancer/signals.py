"""A step's signals for any network, computed by torch's autograd: one backward pass per task, on demand.

The stacked engine computes the same with its own products (`mtlbench.engine.gradients`); here there is a single
replica, K = 1.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain

import torch
from torch import Tensor, nn

from mtlbench.balancer.differentiate import gradients, independence
from mtlbench.balancer.given_gradients import Sum, flat, size_of, with_gradients
from mtlbench.balancer.leaves import leaves, of_several
from mtlbench.balancer.products import Row, gramian_of, scaled_products
from mtlbench.balancer.ranks import Ranks, check_wrappers
from mtlbench.contracts.strategy import Heads, Step
from mtlbench.errors import UserError

OF_FEATURES = "no loss depends on the given features: pass the same tensor that the heads are computed from"
NEEDS_SHARED = """this strategy treats shared parameters and heads differently: name the trained module that the tasks \
share, Balancer(..., shared=model.trunk)"""
NEEDS_FEATURES = """this strategy needs the shared representation, the trunk's output after its ReLU: pass it with the \
losses, balance(losses, features)"""
NEEDS_FURTHER = """this strategy needs the losses of two further batches in every step: pass a function that returns \
those of another batch at each call, balance(losses, further=FUNCTION)"""
SEVERAL = -1
Tensors = Sequence[Tensor]
V = typing.TypeVar("V")


class GradientOverflowError(Exception):
    """A scaled task gradient is not finite: the scale is too large for half precision."""


@dataclass(eq=False)
class LossGradients:
    """The gradients of one step's losses; P is the size of `shared`.

    Losses are multiplied by `scale` before every backward pass and gradients divided by it after, for half precision.
    """

    tasks: Sequence[int]  # their numbers in the loop; T is how many are present
    names: Sequence[str]  # of these
    heads: Heads
    losses: Tensors  # T scalars with their graphs, which are retained
    module: nn.Module | None  # that all tasks share
    shared: Tensors  # its parameters that require grad
    last: Callable[[], Tensors]  # those of its last layer
    representation: Tensor | None  # the shared representation [B, ...] with its graph, if the caller gave it
    further: Callable[[], Tensors] | None  # computes the losses of a further batch, if the caller gave it
    dtype: torch.dtype  # of results; at least float32, whatever the precision of the losses
    scale: float | None  # None for no scaling
    owners: MutableMapping[Tensor, int]  # tasks of leaves, as far as known from earlier steps, or SEVERAL
    ranks: Ranks  # over which gradients by parameters are averaged; those of heads are, in the user's `backward`
    # Once asked for: each task's gradients, flat, by shared parameter, and those of its heads' parameters.
    _shared_rows: list[Row] | None = field(default=None, init=False)
    _of_heads: list[dict[Tensor, Tensor]] = field(default_factory=list[dict[Tensor, Tensor]], init=False)

    def gramian(self, *, last: bool = False) -> Tensor:
        """Inner products of the task gradients over the shared parameters, or the last layer's, as in `Step`."""
        rows = self._rows(self.losses, self.last()) if last and self.shared else self._all_rows()
        gramian = gramian_of(rows)
        self._require_finite(gramian.diagonal())
        return gramian.unsqueeze(0)

    def jacobian(self) -> Tensor:
        """The task gradients over all shared parameters, concatenated, `[1, T, P]`."""
        jacobian = torch.stack([torch.cat(list(row)) for row in self._all_rows()])
        self._require_finite(jacobian.sum(-1))
        return jacobian.unsqueeze(0)

    def independent_gramian(self) -> Tensor:
        """Inner products between the task gradients of two further batches, `[1, T, T]`."""
        further = _required(self.further, NEEDS_FURTHER)
        one, other = (self._rows(further(), self.shared) for _ in range(2))
        products = scaled_products(one, other)
        self._require_finite(products.diagonal())
        return products.unsqueeze(0)

    def representation_gradients(self) -> Tensor:
        """Gradients of the losses with respect to the representation, `[1, T, B, F]`; 0 where its ReLU is off."""
        features = _required(self.representation, NEEDS_FEATURES)
        rows = torch.stack([row for (row,) in self._rows(self.losses, [features], joint=False)])
        rows = rows.view(len(self.losses), len(features), -1)
        self._require_finite(rows.sum((-2, -1)))
        return self.ranks.joined(rows * (features.detach().flatten(1) != 0)).unsqueeze(0)

    def _require_finite(self, sizes: Tensor) -> None:
        """Refuse gradients of which a number, `[T]`, is not finite; on CPU, where a look costs nothing."""
        if sizes.device.type != "cpu" or self.scale is not None:
            return
        for name, finite in zip(self.names, sizes.isfinite().tolist(), strict=True):
            if not finite:
                raise UserError(
                    f"the gradient of task {name} is not finite, or too large to be squared. The strategy was not "
                    "changed: skip the step of the optimizer for this batch"
                )

    def tell_heads_apart(self) -> None:
        """Find out which parameters belong to one task, before the strategy runs, if heads learn from their own loss.

        Where the graph does not show it, for losses that are elements of one vector or come out of a compiled function,
        a parameter belongs to task t as long as L_t alone had a gradient that is not 0.

        Raises:
            UserError: a loss has no gradient at all in the first step, so that its parameters are unknown.
        """
        if self.heads == "weighted":
            return
        _required(self.shared or None, NEEDS_SHARED)
        if not self._unproven:
            return
        found = list(zip(self._all_rows(), self._of_heads, strict=True))
        nonzero = [[_any([*row, *heads.values()]), *self._in_unproven(heads)] for row, heads in found]  # [T][1 + L]
        flags = self.ranks.any(torch.stack([torch.stack(each) for each in nonzero]).T.contiguous())
        learns, *by_leaf = flags.tolist() if not flags.is_meta else [[True] * len(found)] * len(flags)
        for leaf, has_gradient in zip(self._unproven, by_leaf, strict=True):
            reaching = [t for t, heads in enumerate(self._of_heads) if leaf in heads]
            tasks, before = [t for t in reaching if has_gradient[t]], self.owners.get(leaf)
            if len(tasks) == 1 and before is None and (idle := [t for t in reaching if not learns[t]]):
                raise UserError(
                    f"the loss of task {self.names[idle[0]]} has no gradient in this step, and comes out of one "
                    "operation with others: it cannot be known yet which parameters belong to which task. Pass losses "
                    "that are computed separately, in a list, or set heads=weighted"
                )
            if tasks:
                first = self.tasks[tasks[0]]
                self.owners[leaf] = first if before in (None, first) and len(tasks) == 1 else SEVERAL
            for t in reaching:
                if self.owners.get(leaf) != self.tasks[t]:
                    del self._of_heads[t][leaf]

    def _in_unproven(self, heads: Mapping[Tensor, Tensor]) -> list[Tensor]:
        """Whether the gradient of each leaf in `_unproven` has a number that is not 0."""
        none = torch.zeros((), dtype=torch.bool, device=self.shared[0].device)
        return [_any([heads[leaf]]) if leaf in heads else none for leaf in self._unproven]

    def minimised(self, weights: Tensor, step: Step) -> Tensor:
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
        own = self.heads == "own"
        if not own and self._shared_rows is None and not directed:
            return total
        _required(self.shared or None, NEEDS_SHARED)
        check_wrappers(self.losses)
        one = weights.new_ones(1)
        sums: dict[Tensor, Sum] = {}
        for weight, found in zip(weights.unsqueeze(1), self._of_heads, strict=False):
            sums |= {leaf: Sum(one if own else weight, [gradient]) for leaf, gradient in found.items()}
        *of_heads, of_several = self._unshared
        rest = [leaf for leaf in chain.from_iterable(of_heads) if leaf not in sums]
        of_several = [leaf for leaf in of_several if leaf not in sums]
        for value, parameters in ((losses.sum() if own else total, rest), (total, of_several)):
            sums |= _whole(parameters, self._filled_gradients(value, parameters), one)
        if self._shared_rows is not None and not directed:
            columns = zip(*self._shared_rows, strict=True)
            shared = {leaf: Sum(weights, column) for leaf, column in zip(self.shared, columns, strict=True)}
        else:
            shared = _whole(self.shared, self._shared_gradients(total, step), one)
        # Without a direction over all of them, parameters that no loss depends on still get no gradient.
        reached = set(self.shared if step.direction is not None else chain.from_iterable(self._leaves))
        return with_gradients(total, sums | {leaf: shared[leaf] for leaf in self.shared if leaf in reached})

    def _shared_gradients(self, total: Tensor, step: Step) -> list[Tensor]:
        if step.direction is not None:
            return list(step.direction[0].split([size_of(parameter) for parameter in self.shared]))
        if step.representation_direction is None:
            return self._filled_gradients(total, self.shared)
        features = _required(self.representation, NEEDS_FEATURES)
        cotangent = self.ranks.own(step.representation_direction).view_as(features).to(features.dtype)
        cotangent = cotangent * (self.scale or 1)
        # In place of the features' gradient, so that what reaches shared parameters beside them is added.
        handle = features.register_hook(cotangent.type_as)
        try:
            return self._filled_gradients(total, self.shared)
        finally:
            handle.remove()

    @cached_property
    def _leaves(self) -> list[list[Tensor]]:
        return leaves(self.losses)

    @cached_property
    def _unshared(self) -> list[list[Tensor]]:
        """The leaves of each loss alone, and last those of several losses, without the shared parameters."""
        shared = set(self.shared)
        return [[leaf for leaf in part if leaf not in shared] for part in self._leaves]

    @cached_property
    def _unproven(self) -> Tensors:
        """Leaves that several losses reach and perhaps one alone depends on; none if that makes no difference."""
        candidates = self._unshared[-1] if self.heads == "own" else []
        candidates = [leaf for leaf in candidates if self.owners.get(leaf) != SEVERAL]
        proven = of_several(self.losses) if candidates else set()
        return [leaf for leaf in candidates if leaf not in proven]

    def _all_rows(self) -> list[Row]:
        """Each task's gradients with respect to the shared parameters; those of the heads are kept, too."""
        if self._shared_rows is None:
            _required(self.shared or None, NEEDS_SHARED)
            depth = len(self.shared)

            def shared_gradients() -> Iterator[Sequence[Tensor | None]]:
                for loss, alone in zip(self.losses, self._unshared, strict=False):
                    heads = [*alone, *self._unproven]
                    found = self._gradients(loss, [*self.shared, *heads])
                    pairs = zip(heads, found[depth:], strict=True)
                    self._of_heads.append({leaf: gradient for leaf, gradient in pairs if gradient is not None})
                    yield found[:depth]

            self._shared_rows = self._flat(shared_gradients(), self.losses, self.shared)
        return self._shared_rows

    def _rows(self, losses: Tensors, wanted: Tensors, *, joint: bool = True) -> list[Row]:
        """Each loss's gradients with respect to the wanted tensors; a UserError if there are none."""
        _required(self.shared or None, NEEDS_SHARED)
        return self._flat((self._gradients(loss, wanted) for loss in losses), losses, wanted, joint=joint)

    def _flat(
        self, found: Iterable[Sequence[Tensor | None]], losses: Tensors, wanted: Tensors, *, joint: bool = True
    ) -> list[Row]:
        """The gradients, flat; if `joint`, averaged over the ranks."""
        check_wrappers(losses)
        rows: list[Row] = []
        exist = False
        for each in found:
            exist = exist or any(gradient is not None for gradient in each)
            parts = [flat(part).to(self.dtype) for part in _filled(each, wanted)]
            parts = self.ranks.mean(parts) if joint else parts
            if self.scale is not None and not all(bool(part.isfinite().all()) for part in parts):
                raise GradientOverflowError
            rows.append(parts)
        if not self.ranks.any(torch.tensor([exist], device=wanted[0].device)) if self.ranks.size > 1 else not exist:
            named = None if wanted[0] is self.representation else self.module
            raise UserError(OF_FEATURES if named is None else independence(losses, wanted, named))
        return rows

    def _filled_gradients(self, value: Tensor, wanted: Tensors) -> list[Tensor]:
        return _filled(self._gradients(value, wanted), wanted)

    def _gradients(self, value: Tensor, wanted: Tensors) -> Sequence[Tensor | None]:
        return gradients(value, wanted, self.scale)


def _required(value: V | None, problem: str) -> V:
    if value is None:
        raise UserError(problem)
    return value


def _filled(gradients: Iterable[Tensor | None], wanted: Iterable[Tensor]) -> list[Tensor]:
    """The gradients, with zeros in place of None."""
    pairs = zip(gradients, wanted, strict=True)
    return [torch.zeros_like(tensor) if gradient is None else gradient for gradient, tensor in pairs]


def _any(gradients: Iterable[Tensor]) -> Tensor:
    """Whether any number in these gradients is not 0; NaN is not."""
    return torch.stack([(gradient != 0).any() for gradient in gradients]).any()


def _whole(parameters: Tensors, gradients: Tensors, one: Tensor) -> dict[Tensor, Sum]:
    return {leaf: Sum(one, [gradient]) for leaf, gradient in zip(parameters, gradients, strict=True)}


def last_layer(shared: nn.Module) -> nn.Module | None:
    """The last module, in the order of registration, with a trained weight of two dimensions or more.

    Normalisation layers have no such weight and are skipped.
    """
    for module in reversed(list(shared.modules())):
        if any(parameter.requires_grad and parameter.dim() > 1 for parameter in module.parameters(recurse=False)):
            return module
    return None
