"""Measures the speed of training steps: interleaved rounds in one process, with nothing else running."""

from __future__ import annotations

import gc
import itertools
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from mtlbench.contracts.strategy import Strategy
from mtlbench.engine.trainer import Trainer

WARM_UP_STEPS = 3


@dataclass(frozen=True)
class Speed:
    """Seconds of one step in each round, and peak device memory in bytes (cuda only)."""

    step_seconds: list[float]
    peak_memory: int | None


def interleave(
    steps: Mapping[str, Callable[[], object]], rounds: int, turn_seconds: float, wait: Callable[[], None]
) -> dict[str, list[float]]:
    """Seconds per call of each function in each round; all functions take turns within a round.

    A turn repeats the call for about `turn_seconds`; the number of repeats is fixed before the rounds, after
    `WARM_UP_STEPS` calls. The order of turns is the same in every round, but starts one function later each time.
    `wait` returns once the device is idle.
    """
    repeats: dict[str, int] = {}
    for name, step in steps.items():
        _time(step, WARM_UP_STEPS, wait)
        repeats[name] = max(1, round(turn_seconds * WARM_UP_STEPS / _time(step, WARM_UP_STEPS, wait)))
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    names = deque(steps)
    collecting = gc.isenabled()
    gc.disable()
    try:
        for _ in range(rounds):
            for name in names:
                seconds[name].append(_time(steps[name], repeats[name], wait) / repeats[name])
            names.rotate(-1)
            gc.collect()
    finally:
        if collecting:
            gc.enable()
    return seconds


def waiter(device: torch.device) -> Callable[[], None]:
    """A function that returns once the device is idle."""
    return {"cuda": torch.cuda.synchronize, "mps": torch.mps.synchronize}.get(device.type, lambda: None)


def endless(trainer: Trainer) -> Callable[[], None]:
    """A function that takes one training step per call, and repeats the first epoch's order of samples forever."""
    positions = itertools.cycle(range(trainer.steps_per_epoch))

    def step() -> None:
        if next(positions) == 0:
            trainer.start_epoch(0)
        trainer.step()

    return step


def measure(
    make: Callable[[Callable[[tuple[int, int]], Strategy]], Trainer],
    builds: Mapping[str, Callable[[tuple[int, int]], Strategy]],
    *,
    rounds: int,
    turn_seconds: float,
    device: torch.device,
) -> dict[str, Speed]:
    """Step times of several strategies on one setup and stack, in interleaved rounds.

    `builds` holds the strategies' constructors by label; `make` makes a trainer on `device` from one of them. `rounds`
    and `turn_seconds` are those of `interleave`.
    """
    steps: dict[str, Callable[[], None]] = {}
    peaks: dict[str, int | None] = {}
    wait, on_cuda, before = waiter(device), device.type == "cuda", 0
    for label, build in builds.items():
        if on_cuda:
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
        steps[label] = endless(make(build))
        steps[label]()
        wait()
        peaks[label] = torch.cuda.max_memory_allocated() - before if on_cuda else None
    seconds = interleave(steps, rounds, turn_seconds, wait)
    return {label: Speed(seconds[label], peaks[label]) for label in builds}


def _time(step: Callable[[], object], calls: int, wait: Callable[[], None]) -> float:
    """Seconds that this many calls take until the device is idle."""
    begun = time.perf_counter()
    for _ in range(calls):
        step()
    wait()
    return time.perf_counter() - begun
