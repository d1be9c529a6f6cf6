# pyright: strict, reportUnknownMemberType=true, reportUnknownVariableType=true, reportUnknownArgumentType=true
# pyright: reportUnknownParameterType=true
"""Uses every public name as a typed project does, so that `make lint` fails on an unknown type."""

from __future__ import annotations

from typing import Annotated, Literal, assert_type

import torch
from torch import Tensor, nn

from mtlbench import (
    Balancer,
    Choice,
    Conv,
    Convolutions,
    Integers,
    LogUniform,
    PerTask,
    Setup,
    Split,
    Step,
    Strategy,
    Task,
    TaskWeights,
    Uniform,
    UserError,
    __version__,
    binary,
    classification,
    register,
    register_setup,
    regression,
    require,
    scaled,
)

VERSION: str = __version__
SPACES = (Uniform(0, 1), LogUniform(1e-3, 1), Integers(1, 4), Choice(("a", "b")), TaskWeights())
assert_type(SPACES[0].at([0.5]), float)
assert_type(SPACES[2].at([0.5]), int)
assert_type(SPACES[4].at([0.5]), list[float])
PER_TASK: list[PerTask] = [PerTask(), SPACES[4]]


TASKS = (classification("digit", 10), binary("odd"), scaled(regression("slant"), 0.1))
assert_type(TASKS[2], Task)


def samples() -> tuple[Split, Split]:
    """A training and a validation split."""
    split = Split(torch.zeros(1, 4), torch.zeros(1, 3))
    return split, split


CONVOLUTIONS = Convolutions((1, 2, 2), (Conv(3, kernel=2),))
assert_type(CONVOLUTIONS.features, int)
register_setup(
    Setup(
        name="typed-use",
        about="nothing to learn",
        tasks=TASKS,
        convolutions=CONVOLUTIONS,
        widths=(CONVOLUTIONS.features, 2),
        samples=samples,
        test=lambda: samples()[0],
        training_size=1,
    )
)


@register("typed-use")
class TypedUse(Strategy):
    """A strategy with every signal and hook."""

    heads: Literal["weighted", "own"] = "own"

    def __init__(self, shape: tuple[int, int], *, alpha: Annotated[float, Uniform(0, 1)] = 0.5) -> None:
        super().__init__(shape)
        require(alpha >= 0, "alpha must be >= 0", alpha)
        self.alpha = alpha

    def forward(self, step: Step) -> Tensor:
        assert_type(step.losses, Tensor)
        assert_type(step.gramian(last=True), Tensor)
        assert_type(step.jacobian(), Tensor)
        assert_type(step.independent_gramian(), Tensor)
        assert_type(step.representation_gradients(), Tensor)
        assert_type(step.rand(2), Tensor)
        return step.losses.sum(-1)


def train(trunk: nn.Module, losses: list[Tensor]) -> Tensor:
    try:
        balance = Balancer(TypedUse, tasks=["one", "other"], shared=trunk)
    except UserError as error:
        raise SystemExit(str(error)) from error
    assert_type(balance.task_names, list[str])
    assert_type(balance.strategy, Strategy)
    scalar = balance(torch.stack(losses))
    assert_type(scalar, Tensor)
    balance.epoch_end()
    return scalar
