"""A bench, its tuning and a training on a device other than the host's, in worker processes: results equal the host's.

A plug-in makes each worker's torch know the stand-in device; it comes with the setup that the runs are trained on.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from mtlbench.bench import execution, planning, tune
from mtlbench.bench.planning import Request
from mtlbench.models import train_one
from mtlbench.records.roles import tuning_seeds
from tests.helpers.own_setup import write_setup
from tests.helpers.tiny_bench import Silent

stand_in = pytest.importorskip(
    "tests.helpers.stand_in", reason="this torch has no backends in Python", exc_type=ImportError
)
IN_WORKERS = """
from multiprocessing import parent_process

if parent_process() is not None:
    from tests.helpers.stand_in import StandIn

    StandIn().__enter__()
"""
MORTAL = """
import os
import signal
from pathlib import Path

from mtlbench import Strategy, register

steps = 0


@register("mortal")
class Mortal(Strategy):
    def forward(self, step):
        global steps
        steps += 1
        killed = Path({killed!r})
        if steps == 5 and not killed.exists():
            killed.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return (step.losses * step.gramian().diagonal(dim1=-2, dim2=-1).rsqrt()).sum(-1)
"""


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Request:
    """A request for three epochs of three steps."""
    monkeypatch.setattr(planning, "resolve_device", str)
    monkeypatch.setattr(planning, "DEVICES", ("cpu", stand_in.NAME))
    setup, strategy = write_setup(tmp_path / "own.py", extra=IN_WORKERS), tmp_path / "mortal.py"
    strategy.write_text(MORTAL.format(killed=str(tmp_path / "killed")))
    return Request(
        name="b",
        out=tmp_path / "cpu",
        setups=["own"],
        strategies=["mortal", "famo"],
        seeds=(0, 1),
        epochs=3,
        batch_size=40,
        lr=1e-2,
        device="cpu",
        plugins=(setup, strategy),
        command="test",
    )


def on_the_device(request: Request) -> Request:
    return replace(request, device=stand_in.NAME, out=request.out.with_name("device"))


def test_a_bench_that_is_killed_and_resumed(asked: Request, tmp_path: Path) -> None:
    notes: dict[str, list[str]] = {}
    results: dict[str, list[Any]] = {}
    for request in (on_the_device(asked), asked):
        display = Silent()
        plan = planning.plan(request)
        assert execution.execute(plan, display)
        notes[request.device] = display.notes
        results[request.device] = [
            (run.spec.label, replace(run.result, training_seconds=0.0))
            for run in plan.store.runs("own")
            if run.result is not None
        ]
        speeds = plan.store.speeds()
        assert speeds is not None
        assert {speed.label for speed in speeds.costs} == {"fixed", "mortal", "famo"}
    assert (tmp_path / "killed").exists()
    assert any("restarting from the end of epoch 1" in note for note in notes[stand_in.NAME])
    assert len(results["cpu"]) == 6
    assert repr(results[stand_in.NAME]) == repr(results["cpu"])


def test_tuning(asked: Request) -> None:
    trials: list[Any] = []
    for request in (asked, on_the_device(asked)):
        plan = tune.plan_tuning(replace(request, strategies=["gradnorm"], epochs=1, seeds=tuning_seeds(1)), 2)
        assert tune.execute(plan, Silent())
        trials.append(
            [
                (record.spec.label, [trial.model_copy(update={"seconds": 0.0}) for trial in record.trials])
                for record in plan.store.tuned("own")
            ]
        )
    assert repr(trials[0]) == repr(trials[1])


def test_a_trained_network_is_saved_from_the_device(asked: Request, tmp_path: Path) -> None:
    tensors: list[dict[str, torch.Tensor]] = []
    for request in (asked, on_the_device(asked)):
        plan = train_one.plan(replace(request, strategies=["moco"], seeds=(3,)))
        file = tmp_path / f"{request.device}.safetensors"
        assert train_one.train(plan, file, Silent()).diverged == [None]
        tensors.append(load_file(file))
    assert tensors[0].keys() == tensors[1].keys()
    assert all(torch.equal(tensor, tensors[1][name]) for name, tensor in tensors[0].items())
