"""Which losses a parameter's gradient can come from, as far as the losses' graph shows it."""

from __future__ import annotations

import typing
from collections.abc import Iterable, Sequence

from torch import Tensor
from torch.autograd.graph import Node, get_gradient_edge

_WHOLE = """
View UnsafeView ReshapeAlias T Transpose Permute Unsqueeze Squeeze Expand Alias Clone ToCopy
Add Sub Rsub Mul Div Neg Pow Exp Log Log1P Sqrt Rsqrt Abs Mean Sum Logsumexp LinalgVectorNorm
Addmm Mm Bmm Baddbmm Linear Convolution MaxPool2DWithIndices AvgPool2D AdaptiveAvgPool2D
NativeBatchNorm CudnnBatchNorm NativeLayerNorm NativeGroupNorm FusedRmsNorm NativeDropout
Relu LeakyRelu Elu Gelu Silu Mish Sigmoid LogSigmoid Tanh Softplus Hardtanh Hardswish Softmax LogSoftmax
MseLoss SmoothL1Loss HuberLoss NllLoss NllLoss2D BinaryCrossEntropy BinaryCrossEntropyWithLogits
"""
WHOLE = frozenset(_WHOLE.split())
"""Operations whose whole output depends on the whole of each input, whatever the values. Others, such as slices, `cat`,
compiled functions and a user's own, may keep parts of a tensor apart."""
_TAKING = ("UnbindBackward0", "SelectBackward0")


def leaves(losses: Sequence[Tensor]) -> list[list[Tensor]]:
    """The tensors that a backward pass from these losses leaves gradients in, usually parameters.

    Returns:
        One list per loss of the leaves that no other loss reaches, and last the leaves that several losses reach.
    """
    owner: dict[Node, int] = {}
    several = len(losses)
    for number, loss in enumerate(losses):
        ahead = _roots([loss])
        while ahead:
            node = ahead.pop()
            before = owner.get(node)
            if before in (number, several):
                continue
            owner[node] = number if before is None else several
            ahead += _inputs(node)
    parts: list[list[Tensor]] = [[] for _ in range(several + 1)]
    for node, number in owner.items():
        if (leaf := _leaf(node)) is not None:
            parts[number].append(leaf)
    return parts


def of_several(losses: Sequence[Tensor]) -> set[Tensor]:
    """The leaves that the graph proves several losses to depend on.

    A loss depends on all that a tensor is computed from if operations in `WHOLE` alone lead from the tensor to the
    loss. Of a leaf that several losses merely reach, each may depend or not: two losses that are elements of one vector
    reach everything that the vector is computed from.
    """
    users: dict[Node, int] = {}  # bit t: loss t depends on the whole output
    for number, root in enumerate(losses):
        for node in _roots([root]):
            users[node] = users.get(node, 0) | 1 << number
    proven: set[Tensor] = set()
    for node in _users_first(_roots(losses)):
        losses_of_node = users.get(node, 0)
        if losses_of_node.bit_count() > 1 and (leaf := _leaf(node)) is not None:
            proven.add(leaf)
        if _is_whole(node):
            for further in _inputs(node):
                users[further] = users.get(further, 0) | losses_of_node
    return proven


def whole_of(loss: Tensor) -> Node | None:
    """The node that computes the vector of which a loss is an element, or else the loss; None without a graph.

    In a backward pass, the other elements of that vector get gradients of 0.
    """
    node: Node | None = loss.grad_fn
    while node is not None and type(node).__name__ in _TAKING:
        node = node.next_functions[0][0]
    return node


def is_checkpointed(losses: Sequence[Tensor]) -> bool:
    """Whether a reentrant checkpoint, which hides the parameters that it uses, is part of the graph."""
    return bool(named(losses, "CheckpointFunctionBackward"))


def named(losses: Sequence[Tensor], name: str) -> list[typing.Any]:
    """The nodes of the losses' graph of this name."""
    return [node for node in _users_first(_roots(losses)) if type(node).__name__ == name]


def _roots(losses: Iterable[Tensor]) -> list[Node]:
    return [_source(*get_gradient_edge(loss)[:2]) for loss in losses if loss.requires_grad]


def _inputs(node: Node) -> list[Node]:
    return [
        further if type(further).__name__ not in _TAKING else _source(further, output)
        for further, output in node.next_functions
        if further is not None
    ]


def _source(node: Node, output: int) -> Node:
    """The node that computes an output; for an element of `torch.stack`, the one that computes the element."""
    while type(node).__name__ in _TAKING:
        taking = typing.cast("typing.Any", node)
        stack = taking.next_functions[0][0]
        index = output if type(node).__name__ == "UnbindBackward0" else taking._saved_index
        if type(stack).__name__ != "StackBackward0" or stack._saved_dim != taking._saved_dim:
            break
        if index >= len(stack.next_functions) or stack.next_functions[index][0] is None:
            break
        node, output = stack.next_functions[index]
    return node


def _is_whole(node: Node) -> bool:
    operation, _, version = type(node).__name__.partition("Backward")  # a user's own has no version
    return operation in WHOLE and version.isdigit()


def _leaf(node: Node) -> Tensor | None:
    return typing.cast("typing.Any", node).variable if type(node).__name__ == "AccumulateGrad" else None


def _users_first(roots: Iterable[Node]) -> list[Node]:
    """All nodes that the roots depend on, each after all that use it."""
    order: list[Node] = []
    seen: set[Node] = set()
    ahead = [(root, False) for root in roots]
    while ahead:
        node, inputs_done = ahead.pop()
        if inputs_done:
            order.append(node)
        elif node not in seen:
            seen.add(node)
            ahead.append((node, True))
            ahead += [(further, False) for further in _inputs(node)]
    return order[::-1]
