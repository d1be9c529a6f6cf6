"""A step's signals for any network, by torch's autograd: one backward pass per task, made when it is asked for.

What the stacked engine computes by its own products (`mtlbench.engine.gradients`) is here asked of autograd, for a
single replica, K = 1.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Sequence
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node, get_gradient_edge

from mtlbench.balancer.given_gradients import Sum, with_gradients
from mtlbench.contracts.strategy import Heads, Step
from mtlbench.errors import UserError

OF_SHARED = "no loss depends on a parameter of shared: name the module that the losses are computed with"
OF_FEATURES = "no loss depends on the features that were given: pass the very tensor that the heads are computed from"


class GradientOverflowError(Exception):
    """A scaled task gradient is not finite: the scale is too large for half precision."""


class LossGradients:
    """The gradients of one step's losses.

    Args:
        losses: T scalars with their graphs, which are kept.
        shared: the parameters that all tasks share and that require grad; P is their size.
        last: those of the last shared layer.
        representation: the shared representation `[B, ...]` with its graph, if the caller has it.
        further: makes the losses of a further batch, if the caller can.
        dtype: of what is returned; at least float32, whatever precision the losses are made in.
        scale: the losses are multiplied by it for every backward pass and the gradients divided by it, so that half
            precision holds them; None is no scaling.
    """

    def __init__(
        self,
        losses: Sequence[Tensor],
        *,
        shared: Sequence[Tensor],
        last: Sequence[Tensor],
        representation: Tensor | None,
        further: Callable[[], Sequence[Tensor]] | None,
        dtype: torch.dtype,
        scale: float | None,
    ) -> None:
        self._losses, self._shared, self._last = losses, shared, last
        self._representation, self._further = representation, further
        self._dtype, self._scale = dtype, scale
        self._found: list[list[Tensor]] | None = None
        self._of_heads: list[list[tuple[Tensor, Tensor]]] = []

    @property
    def scaled(self) -> bool:
        """Whether gradients may overflow by their scale."""
        return self._scale is not None

    def gramian(self, *, last: bool = False) -> Tensor:
        """Inner products of the task gradients over the shared parameters, or the last layer's, `[1, T, T]`."""
        if last and self._shared and not self._last:
            raise UserError("nothing in a last shared layer is trained: name it, Balancer(..., last=MODULE)")
        rows = self._rows(self._losses, self._last, OF_SHARED) if last else self._all_rows()
        return _products(rows, rows).unsqueeze(0)

    def jacobian(self) -> Tensor:
        """The task gradients over the shared parameters, one after the other, `[1, T, P]`."""
        return torch.stack([torch.cat(row) for row in self._all_rows()]).unsqueeze(0)

    def independent_gramian(self) -> Tensor:
        """Inner products between the task gradients of two further batches, `[1, T, T]`."""
        if self._further is None:
            raise UserError(
                "this strategy looks at two further batches in every step: call it with a function that returns the "
                "losses of another batch each time, balance(losses, further=FUNCTION)"
            )
        one, other = (self._rows(self._further(), self._shared, OF_SHARED) for _ in range(2))
        return _products(one, other).unsqueeze(0)

    def representation_gradients(self) -> Tensor:
        """Gradients of the losses by the representation, `[1, T, B, F]`, 0 where the representation is."""
        seen = self._given_representation()
        rows = torch.stack([row for (row,) in self._rows(self._losses, [seen], OF_FEATURES)])
        rows = rows.view(len(self._losses), len(seen), -1)
        return (rows * (seen.detach().flatten(1) != 0)).unsqueeze(0)

    def minimised(self, weights: Tensor, heads: Heads, step: Step) -> Tensor:
        """A scalar of value `sum_t weights_t L_t` whose backward pass gives every parameter its gradient.

        The shared ones get that of the sum, or what the strategy chose in its place; others that several losses depend
        on that of the sum; and those of head t their share of the sum (`weighted`), or the gradient of L_t (`own`).
        Where that is the gradient of the sum and nothing has been differentiated over all shared parameters yet, it is
        the sum itself with its graph. Else the gradients are made here, those of the shared parameters from what the
        strategy has already seen, and given back as they are.

        Args:
            weights: `[T]`.
            heads: the strategy's.
            step: what the strategy has seen, with the direction it chose.
        """
        losses = torch.stack([loss.to(self._dtype) for loss in self._losses])
        total = (weights * losses).sum()
        directed = step.direction is not None or step.representation_direction is not None
        if heads == "weighted" and self._found is None and not directed:
            return total
        self._check_shared()
        among_shared = {id(parameter) for parameter in self._shared}
        reached = {id(leaf): leaf for part in self._reached for leaf in part}
        one = weights.new_ones(1)
        gradients: dict[Tensor, Sum] = {}
        for weight, part in zip(weights.unsqueeze(1), self._of_heads, strict=False):
            gradients |= {leaf: Sum(one if heads == "own" else weight, [gradient]) for leaf, gradient in part}
        *of_heads, of_several = [
            [leaf for leaf in part if id(leaf) not in among_shared and leaf not in gradients] for part in self._reached
        ]
        rest = [leaf for part in of_heads for leaf in part]
        for value, those in ((losses.sum() if heads == "own" else total, rest), (total, of_several)):
            found = self._filled(self._gradients(value, those), those)
            gradients |= {leaf: Sum(one, [gradient]) for leaf, gradient in zip(those, found, strict=True)}
        for parameter, gradient in zip(self._shared, self._shared_gradients(weights, total, step), strict=True):
            # One that no loss depends on keeps having no gradient, unless a direction speaks of it.
            if step.direction is not None or id(parameter) in reached:
                gradients[parameter] = gradient
        return with_gradients(total, gradients)

    def _shared_gradients(self, weights: Tensor, total: Tensor, step: Step) -> list[Sum]:
        if step.direction is None and step.representation_direction is None and self._found is not None:
            return [Sum(weights, column) for column in zip(*self._found, strict=True)]
        if step.direction is not None:
            found = self._split(step.direction[0])
        elif step.representation_direction is not None:
            seen = self._given_representation()
            cotangent = step.representation_direction.view_as(seen).to(seen.dtype)
            found = self._filled(self._gradients(seen, self._shared, cotangent), self._shared)
        else:
            found = self._filled(self._gradients(total, self._shared), self._shared)
        return [Sum(weights.new_ones(1), [gradient]) for gradient in found]

    def _given_representation(self) -> Tensor:
        if self._representation is None:
            raise UserError(
                "this strategy looks at the shared representation, the trunk's output behind its ReLU: pass it beside "
                "the losses, balance(losses, features)"
            )
        return self._representation

    def _check_shared(self) -> None:
        if not self._shared:
            raise UserError(
                "this strategy treats what the tasks share apart from their heads: name the module that they share "
                "and that is trained, Balancer(..., shared=model.trunk)"
            )

    @cached_property
    def _reached(self) -> list[list[Tensor]]:
        return leaves(self._losses)

    def _all_rows(self) -> list[list[Tensor]]:
        """Of each task, its gradient by each shared parameter, flat; those by the heads' are made on the way."""
        if self._found is None:
            self._check_shared()
            among_shared = {id(parameter) for parameter in self._shared}
            heads = [[leaf for leaf in part if id(leaf) not in among_shared] for part in self._reached[:-1]]
            pairs = zip(self._losses, heads, strict=True)
            gradients = [self._gradients(loss, [*self._shared, *head]) for loss, head in pairs]
            depth = len(self._shared)
            of_heads = [self._filled(row[depth:], head) for row, head in zip(gradients, heads, strict=True)]
            self._of_heads = [list(zip(*each, strict=True)) for each in zip(heads, of_heads, strict=True)]
            self._found = self._flat([row[:depth] for row in gradients], self._shared, OF_SHARED)
        return self._found

    def _rows(self, losses: Sequence[Tensor], wanted: Sequence[Tensor], what: str) -> list[list[Tensor]]:
        """Of each loss, its gradient by each tensor that is wanted, flat; `what` says what is wrong if none has one."""
        self._check_shared()
        return self._flat([self._gradients(loss, wanted) for loss in losses], wanted, what)

    def _flat(
        self, gradients: Sequence[Sequence[Tensor | None]], wanted: Sequence[Tensor], what: str
    ) -> list[list[Tensor]]:
        if all(part is None for each in gradients for part in each):
            raise UserError(what)
        rows = [[part.flatten().to(self._dtype) for part in self._filled(each, wanted)] for each in gradients]
        if self.scaled and not all(bool(part.isfinite().all()) for row in rows for part in row):
            raise GradientOverflowError
        return rows

    def _gradients(
        self, value: Tensor, wanted: Sequence[Tensor], cotangent: Tensor | None = None
    ) -> list[Tensor | None]:
        """Gradients of `(cotangent * value).sum()`, None where it does not depend on what is wanted."""
        if not (value.requires_grad and wanted and any(tensor.requires_grad for tensor in wanted)):
            return [None] * len(wanted)
        cotangent = torch.ones_like(value) if cotangent is None else cotangent
        if self._scale is not None:
            cotangent = cotangent * self._scale
        try:
            made = torch.autograd.grad(value, wanted, cotangent, retain_graph=True, allow_unused=True)
        except RuntimeError as error:
            if "donated" not in str(error):
                raise
            raise UserError(
                "losses or a trunk from torch.compile are differentiated once for each task, which it has to know: set "
                "torch._functorch.config.donated_buffer = False before they are compiled"
            ) from None
        found = typing.cast("Sequence[Tensor | None]", made)
        if self._scale is None:
            return list(found)
        return [None if gradient is None else gradient / self._scale for gradient in found]

    @staticmethod
    def _filled(gradients: Sequence[Tensor | None], wanted: Sequence[Tensor]) -> list[Tensor]:
        """Zeros in place of the gradients that are not there."""
        pairs = zip(gradients, wanted, strict=True)
        return [torch.zeros_like(tensor) if gradient is None else gradient for gradient, tensor in pairs]

    def _split(self, flat: Tensor) -> list[Tensor]:
        parts = flat.split([parameter.numel() for parameter in self._shared])
        return [part.view_as(parameter).to(parameter) for part, parameter in zip(parts, self._shared, strict=True)]


