"""`graddrop`: one sign of the gradient is kept at each feature."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchjd import aggregation

from mtlbench.contracts.strategy import Step
from mtlbench.plugins.registry import Registry
from tests.helpers.authors import TORCHJD, Authors, Comparison, aggregated, code
from tests.helpers.gradient_problems import numbers
from tests.helpers.plain import Plain, PlainStep
from tests.helpers.played_steps import few_plays, few_tasks
from tests.helpers.refused import SHARE, Refused
from tests.helpers.toy import GivenGradients, build, weigh

# The code of tensorflow/lingvo at e0be5dc, lingvo/core/graddrop.py, in float32, which has all these numbers: the
# gradient that GradDrop passes on from losses `gradients @ z`, z = [2, 2, 2, 2], with keep_gradnorm_constant=False
# and `DRAWS` for tf.random.uniform, for each step, by leak ratio.
DIRECTIONS = {
    0.0: [
        [3.5, 3.0, -1.0, -2.0],
        [3.0, 1.5, -1.5, 0.75],
        [1.0, 1.75, -0.75, 3.5],
    ],
    0.25: [
        [3.25, 3.0, -0.875, -1.90625],
        [2.875, 1.4375, -1.25, 0.5],
        [0.75, 1.75, -0.625, 3.5],
    ],
}


class GradDrop(Plain):
    def objective(self, step: PlainStep) -> tuple[Tensor, Tensor | None]:
        rows = [torch.autograd.grad(loss, step.representation, retain_graph=True)[0] for loss in step.losses]
        # The stack's gradients are those that pass the ReLU.
        gradients = torch.stack(rows) * (step.representation > 0)  # [T, B, F]
        signs = gradients.sum(1)  # [T, F]
        total = signs.abs().sum(0)
        share = torch.where(total > 0, (1 + signs.sum(0) / total) / 2, 0.5)
        chosen = torch.where(step.drawn(0, len(share)) < share, 1.0, -1.0)
        kept = (gradients * (signs * chosen > 0)[:, None]).sum(0)
        trunk = list(step.network.trunk.parameters())
        grads = torch.autograd.grad(step.representation, trunk, kept, retain_graph=True)
        return step.losses.sum(), torch.cat([grad.flatten() for grad in grads])


PLAIN = {"graddrop": GradDrop}
REFUSED: Refused = {"leak": SHARE}
DRAWS = [0.2, 0.5, 0.7, 0.4]


def drawn(*_: object, **__: object) -> Tensor:
    return torch.tensor(DRAWS)


AUTHORS = Authors(
    *(
        Comparison(code("tensorflow/lingvo", "e0be5dc"), directions, "directions", hyper={"leak": leak}, draws=DRAWS)
        for leak, directions in DIRECTIONS.items()
    ),
    Comparison(TORCHJD, aggregated(aggregation.GradDrop, rand=drawn), "directions", draws=DRAWS),
    default="algorithm 1",
    deviations="no rescaling to the length of the sum of all gradients (`keep_gradnorm_constant`, the code's default)",
)


class Features(GivenGradients):
    """Gradients of a representation `[K, T, B, F]`."""

    def __init__(self, gradients: Tensor) -> None:
        super().__init__(gradients.flatten(2))
        self._gradients = gradients

    def representation_gradients(self) -> Tensor:
        return self._gradients


def drop(registry: Registry, gradients: Tensor, leak: float) -> tuple[Tensor, Tensor]:
    """Weights `[K, T]` and what the representation passes on, `[K, B, F]`."""
    replicas, tasks = gradients.shape[:2]
    step = Step(
        torch.ones(replicas, tasks, dtype=torch.float64, requires_grad=True),
        Features(gradients),
        index=torch.tensor(2),
        epoch=torch.tensor(0),
        seeds=torch.arange(replicas),
    )
    weights, _ = weigh(build(registry, "graddrop", (replicas, tasks), hyper={"leak": leak}), step)
    assert step.representation_direction is not None
    return weights, step.representation_direction


@given(tasks=few_tasks, seed=numbers, leak=st.floats(0, 1))
def test_keeps_one_sign_at_each_feature(registry: Registry, tasks: int, seed: int, leak: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    gradients = torch.randn(4, tasks, 5, 6, generator=generator, dtype=torch.float64)
    weights, actual = drop(registry, gradients, leak)
    assert torch.equal(weights, torch.ones_like(weights))
    positive = (gradients.sum(2, keepdim=True) > 0).double()  # [K, T, 1, F]
    up = (gradients * (leak + (1 - leak) * positive)).sum(1)
    down = (gradients * (leak + (1 - leak) * (1 - positive))).sum(1)
    matches = torch.stack([torch.isclose(actual, either, atol=1e-12).all(1) for either in (up, down)])
    assert bool(matches.any(0).all())  # [K, F]


@given(tasks=few_tasks, seed=numbers)
def test_without_drops_is_the_sum(registry: Registry, tasks: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    gradients = torch.randn(4, tasks, 5, 6, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(drop(registry, gradients, 1.0)[1], gradients.sum(1))
    one_sign = gradients.abs() * torch.tensor([1.0, -1.0, 1.0, 1.0, -1.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(drop(registry, one_sign, 0.0)[1], one_sign.sum(1))


def test_draws_the_positive_sign_with_its_share(registry: Registry) -> None:
    gradients = torch.tensor([[1.0, 3.0, 0.2], [-1.0, -1.0, -1.8]], dtype=torch.float64)
    replicas = 4000
    _, actual = drop(registry, gradients[None, :, None].expand(replicas, -1, 1, -1), 0.0)
    shares = torch.tensor([0.5, 0.75, 0.1], dtype=torch.float64)
    error = (shares * (1 - shares) / replicas).sqrt()
    assert bool((((actual[:, 0] > 0).double().mean(0) - shares).abs() < 4 * error).all())
    # One draw for all tasks at a feature, another for each feature.
    signs = (actual[:, 0] > 0).double().T.corrcoef() - torch.eye(3, dtype=torch.float64)
    assert float(signs.abs().max()) < 4 / replicas**0.5


@few_plays
@given(tasks=few_tasks, seed=numbers)
def test_expects_each_sign_in_its_share(registry: Registry, tasks: int, seed: int) -> None:
    """Over draws, the gradient at a feature is P times the positive part plus (1 - P) times the negative part."""
    generator = torch.Generator().manual_seed(seed)
    gradients = torch.randn(1, tasks, 1, 6, generator=generator, dtype=torch.float64)
    _, actual = drop(registry, gradients.expand(2000, -1, -1, -1), 0.0)
    positive, negative = gradients.clamp_min(0).sum(1), gradients.clamp_max(0).sum(1)  # [1, 1, F]
    share = positive / (positive - negative)
    spread = (share * (1 - share)).sqrt() * (positive - negative) / 2000**0.5
    error = actual.mean(0, keepdim=True) - share * positive - (1 - share) * negative
    assert bool((error.abs() < 6 * spread + 1e-12).all())
