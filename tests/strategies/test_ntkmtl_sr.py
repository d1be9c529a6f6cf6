"""`ntkmtl-sr`: weights from the gradients of parts of the batch at the representation."""

from __future__ import annotations

import math
from functools import partial

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mtlbench.contracts.strategy import Step
from mtlbench.plugins.registry import Registry
from tests.helpers.authors import Authors, Comparison, code
from tests.helpers.gradient_problems import few, numbers
from tests.helpers.plain import PlainStep, Weighted
from tests.helpers.refused import NOT_NEGATIVE, POSITIVE, Refused
from tests.helpers.toy import GivenGradients, build, weigh

# The code of jianke0604/NTKMTL at abbf1f0, methods/weight_methods.py, with torch's default dtype float64: the lambda_
# of NTKMTL.get_weighted_loss, its lines for NTKMTL-SR uncommented, by number of parts and ntk_exp. A sample's loss is
# (GRADIENTS * z).sum(-1), and losses are the means over the parts of torch.chunk, as in experiments/celeba/trainer.py.
GRADIENTS = (torch.arange(30, dtype=torch.float64).view(2, 5, 3) * 7 % 11 - 5) / 4  # [T, B, F]
WEIGHTS = {
    (4, 0.5): [1.3257359305592338, 1.5231546211727816],
    (4, 0.75): [1.5264603933604197, 1.879818800076447],
    (2, 0.5): [1.3449251017851382, 1.4954476374529588],
    (2, 0.75): [1.5597218243665987, 1.8287604316819925],
    (1, 0.5): [1.3451854182690985, 1.495090003192804],
    (1, 0.75): [1.5601746833550971, 1.8281044525654975],
}


def largest_eigenvalues(gradients: Tensor, parts: int) -> Tensor:
    """Of the matrix of products between the parts' gradients, `[T]`, from gradients of batch means `[T, B, F]`."""
    batch = gradients.shape[1]
    rows: list[Tensor] = []
    for chosen in torch.arange(batch).chunk(parts):
        inside = torch.zeros(batch, 1, dtype=torch.float64)
        inside[chosen] = batch / len(chosen)
        rows.append((gradients * inside).flatten(1))
    stacked = torch.stack(rows, 1)  # [T, n, B * F]
    return torch.linalg.eigvalsh(stacked @ stacked.mT)[:, -1]


class NTKMTLSR(Weighted):
    def __init__(self, parts: int = 4, power: float = 0.5) -> None:
        self.parts, self.power = parts, power

    def weigh(self, step: PlainStep) -> Tensor:
        rows = [torch.autograd.grad(loss, step.representation, retain_graph=True)[0] for loss in step.losses]
        # The stack's gradients are those that pass the ReLU.
        values = largest_eigenvalues(torch.stack(rows) * (step.representation > 0), self.parts)
        return (values.sum() / values) ** self.power


PLAIN = {"ntkmtl-sr": NTKMTLSR, "ntkmtl-sr:parts=2,power=0.75": partial(NTKMTLSR, 2, 0.75)}
REFUSED: Refused = {"parts": POSITIVE, "power": NOT_NEGATIVE}


class Features(GivenGradients):
    """Gradients of a representation `[K, T, B, F]`."""

    def __init__(self, gradients: Tensor) -> None:
        super().__init__(gradients.flatten(2))
        self._gradients = gradients

    def representation_gradients(self) -> Tensor:
        return self._gradients


def weights_of(registry: Registry, gradients: Tensor, *, parts: int, power: float = 0.5) -> Tensor:
    replicas, tasks = gradients.shape[:2]
    losses, zero = torch.ones(replicas, tasks, dtype=torch.float64, requires_grad=True), torch.tensor(0)
    step = Step(losses, Features(gradients), index=zero, epoch=zero, seeds=torch.arange(replicas))
    strategy = build(registry, "ntkmtl-sr", (replicas, tasks), hyper={"parts": parts, "power": power})
    return weigh(strategy, step)[0]


AUTHORS = Authors(
    *(
        Comparison(
            code("jianke0604/NTKMTL", "abbf1f0"),
            [weights],
            ours=partial(weights_of, gradients=GRADIENTS.unsqueeze(0) / GRADIENTS.shape[1], parts=parts, power=power),
        )
        for (parts, power), weights in WEIGHTS.items()
    ),
    default="the code's (for NYUv2 `parts` is 2)",
    deviations="entries where the ReLU of the representation is off count as 0; the objective is not a mean over parts",
)


@few
@given(tasks=st.integers(2, 5), batch=st.integers(1, 9), parts=st.integers(1, 6), seed=numbers)
def test_takes_the_largest_eigenvalues(registry: Registry, tasks: int, batch: int, parts: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.exp(2 * torch.randn(3, tasks, batch, 1, generator=generator, dtype=torch.float64))
    gradients = lengths * torch.randn(3, tasks, batch, 4, generator=generator, dtype=torch.float64)
    values = torch.stack([largest_eigenvalues(one, parts) for one in gradients])
    expected = (values.sum(-1, keepdim=True) / values).sqrt()
    torch.testing.assert_close(weights_of(registry, gradients, parts=parts), expected, rtol=1e-9, atol=0)


def test_a_zero_gradient_has_the_weight_of_equal_ones(registry: Registry) -> None:
    gradients = torch.zeros(1, 3, 4, 2, dtype=torch.float64)
    torch.testing.assert_close(
        weights_of(registry, gradients, parts=2), torch.full((1, 3), math.sqrt(3), dtype=torch.float64)
    )
    gradients[:, :2] = 1
    expected = torch.tensor([[2**0.5, 2**0.5, 3**0.5]], dtype=torch.float64)
    torch.testing.assert_close(weights_of(registry, gradients, parts=2), expected)
