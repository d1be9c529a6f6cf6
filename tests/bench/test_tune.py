"""Tuning: equal budgets, within the declared spaces, and no access to the test set."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mtlbench import Choice, Integers, LogUniform, Step, Strategy, TaskWeights, Uniform, data
from mtlbench.bench import tune
from mtlbench.bench.planning import Request, plan
from mtlbench.contracts.space import Space
from mtlbench.plugins.registry import Registry
from mtlbench.records.records import Spec
from mtlbench.records.roles import tuning_seeds
from tests.helpers.tiny_bench import Silent
from tests.helpers.toy import TINY

units = st.floats(0, 1, exclude_max=True)
PEEKS = {
    "by-its-path": "open(data.MNIST.folder / 't10k-images-idx3-ubyte', 'rb').read(16)",
    "by-the-package": "data.test(data.MNIST)",
    "by-the-setup": "setups.SETUPS['mnist'].test()",
    "by-numpy": "numpy.memmap(str(data.MNIST.folder / 't10k-labels-idx1-ubyte'))",
    "by-a-descriptor": "os.open(data.MNIST.folder / 't10k-labels-idx1-ubyte', os.O_RDONLY)",
}
CURIOUS = """
import os
import numpy
from mtlbench import Strategy, data, register, setups

@register("{name}")
class Curious(Strategy):
    def epoch_end(self, mean_losses):
        {peek}

    def forward(self, step):
        return step.losses.sum(-1)
