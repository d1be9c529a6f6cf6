"""Samples a second against those who train the same two tasks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from torchjd import aggregation

from mtlbench.plugins.registry import Registry
from mtlbench.records.environment import cores
from tests.benchmarks import peers
from tests.benchmarks.conftest import InTurns
from tests.benchmarks.loops import TURN, Loop, stack, training_split
from tests.benchmarks.peers import TutorialNetwork
from tests.benchmarks.ratios import BALANCER, PEERS, TORCHJD
from tests.benchmarks.side_by_side import side_by_side

WHOLE_BENCH_GAIN, WHOLE_BENCH_OVER_EAGER, TORCHJD_GAIN, BALANCER_GAIN = 9, 1.9, 2.5, 1
REPLICAS = 10
SAME = {"upgrad": "UPGrad", "pcgrad": "PCGrad", "mgda": "MGDA", "imtl-g": "IMTLG", "aligned-mtl": "AlignedMTL"}


@pytest.mark.usefixtures("all_cores")
def test_a_whole_bench_over_the_tutorials_loop(in_turns: InTurns, tmp_path: Path) -> None:
    name = f"fixed, K = {REPLICAS}, side by side, over the tutorial's loop, {cores()} cores"
    with side_by_side(cores(), "fixed", REPLICAS, TURN) as ours:
        in_turns(PEERS, name, ours, peers.tutorial(tmp_path), bound=WHOLE_BENCH_GAIN, batches=cores() * TURN)


@pytest.mark.usefixtures("all_cores")
def test_a_whole_bench_over_eager_pytorch(in_turns: InTurns) -> None:
    name = f"fixed, K = {REPLICAS}, side by side, over eager PyTorch, {cores()} cores"
    theirs = peers.eager(TutorialNetwork(), training_split())
    with side_by_side(cores(), "fixed", REPLICAS, TURN) as ours:
        in_turns(PEERS, name, ours, theirs, bound=WHOLE_BENCH_OVER_EAGER, batches=cores() * TURN)


@pytest.mark.parametrize("replicas", [10, 1])
def test_fixed_over_the_tutorials_loop(in_turns: InTurns, registry: Registry, replicas: int, tmp_path: Path) -> None:
    ours, theirs = stack(registry, "fixed", replicas), peers.tutorial(tmp_path)
    in_turns(PEERS, f"fixed, K = {replicas}, over the tutorial's loop, one thread", ours, theirs)


@pytest.mark.parametrize("replicas", [10, 1])
def test_fixed_over_eager_pytorch(in_turns: InTurns, registry: Registry, replicas: int) -> None:
    ours, theirs = stack(registry, "fixed", replicas), peers.eager(TutorialNetwork(), training_split())
    in_turns(PEERS, f"fixed, K = {replicas}, over eager PyTorch, one thread", ours, theirs)


TORCHJDS = pytest.mark.parametrize(
    ("loop", "as_what"),
    [(peers.torchjd, "as documented"), (peers.fastest_torchjd, "at its fastest")],
    ids=["documented", "fastest"],
)


@TORCHJDS
@pytest.mark.parametrize("label", SAME)
def test_a_strategy_over_torchjds(
    in_turns: InTurns, registry: Registry, label: str, loop: Callable[..., Loop], as_what: str
) -> None:
    aggregator = getattr(aggregation, SAME[label])()
    ours, theirs = stack(registry, label, REPLICAS), loop(TutorialNetwork(), training_split(), aggregator)
    bound = TORCHJD_GAIN if loop is peers.torchjd else None  # held to the loop that its users find written down
    in_turns(TORCHJD, f"{label}, K = {REPLICAS}, over {SAME[label]} {as_what}", ours, theirs, bound=bound)


@TORCHJDS
@pytest.mark.parametrize("label", SAME)
def test_a_balancer_over_torchjd(in_turns: InTurns, label: str, loop: Callable[..., Loop], as_what: str) -> None:
    ours = peers.balancer(TutorialNetwork(), training_split(), label)
    theirs = loop(TutorialNetwork(), training_split(), getattr(aggregation, SAME[label])())
    in_turns(BALANCER, f"{label} over {SAME[label]} {as_what}", ours, theirs, bound=BALANCER_GAIN)
