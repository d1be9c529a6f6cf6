"""Speed of a training step: interleaved rounds in one process, nothing else running."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from mtlbench.contracts.strategy import Strategy
from mtlbench.engine.trainer import Trainer

WARM_UP_STEPS = 3


@dataclass(frozen=True)
class Speed:
    """Seconds of one step in each round, and the most device memory in bytes (cuda only)."""

    step_seconds: list[float]
    peak_memory: int | None


def interleave(
    steps: Mapping[str, Callable[[], object]], rounds: int, turn_seconds: float, wait: Callable[[], None]
) -> dict[str, list[float]]:
    """Seconds per call of each function in each round, all of them taking turns within a round.

    A turn repeats the call for about `turn_seconds`; the number of repeats is settled before the clock
    starts, after `WARM_UP_STEPS` calls. The order is the same in every round, begun one further each time.

    Args:
        steps: what to time.
        rounds: turns of each.
        turn_seconds: length of a turn.
        wait: returns once the device has done what it was given.
    """
    repeats = {name: _repeats(step, turn_seconds, wait) for name, step in steps.items()}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    names = list(steps)
    collecting = gc.isenabled()
    gc.disable()
    try:
        for turn in range(rounds):
            start = turn % len(names)
            for name in names[start:] + names[:start]:
                begun = time.perf_counter()
                for _ in range(repeats[name]):
                    steps[name]()
                wait()
                seconds[name].append((time.perf_counter() - begun) / repeats[name])
            gc.collect()
    finally:
        if collecting:
            gc.enable()
    return seconds


def waiter(device: torch.device) -> Callable[[], None]:
    """A function that returns once the device is idle."""
    if device.type == "cuda":
        return torch.cuda.synchronize
    if device.type == "mps":
        return torch.mps.synchronize
    return lambda: None


def endless(trainer: Trainer) -> Callable[[], None]:
    """Training steps without end, epoch after epoch of the same order."""
    taken = 0

    def step() -> None:
        nonlocal taken
        if taken % trainer.steps_per_epoch == 0:
            trainer.start_epoch(0)
        taken += 1
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

    Args:
        make: a trainer for a strategy's constructor.
        builds: constructors of the strategies, by label.
        rounds: turns of each.
        turn_seconds: length of a turn.
        device: where the trainers are.
    """
    steps: dict[str, Callable[[], None]] = {}
    peaks: dict[str, int | None] = {}
    wait = waiter(device)
    for label, build in builds.items():
        before = 0
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
        steps[label] = endless(make(build))
        steps[label]()
        wait()
        peaks[label] = torch.cuda.max_memory_allocated() - before if device.type == "cuda" else None
    seconds = interleave(steps, rounds, turn_seconds, wait)
    return {label: Speed(seconds[label], peaks[label]) for label in builds}


def _repeats(step: Callable[[], object], turn_seconds: float, wait: Callable[[], None]) -> int:
    for _ in range(WARM_UP_STEPS):
        step()
    wait()
    begun = time.perf_counter()
    for _ in range(WARM_UP_STEPS):
        step()
    wait()
    return max(1, round(turn_seconds * WARM_UP_STEPS / (time.perf_counter() - begun)))