"""


def request(out: Path, strategies: list[str], *plugins: Path) -> Request:
    return Request(
        name="t",
        out=out,
        setups=[TINY.name],
        strategies=strategies,
        seeds=tuning_seeds(1),
        epochs=1,
        batch_size=100,
        lr=1e-3,
        device="cpu",
        jobs=2,
        plugins=plugins,
        command="test",
    )


class Declares(Strategy):
    def __init__(
        self,
        shape: tuple[int, int],
        *,
        a: Annotated[float, Uniform(-1, 1)] = 0.0,
        b: Annotated[float, LogUniform(1e-3, 10)] = 1.0,
        c: Annotated[int, Integers(2, 4)] = 2,
        d: Literal["x", "y"] = "x",
        e: Annotated[bool, Choice((True, False))] = False,
        weights: Annotated[list[float] | None, TaskWeights()] = None,
        untuned: float = 0.5,
    ) -> None:
        super().__init__(shape)

    def forward(self, step: Step) -> Tensor:
        return step.losses.sum(-1)


def test_spaces_are_declared_with_their_hyper_parameters(registry: Registry) -> None:
    registry = Registry({"declares": replace(registry.strategies["fixed"], value=Declares)})
    spaces = registry.spaces("declares")
    assert list(spaces) == ["a", "b", "c", "d", "e", "weights"]
    assert spaces["d"] == Choice(("x", "y"))
    spec = Spec(label="declares:a=0.5", name="declares", hyper={"a": 0.5})
    trials = tune.trials_of(spec, registry, tasks=3, lr=1e-3, budget=40)
    assert trials[0] == ({"a": 0.5}, 1e-3)
    for hyper, lr in trials[1:]:
        assert set(hyper) == {"a", "b", "c", "d", "e", "weights"}
        assert hyper["a"] == 0.5
        assert 1e-4 <= lr <= 1e-2
        weights = hyper["weights"]
        assert isinstance(weights, list)
        assert len(weights) == 3
        assert sum(weights) == pytest.approx(3, rel=1e-3)
    assert {hyper["c"] for hyper, _ in trials[1:]} == {2, 3, 4}
    assert {hyper["d"] for hyper, _ in trials[1:]} == {"x", "y"}


@given(units, units)
def test_values_of_a_space_are_within_bounds_and_monotonic(one: float, other: float) -> None:
    low, high = sorted((one, other))
    for space, bounds in ((Uniform(-2, 3), (-2, 3)), (LogUniform(1e-4, 10), (1e-4, 10)), (Integers(1, 5), (1, 5))):
        below, above = space.at([low]), space.at([high])
        assert bounds[0] <= below <= above <= bounds[1]


@given(st.lists(units, min_size=1, max_size=7))
def test_task_weights_lie_on_the_simplex(point: list[float]) -> None:
    space: Space = TaskWeights()
    tasks = len(point) + 1
    assert space.dimensions(tasks) == len(point)
    weights = TaskWeights().at(point)
    assert all(weight >= 0 for weight in weights)
    assert sum(weights) == pytest.approx(tasks, rel=1e-3)


def test_every_strategy_gets_equally_many_valid_trials(registry: Registry) -> None:
    for name in registry.strategies:
        trials = tune.trials_of(Spec(label=name, name=name, hyper={}), registry, 2, 1e-3, 20)
        assert len(trials) == 20
        for hyper, _ in trials:
            registry.build(Spec(label=name, name=name, hyper=hyper), (1, 2))


def test_learning_rates_are_spread_and_equal_for_all_strategies(registry: Registry) -> None:
    rates = {
        tuple(lr for _, lr in tune.trials_of(Spec(label=name, name=name, hyper={}), registry, 2, 1e-3, 16))
        for name in registry.strategies
    }
    assert len(rates) == 1
    logs = torch.tensor(rates.pop()[1:]).log10() + 3
    assert (logs < -0.4).sum() >= 3
    assert (logs > 0.4).sum() >= 3


def test_the_bench_trains_the_chosen_settings(tmp_path: Path) -> None:
    asked = request(tmp_path, ["uncertainty"])
    display = Silent()
    assert tune.execute(tune.plan_tuning(asked, 3), display)
    assert len(display.titles) == 6
    display = Silent()
    assert tune.execute(tune.plan_tuning(asked, 3), display)
    assert display.titles == []
    bench = plan(replace(asked, seeds=(0, 1), tuned=True))
    tuned = next(run for run in bench.runs if run.spec.label == "tuned:uncertainty")
    record = bench.store.tuning(TINY.name, "uncertainty")
    assert record is not None
    assert record.chosen is not None
    assert tuned.settings.lr == record.chosen.lr
    assert all(trial.seconds > 0 for trial in record.trials)


def test_an_interrupted_tuning_resumes_after_its_last_trial(tmp_path: Path) -> None:
    class Impatient(Silent):
        def note(self, text: str) -> None:
            super().note(text)
            if len(self.notes) > 3:
                raise KeyboardInterrupt

    asked = replace(request(tmp_path, ["fixed"]), jobs=1)
    with pytest.raises(KeyboardInterrupt):
        tune.execute(tune.plan_tuning(asked, 4), Impatient())
    kept = tune.plan_tuning(asked, 4).tunings[0].record.trials
    assert 1 <= len(kept) < 4
    display = Silent()
    assert tune.execute(tune.plan_tuning(asked, 4), display)
    assert len(display.titles) == 4 - len(kept)
    assert tune.plan_tuning(asked, 4).tunings[0].record.trials[: len(kept)] == kept


@dataclass(frozen=True)
class Peeked:
    """A tuning of strategies that open the test set, each in another way, and the notes shown."""

    planned: tune.TuningPlan
    notes: list[str]


@pytest.fixture(scope="module")
def peeked(tmp_path_factory: pytest.TempPathFactory) -> Peeked:
    data.fetch(data.MNIST, print)
    folder = tmp_path_factory.mktemp("curious")
    files = [folder / f"{name}.py" for name in PEEKS]
    for file in files:
        file.write_text(CURIOUS.format(name=file.stem, peek=PEEKS[file.stem]))
    display = Silent()
    planned = tune.plan_tuning(request(folder, list(PEEKS), *files), 2)
    assert not tune.execute(planned, display)
    return Peeked(planned, display.notes)


@pytest.mark.parametrize("peek", list(PEEKS))
def test_a_trial_that_opens_the_test_set_fails_loudly(peeked: Peeked, peek: str) -> None:
    record = peeked.planned.store.tuning(TINY.name, peek)
    assert record is not None
    assert record.chosen is None
    assert len(record.trials) == 2
    for trial in record.trials:
        assert "TestSetOpenedError" in (trial.error or "")
    assert any(f"{peek}: not tuned" in note and "validation only" in note for note in peeked.notes)
