"""`smooth:NAME`: the weights of another strategy, averaged over the steps."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mtlbench.check import Subject, failures
from mtlbench.engine.trainer import Trainer
from mtlbench.errors import ContractError, UserError
from mtlbench.plugins.registry import Registry
from mtlbench.setups import MNIST
from tests.helpers.gradient_problems import few, numbers
from tests.helpers.toy import build, given_step, problem, toy_setup, weigh

SHAPE = (2, 3)


@few
@given(name=st.sampled_from(["upgrad", "imtl-l", "famo", "rlw", "dwa"]), seed=numbers, smoothing=st.floats(0, 0.99))
def test_weights_are_the_moving_average_of_those_of_the_other_strategy(
    registry: Registry, name: str, seed: int, smoothing: float
) -> None:
    plain = build(registry, name, SHAPE)
    smooth = build(registry, f"smooth:{name}", SHAPE, hyper={"smoothing": smoothing})
    average = torch.zeros(SHAPE, dtype=torch.float64)
    for index in range(5):
        losses, jacobian = problem(SHAPE, seed + index)
        weights, gradients = weigh(plain, given_step(losses, jacobian, index=index, epoch=index))
        average = weights if index == 0 else smoothing * average + (1 - smoothing) * weights
        found, found_gradients = weigh(smooth, given_step(losses, jacobian, index=index, epoch=index))
        torch.testing.assert_close(found, average)
        torch.testing.assert_close(found_gradients, gradients)
        with torch.no_grad():
            for strategy, own in ((plain, gradients), (smooth, found_gradients)):
                for parameter, gradient in zip(strategy.parameters(), own, strict=True):
                    parameter.sub_(0.1 * gradient.clamp(-1, 1))
                strategy.after_update(0.9 * losses)
                strategy.epoch_end(losses)


@pytest.mark.parametrize("label", ["smooth:pcgrad", "smooth:gradnorm,alpha=0.5", "smooth:excessmtl"])
def test_it_keeps_the_contract(registry: Registry, label: str) -> None:
    assert failures(Subject(registry, registry.parse(label, MNIST))) == []


def test_it_trains_as_torchjd_does(registry: Registry) -> None:
    setup, trained = toy_setup(size=18), []
    for label in ("smooth:mgda,smoothing=0.8", "torchjd:CRMOGM,weighting=MGDA,alpha=0.8"):
        build_one = partial(registry.build, registry.parse(label, setup))
        trainer = Trainer(
            setup, build_one, (0, 1), setup.samples()[0], batch_size=6, lr=1e-2, device=torch.device("cpu"),
            dtype=torch.float64,
        )  # fmt: skip
        trainer.start_epoch(0)
        for _ in range(3):
            trainer.step()
        trained.append(trainer.network.parameters)
    torch.testing.assert_close(*trained, rtol=1e-5, atol=1e-7)


def test_it_has_the_declarations_and_hyper_parameters_of_the_other_strategy(registry: Registry) -> None:
    spec = registry.parse("smooth:gradnorm,alpha=0.5,smoothing=0.8,heads=own", MNIST)
    assert spec.label == "smooth:gradnorm,smoothing=0.8,alpha=0.5,heads=own"
    assert list(registry.spaces("smooth:gradnorm")) == ["smoothing", "alpha", "lr"]
    strategy = registry.build(spec, SHAPE)
    assert (strategy.heads, strategy.losses, strategy.lr) == ("own", "positive", 0.025)
    assert registry.get("smooth:mgda").heads == "own"
    assert not registry.get("smooth:mgda").overrides("after_update")
    assert registry.get("smooth:famo").overrides("after_update")


def test_its_digest_changes_with_the_file_of_the_other_strategy(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    digests: list[str] = []
    for text in ("sum", "mean"):
        file.write_text(
            "from mtlbench import Strategy, register\n@register('mine')\nclass Mine(Strategy):\n"
            f"    def forward(self, step):\n        return step.losses.{text}(-1)\n"
        )
        registry = Registry.load([file])
        digests.append(registry.digest("smooth:mine"))
        assert str(file) in registry.needed(["smooth:mine"], "mnist")
    assert len(set(digests)) == 2


@pytest.mark.parametrize(
    ("label", "named"),
    [("smooth:upgrd", "upgrad"), ("smooth:smooth:mgda", "smoothing"), ("smooth:mgda,smoothing=1", "smoothing must")],
)
def test_mistakes_are_refused(registry: Registry, label: str, named: str) -> None:
    with pytest.raises(UserError, match=named):
        registry.parse(label, MNIST)


def test_directions_are_refused(registry: Registry) -> None:
    losses, jacobian = problem(SHAPE, 0)
    with pytest.raises(ContractError, match="smooth:graddrop"):
        weigh(build(registry, "smooth:graddrop", SHAPE), given_step(losses, jacobian))
