"""What `make perf` measures ours against does the same work, and what it and `make gpu-check` say follows from it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from io import StringIO
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode
from torchjd import aggregation

from mtlbench.contracts.strategy import Step, Strategy
from mtlbench.plugins.registry import Registry
from mtlbench.setups import MNIST
from tests.benchmarks import peers
from tests.benchmarks.limits import bare_products
from tests.benchmarks.loops import BATCH, Loop
from tests.benchmarks.peers import TutorialNetwork
from tests.benchmarks.ratios import LIMITS, SECTIONS, STACKED, Ratios, Row, Section, Stored
from tests.helpers.plain import PlainNetwork, replica_flat, start_like
from tests.project import gpu_check
from tests.project.gpu_check import random_split

pytestmark = pytest.mark.filterwarnings("ignore:You are solving a parameterized problem that is not DPP")

ONE_BATCH = random_split(BATCH)  # an order of it changes nothing but rounding


def flops(loop: Loop) -> int:
    with FlopCounterMode(display=False) as counter:
        loop.run()
    return counter.get_total_flops()


@pytest.mark.parametrize("replicas", [1, 3])
def test_the_limit_multiplies_as_much_as_autograd(replicas: int) -> None:
    assert flops(bare_products(MNIST, replicas)) == replicas * flops(peers.eager(TutorialNetwork(), ONE_BATCH))


class AdamPasses(TorchDispatchMode):
    """Counts the parameters that fused Adam passes over."""

    parameters = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if "_fused_adam" in str(func):
            self.parameters += sum(parameter.numel() for parameter in args[0])
        return func(*args, **(kwargs or {}))


def test_the_limit_updates_as_many_parameters() -> None:
    def updated(loop: Loop) -> int:
        with AdamPasses() as passes:
            loop.run()
        return passes.parameters

    theirs = updated(peers.eager(TutorialNetwork(), ONE_BATCH))
    assert theirs == sum(parameter.numel() for parameter in TutorialNetwork().parameters())
    assert updated(bare_products(MNIST, 3, with_update=True)) == 3 * theirs
    assert updated(bare_products(MNIST, 3)) == 0


def trained(registry: Registry, label: str, steps: int) -> tuple[TutorialNetwork, Tensor]:
    """A network as ours starts, and the parameters that ours has after some steps on one batch."""
    trainer = gpu_check.make_trainer(registry, label, (5,), ONE_BATCH, "cpu", torch.float64)
    plain, model = PlainNetwork(MNIST), TutorialNetwork().double()
    start_like(plain, trainer, 0)
    with torch.no_grad():
        for mine, theirs in zip(model.parameters(), plain.parameters(), strict=True):
            mine.copy_(theirs)
    for _ in range(steps):
        trainer.start_epoch(0)
        trainer.step()
    return model, replica_flat(trainer, 0, MNIST)


def flat(model: TutorialNetwork) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def test_the_eager_loop_trains_what_fixed_weights_train(registry: Registry) -> None:
    model, expected = trained(registry, "fixed", 5)
    peers.eager(model, ONE_BATCH).turn(5)()
    torch.testing.assert_close(flat(model), expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("loop", [peers.torchjd, peers.fastest_torchjd], ids=["documented", "fastest"])
@pytest.mark.parametrize(
    ("label", "aggregator"),
    [
        ("upgrad", aggregation.UPGrad),
        ("pcgrad", aggregation.PCGrad),
        ("mgda", aggregation.MGDA),
        ("imtl-g", aggregation.IMTLG),
        ("aligned-mtl", aggregation.AlignedMTL),
    ],
)
def test_torchjds_loop_trains_what_the_same_strategy_trains(
    registry: Registry, label: str, aggregator: Any, loop: Callable[..., Loop]
) -> None:
    model, expected = trained(registry, label, 5)
    start = flat(model)
    loop(model, ONE_BATCH, aggregator()).turn(5)()
    assert (
        float((flat(model) - expected).norm() / (expected - start).norm()) < 1e-4
    )  # what UPGrad's regularisation may do


@pytest.mark.parametrize("label", ["upgrad", "mgda"])
def test_a_balancers_loop_trains_what_the_stack_trains(registry: Registry, label: str) -> None:
    model, expected = trained(registry, label, 5)
    start = flat(model)
    peers.balancer(model, ONE_BATCH, label).turn(5)()
    assert float((flat(model) - expected).norm() / (expected - start).norm()) < 1e-4


def test_a_turn_is_as_many_calls_as_its_batches_take() -> None:
    calls: list[None] = []
    Loop(partial(calls.append, None), batches=10).turn(40)()
    assert len(calls) == 4


costs = st.lists(st.floats(0.01, 100), min_size=3, max_size=20)


def row(section: Section, costs: list[float], bound: float | None = None, test: str = "test") -> Row:
    return Row(section, "one over another", test, (2_000.0, 1_000.0), costs, bound)


@given(costs=costs, bound=st.floats(0.01, 100))
def test_a_bound_is_missed_on_one_side(costs: list[float], bound: float) -> None:
    gains = sorted(1 / cost for cost in costs)
    middle = (gains[(len(gains) - 1) // 2] + gains[len(gains) // 2]) / 2
    assert row(LIMITS, costs, bound).misses == (middle < bound)
    costs = sorted(costs)
    middle = (costs[(len(costs) - 1) // 2] + costs[len(costs) // 2]) / 2
    assert row(STACKED, costs, bound).misses == (middle > bound)
    assert not row(STACKED, costs).misses


@given(costs=costs, factor=st.floats(1.06, 10), section=st.sampled_from(SECTIONS))
def test_slower_is_what_costs_more_than_rounds_differ_by(costs: list[float], factor: float, section: Section) -> None:
    stored = Stored("then", "abc", True, {"test": row(section, costs).to_store()})
    assert not stored.is_slower(row(section, costs))
    assert not stored.is_slower(row(section, [cost / factor for cost in costs]))
    assert not stored.is_slower(row(section, costs, test="another"))
    apart = max(costs) / min(costs)
    assert stored.is_slower(row(section, [cost * factor * apart for cost in costs]))


def shown(ratios: Ratios) -> str:
    out = StringIO()
    ratios.show(Console(file=out, width=160, color_system=None))
    return out.getvalue()


def test_the_table_says_what_misses_and_what_got_slower() -> None:
    rows = [row(STACKED, [1.2, 1.3, 1.4], 1.25, "cost"), row(LIMITS, [1.25, 1.25, 1.25], 0.7, "gain")]
    lines = shown(Ratios(rows)).splitlines()
    cost = next(line for line in lines if "1.20 to 1.40" in line)
    gain = next(line for line in lines if "0.80 to 0.80" in line)
    assert lines.index(gain) < lines.index(cost)  # sections stand in their own order
    assert "<= 1.25" in cost and cost.rstrip().endswith("missed")
    assert ">= 0.70" in gain and "missed" not in gain
    tests = {"cost": row(STACKED, [1.0, 1.0, 1.0]).to_store(), "gain": rows[1].to_store()}
    text = shown(Ratios(rows, stored=Stored("2026-01-01 10:00", "abc", False, tests)))
    assert next(line for line in text.splitlines() if "1.20 to 1.40" in line).rstrip().endswith("missed slower")
    assert "1 of 2 got slower than the run of 2026-01-01 10:00 on another machine, commit abc: one over another" in text
    assert "nothing got slower" in shown(Ratios(rows[1:], stored=Stored("then", "abc", True, tests)))


def test_gpu_check_finds_a_course_equal_to_itself_and_no_other(registry: Registry) -> None:
    samples = random_split(gpu_check.STEPS * BATCH)
    double = torch.float64
    assert set(gpu_check.compare(registry, "fixed", samples, "cpu", double).values()) == {0.0}
    one, other = (
        gpu_check.course(gpu_check.make_trainer(registry, label, (0,), samples, "cpu", double))
        for label in ("fixed", "fixed:weights=[1,1.001]")
    )
    differences = gpu_check.largest_differences(one, other)
    limits = gpu_check.TOLERANCES[double]
    assert all(differences[name] > limit for name, limit in limits.items())
    one[-1]["losses"][0, 0] = math.nan
    assert gpu_check.largest_differences(one, one)["losses"] == math.inf


def test_gpu_check_names_each_strategy_that_differs_or_fails(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing(Strategy):
        """Raises in its first step."""

        name = "failing"

        def forward(self, step: Step) -> Tensor:
            raise RuntimeError("no such kernel")

    def compare(registry: Registry, name: str, *rest: Any) -> dict[str, float]:
        return original(registry, name, *rest) | ({"weights": 1e-3} if name == "pcgrad" else {})

    original = gpu_check.compare
    monkeypatch.setattr(gpu_check, "compare", compare)
    monkeypatch.setattr(gpu_check, "STEPS", 3)
    some = {name: registry.strategies[name] for name in ("fixed", "pcgrad")}
    some["failing"] = replace(some["fixed"], value=Failing)
    out = StringIO()
    wrong = gpu_check.compare_all(Registry(some), "cpu", Console(file=out, width=150, color_system=None))
    assert wrong == ["pcgrad", "failing"]
    lines = {line.split()[0]: line.rstrip() for line in out.getvalue().splitlines() if line.strip()}
    assert lines["fixed"].endswith("same")
    assert lines["pcgrad"].endswith("differs")
    assert lines["failing"].endswith("RuntimeError: no such kernel")


def test_gpu_check_counts_the_samples_of_all_replicas(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    def interleave(steps: dict[str, Any], *_: object) -> dict[str, list[float]]:
        for step in steps.values():
            step()
        return {"ours": [0.032, 0.032, 0.032], "eager": [0.064, 0.064, 0.032]}

    monkeypatch.setattr(gpu_check, "STACKS", (1, 2))
    monkeypatch.setattr(gpu_check, "interleave", interleave)
    out = StringIO()
    gpu_check.measure_all(registry, ["fixed"], "cpu", Console(file=out, width=150, color_system=None))
    lines = [line.split() for line in out.getvalue().splitlines()]
    assert ["fixed", "2,000", "(2.0x)", "4,000", "(4.0x)"] in lines


def test_gpu_check_without_a_device_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu_check.main() == 2
    written = capsys.readouterr()
    assert written.out == ""
    assert "CUDA" in written.err
    assert written.err.count("\n") == 1
