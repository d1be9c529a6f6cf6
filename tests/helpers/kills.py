"""Kills a bench at random moments, the main process or a worker, and restarts it until it is complete.

`make soak` runs this with 50 kills on MNIST; `make test` with a few on a tiny setup.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import itertools
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from mtlbench.bench import execution
from mtlbench.bench.display import Display, ShownJob
from mtlbench.bench.planning import Plan, Request, plan
from mtlbench.records.store import Store
from tests.helpers.toy import TINY

SETUP, NAME = TINY.name, "killed"
STRATEGIES = ("gradnorm", "famo")
MOMENTS = 10  # epochs of the tiny setup; a killed bench resumes from the last one completed


class Quiet(Display):
    """A display that shows nothing."""

    def note(self, text: str) -> None: ...
    def started(self, job: ShownJob) -> None: ...
    def moved(self, job: ShownJob) -> None: ...
    def ended(self, job: ShownJob) -> None: ...


def small_plan(out: Path, setup: str = SETUP, epochs: int = MOMENTS) -> Plan:
    """A bench of three strategies and two baselines, divided between two cores."""
    return plan(
        Request(
            name=NAME,
            out=out,
            setups=[setup],
            strategies=STRATEGIES,
            seeds=(0, 1),
            epochs=epochs,
            batch_size=100,
            lr=1e-3,
            device="cpu",
            jobs=2,
            plugins=(),
            command="soak",
        )
    )


def execute(out: Path, setup: str = SETUP, epochs: int = MOMENTS) -> bool:
    """Run the bench, with the shortest possible measurement of speeds; True if it is complete."""
    execution.ROUNDS, execution.TURN_SECONDS = 2, 0.01
    return execution.execute(small_plan(out, setup, epochs), Quiet())


def results(out: Path, setup: str = SETUP) -> dict[str, dict[str, object]]:
    """Every field of each stored result except its duration, by label; failed runs are left out."""
    runs = {run.spec.label: run.result for run in Store(out / NAME).runs(setup) if run.result}
    return {
        label: {name: value for name, value in vars(result).items() if name != "training_seconds"}
        for label, result in runs.items()
    }


def start(out: Path, setup: str, epochs: int) -> subprocess.Popen[bytes]:
    """Start the bench in a process of its own."""
    asked = ["--execute", str(out), "--setup", setup, "--epochs", str(epochs)]
    return subprocess.Popen([sys.executable, "-m", "tests.helpers.kills", *asked])


def strike(main: subprocess.Popen[bytes], longest: float, chance: random.Random, what: str) -> bool:
    """Kill the main process at a random moment of the next `longest` seconds, or a worker soon after one has started.

    `what` is "a worker" or "the main process".

    Returns:
        False if the bench ended first.
    """
    wants_worker = what == "a worker"
    patience = chance.uniform(0, longest / 8 if wants_worker else longest)
    begun = None if wants_worker else time.monotonic()
    while main.poll() is None:
        candidates = _workers(main.pid) if wants_worker else []
        if candidates and begun is None:
            begun = time.monotonic()
        if begun is not None and time.monotonic() - begun >= patience and (candidates or not wants_worker):
            with contextlib.suppress(psutil.NoSuchProcess):
                (chance.choice(candidates) if wants_worker else psutil.Process(main.pid)).kill()
                return True
        time.sleep(0.05)
    return False


def survive(
    victims: Sequence[str], folder: Path, chance: random.Random, *, setup: str = SETUP, epochs: int = MOMENTS
) -> None:
    """Kill benches, restart each until it is complete, and compare it with an undisturbed one.

    `victims` are what is killed each time: "a worker" or "the main process".

    Raises:
        AssertionError: a result differs, or a process fails by itself.
    """
    undisturbed = folder / "undisturbed"
    begun = time.monotonic()
    assert start(undisturbed, setup, epochs).wait() == 0
    longest = time.monotonic() - begun
    expected = results(undisturbed, setup)
    struck, attempts = 0, itertools.count()
    while struck < len(victims):
        out = folder / f"killed-{next(attempts)}"  # a bench that ended before it was struck leaves nothing to kill
        main, begun = start(out, setup, epochs), time.monotonic()
        while struck < len(victims) and strike(main, longest, chance, victims[struck]):
            print(f"kill {struck + 1}: {victims[struck]}", flush=True)
            if victims[struck] == "the main process":
                main.wait()
                main = start(out, setup, epochs)
            struck += 1
        # A run fails if its stack is killed too often within an epoch; restarting the bench retries it.
        if main.wait() != 0:
            assert start(out, setup, epochs).wait() == 0
        longest = min(longest, time.monotonic() - begun)
        assert results(out, setup) == expected
        assert not [*out.rglob("*.safetensors"), *out.rglob(".*.json")]


def _workers(main: int) -> list[psutil.Process]:
    """The processes that train: the children of the fork server."""
    try:
        return [child for server in psutil.Process(main).children() for child in server.children()]
    except psutil.NoSuchProcess:
        return []


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--execute", type=Path)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--setup", default="mnist-few-labels")
    parser.add_argument("--epochs", type=int, default=2)
    asked = parser.parse_args()
    importlib.import_module("tests.helpers.preloaded")
    if asked.execute:
        sys.exit(0 if execute(asked.execute, asked.setup, asked.epochs) else 1)
    with tempfile.TemporaryDirectory() as scratch:
        begun = time.monotonic()
        chance = random.Random(asked.seed)
        victims = [chance.choice(("a worker", "the main process")) for _ in range(asked.kills)]
        survive(victims, Path(scratch), chance, setup=asked.setup, epochs=asked.epochs)
        kinds = ", ".join(f"{victims.count(kind)} of {kind}" for kind in sorted(set(victims)))
        print(f"{len(victims)} kills ({kinds}), all results bit for bit the same, {time.monotonic() - begun:.0f} s")
