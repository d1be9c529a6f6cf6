"""What a plug-in does when it is imported affects its own runs only, and not the program."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch

from mtlbench.bench import execution, jobs
from mtlbench.bench.planning import Plan, Request, plan
from mtlbench.bench.tune import plan_tuning
from mtlbench.models import train_one
from mtlbench.plugins.registry import Registry
from mtlbench.records.history import Result
from mtlbench.records.records import RunRecord
from tests.helpers.commands import Run, refused
from tests.helpers.kills import SETUP, Quiet, small_plan

STRATEGY = """
@mtlbench.register("{name}")
class {name}(mtlbench.Strategy):
    def forward(self, step):
        return step.losses.sum(-1)
"""
IN_A_WORKER = """
import multiprocessing, os
import torch
import mtlbench
if multiprocessing.parent_process() is not None:
    {body}
"""
DOES = {
    "threads": "torch.set_num_threads(2)",
    "patches": "whole = torch.stack; torch.stack = lambda *a, **k: 2 * whole(*a, **k)",
    "exits": "os._exit(3)",
}


def request(out: Path, strategies: Sequence[str], plugins: Sequence[Path]) -> Request:
    return replace(small_plan(out).request, strategies=strategies, plugins=tuple(plugins), epochs=1)


def written(folder: Path) -> list[Path]:
    paths = [folder / f"{name}.py" for name in DOES]
    for path, body in zip(paths, DOES.values(), strict=True):
        path.write_text(IN_A_WORKER.format(body=body) + STRATEGY.format(name=path.stem))
    return paths


def numbers(asked: Plan, label: str) -> dict[str, object]:
    run = asked.store.run(SETUP, label)
    assert isinstance(run, RunRecord)
    assert isinstance(run.result, Result)
    return {name: value for name, value in vars(run.result).items() if name != "training_seconds"}


def test_plugins_in_a_worker_affect_no_other_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "ROUNDS", 2)
    monkeypatch.setattr(execution, "TURN_SECONDS", 0.01)
    alone = plan(request(tmp_path / "alone", ["famo"], ()))
    assert execution.execute(alone, Quiet())
    beside = plan(request(tmp_path / "beside", ["famo"], written(tmp_path)))
    assert execution.execute(beside, Quiet())  # their speeds, too
    named = plan(request(tmp_path / "named", ["famo", *DOES], written(tmp_path)))
    assert not execution.execute(named, Quiet())
    for label in ("fixed", "famo", "single:digit", "single:above_five"):
        assert numbers(alone, label) == numbers(beside, label) == numbers(named, label)
    assert numbers(named, "threads") == numbers(alone, "fixed")  # its own run has one thread again
    assert numbers(named, "patches") != numbers(alone, "fixed")
    failed = named.store.run(SETUP, "exits")
    assert failed is not None
    assert "exit code 3" in failed.problem


def test_jobs_load_only_the_plugins_of_their_strategy_and_setup(tmp_path: Path) -> None:
    threads, patches, _ = paths = written(tmp_path)
    setup = tmp_path / "own.py"
    setup.write_text(
        "import dataclasses, mtlbench\nfrom mtlbench.setups import MNIST\n"
        "mtlbench.register_setup(dataclasses.replace(MNIST, name='own'))\n"
    )
    registry = Registry.load([*paths, setup])
    assert registry.needed(["threads", "fixed"], SETUP) >= {str(threads)}
    assert not registry.needed(["threads", "fixed"], SETUP) & {str(patches), str(setup)}
    assert registry.needed(["torchjd:UPGrad"], "own") == {str(setup)}
    asked = request(tmp_path, ["threads"], [*paths, setup])
    planned = train_one.plan(replace(asked, setups=["own"]))
    assert planned.job.plugins == (threads, setup)
    tuning = plan_tuning(request(tmp_path, ["threads"], paths), 1)
    assert tuning.registry.needed(["threads"], SETUP) >= {str(threads)}


def test_entry_points_that_a_job_does_not_need_are_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("apart-one", "apart-two"):
        text = "import mtlbench" + STRATEGY.format(name=name).replace(f"class {name}", "class Own")
        (tmp_path / f"{name.replace('-', '_')}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))

    def found(group: str) -> list[EntryPoint]:
        named = [EntryPoint(name, name, group) for name in ("apart_one", "apart_two")]
        return named if group == "mtlbench.strategies" else []

    monkeypatch.setattr("mtlbench.plugins.discovery.entry_points", found)
    origins = Registry.load().needed(["apart-one"], SETUP)
    there = Registry.load((), origins).strategies
    assert "apart-one" in there
    assert "apart-two" not in there


def test_threads_that_load_at_once_get_their_own_plugins(tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.py" for name in ("one", "other")]
    for path in paths:
        text = "import sys, time, mtlbench\ntime.sleep(0.1)\nsys.stdout.close()\n" + STRATEGY.format(name=path.stem)
        path.write_text(text + 3 * "time.sleep(0.01)\n")
    before = sys.stdout
    with ThreadPoolExecutor(len(paths)) as threads:
        registries = list(threads.map(Registry.load, [[path] for path in 4 * paths]))
    assert sys.stdout is before
    shipped = list(Registry.load().strategies)
    for registry, path in zip(registries, 4 * paths, strict=True):
        assert list(registry.strategies) == [*shipped, path.stem]
        assert registry.source(path.stem) == path
        assert registry.problems == []


def test_a_plugin_may_load_the_registry_itself(tmp_path: Path) -> None:
    path = tmp_path / "one.py"
    text = "import mtlbench\nmtlbench.Balancer('gradnorm', tasks=2)\n" + STRATEGY.format(name="one")
    path.write_text(text)
    registry = Registry.load([path])
    assert registry.problems == []
    assert "one" in registry.strategies


@pytest.mark.parametrize("function", [jobs.train, jobs.try_out])
def test_a_process_is_prepared_again_after_plugins_were_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: Callable[[jobs.StackJob, jobs.Notify], object]
) -> None:
    path = tmp_path / "own.py"
    path.write_text("import torch\ntorch.set_num_threads(2)\ntorch.set_default_dtype(torch.float64)\n")
    monkeypatch.setattr("mtlbench.setups.sealed_test_set.seal_test_set", lambda: None)

    def ended(*_: object) -> None:
        assert torch.get_num_threads() == jobs.THREADS
        assert torch.get_default_dtype() == torch.float32
        raise InterruptedError

    run = small_plan(tmp_path).runs[0]
    monkeypatch.setattr(Registry, "setup", ended)
    with pytest.raises(InterruptedError):
        function(jobs.StackJob(run.spec, run.settings, (0,), (path,)), lambda _: None)


@pytest.mark.parametrize("body", ["sys.exit(0)", "raise type('Mute', (Exception,), {'__str__': lambda self: 1 / 0})"])
def test_a_strategy_that_cannot_be_created_is_one_line_and_code_2(run: Run, tmp_path: Path, body: str) -> None:
    path = tmp_path / "bad.py"
    text = f"import sys\nimport mtlbench\n{STRATEGY.format(name='bad')}    def __init__(self, shape):\n        {body}\n"
    path.write_text(text)
    line = refused(run, "bench", "--plugin", str(path), "--strategies", "bad")
    assert line.startswith(("mtlbench: bad: SystemExit: 0", "mtlbench: bad: Mute"))
    code, out, _ = run("list", "--plugin", str(path))
    assert code == 0
    assert "bad" in out.split()


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("raise type('Mute', (Exception,), {'__str__': lambda self: 1 / 0})", "Mute"),
        ("os.chdir('/')", ""),
        ("sys.stdout.close(); sys.stderr.close()", ""),
        ("sys.stdout = sys.stderr = None", ""),
        ("os.chdir('/'); raise ValueError('no')", "ValueError: no"),
    ],
)
def test_importing_a_plugin_does_not_change_the_program(run: Run, tmp_path: Path, body: str, error: str) -> None:
    path = tmp_path / "bad.py"
    path.write_text(f"import os, sys\n{body}\n")
    code, out, err = run("list", "gradnorm", "--plugin", str(path))
    assert code == 0
    assert "gradnorm" in out
    assert Path.cwd() == tmp_path
    assert error in err
    assert ("bad.py" in err) == bool(error) == bool(err)