def leaves(losses: Sequence[Tensor]) -> list[list[Tensor]]:
    """The tensors that a backward pass from these losses leaves gradients in: parameters, as a rule.

    Returns:
        One list for each loss, of what no other loss depends on, and last that of what several do.
    """
    owner: dict[Node, int] = {}
    several = len(losses)
    for number, loss in enumerate(losses):
        ahead: list[Node | None] = [get_gradient_edge(loss).node] if loss.requires_grad else []
        while ahead:
            node = ahead.pop()
            found = number if node is None else owner.get(node)
            if node is None or found in (number, several):
                continue
            owner[node] = number if found is None else several
            ahead += [before for before, _ in node.next_functions]
    parts: list[list[Tensor]] = [[] for _ in range(several + 1)]
    for node, number in owner.items():
        if type(node).__name__ == "AccumulateGrad":
            parts[number].append(typing.cast("typing.Any", node).variable)
    return parts


def _products(rows: Sequence[Sequence[Tensor]], others: Sequence[Sequence[Tensor]]) -> Tensor:
    """Inner products `[T, T]` of gradients that are given parameter by parameter; a Gramian where both are the same.

    Pair by pair: joined to one matrix first, they would be copied, which takes longer than the products.
    """
    tasks = range(len(rows))
    found = {
        (s, t): torch.stack([one @ other for one, other in zip(rows[s], others[t], strict=True)]).sum()
        for s in tasks
        for t in (tasks[s:] if rows is others else tasks)
    }
    return torch.stack([found[s, t] if (s, t) in found else found[t, s] for s in tasks for t in tasks]).view(
        len(rows), -1
    )


def last_layer(shared: nn.Module) -> nn.Module | None:
    """The last module, in the order of registration, that has a trained weight of two dimensions or more.

    Normalisation layers have none, and are passed over.
    """
    found = None
    for module in shared.modules():
        if any(parameter.requires_grad and parameter.dim() > 1 for parameter in module.parameters(recurse=False)):
            found = module
    return found
