"""The measurements: training steps along four curves, and both ways to a layer's Gramian along six more."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import accumulate
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from mtlbench import setups
from mtlbench.contracts.setup import Setup, Split, binary
from mtlbench.engine import speed
from mtlbench.engine.gradients import ghost_product, gramian_costs
from mtlbench.engine.layers import explicit_jacobian
from mtlbench.engine.trainer import Trainer
from mtlbench.plugins.registry import Registry

STRATEGIES = {
    "fixed": "equal weights",
    "uncertainty": "weights the losses",
    "mgda": "needs the Gramian of the task gradients",
    "db-mtl": "needs their Jacobian",
}
MOST_TASKS = 16
STEP_TURN, GRAMIAN_TURN = 0.1, 0.03  # seconds
COUNTED_STEPS = 2  # the first allocates Adam's moments; in the second, everything is alive that a step ever has
COLUMNS = ("quantity", "curve", "x", "name", "round", "value", "samples", "formula")
STEP_SECONDS, PEAK_BYTES, GRAMIAN_SECONDS = "step seconds", "peak bytes", "gramian seconds"
PATHS = ("ghost", "explicit")

Row = tuple[str, str, int, str, int, float, int, int]


@dataclass(frozen=True)
class Point:
    """The conditions of a measured training step; the trunk is 784-`width`-`width`/2."""

    replicas: int = 4
    tasks: int = 2
    batch: int = 64
    width: int = 512


BASE = Point()
CURVES: dict[str, tuple[int, ...]] = {
    "replicas": (1, 2, 4, 8, 16, 32),
    "tasks": (2, 4, 8, 12, 16),
    "batch": (16, 32, 64, 128, 256, 512, 1024),
    "width": (64, 128, 256, 512, 1024),
}
"""The quantity that varies, with its values; the others are those of `BASE`."""


@dataclass(frozen=True)
class LayerShape:
    """The shape of one layer's Gramian."""

    tasks: int = 2
    batch: int = 64
    into: int = 784
    out: int = 512


BATCHES = (16, 32, 64, 128, 256, 512, 1024)
NARROW = LayerShape(out=32)  # the trunk of `mnist-trunk-32`
GRAMIANS: dict[str, tuple[str, LayerShape, tuple[int, ...]]] = {
    "batch, layer 784-512": ("batch", LayerShape(), BATCHES),
    "batch, layer 512-256": ("batch", LayerShape(into=512, out=256), BATCHES),
    "batch, layer 784-32": ("batch", NARROW, BATCHES),
    "width N, layer 784-N": ("out", LayerShape(), (8, 16, 24, 32, 48, 64, 128, 256, 512, 1024)),
    "tasks, layer 784-512, batch 512": ("tasks", LayerShape(batch=512), (2, 4, 8, 16)),
    "tasks, layer 784-32": ("tasks", NARROW, (2, 4, 8, 16)),
}
"""The field of a layer's shape that varies, the shape, and the values of the field."""


def layer_at(curve: str, x: int) -> LayerShape:
    """The shape at one value of a curve of `GRAMIANS`."""
    field, shape, _ = GRAMIANS[curve]
    return replace(shape, **{field: x})


def many_tasks(count: int) -> Setup:
    """A setup of 2 to 16 tasks: those of `mnist-8-tasks` in their order, then "is it a 0", "is it a 1" up to 7."""
    base = setups.SETUPS["mnist-8-tasks"]
    digits = range(MOST_TASKS - len(base.tasks))

    def relabelled(split: Split) -> Split:
        questions = [(split.targets[:, 0] == digit).long() for digit in digits]
        return Split(split.inputs, torch.column_stack([split.targets, *questions])[:, :count])

    def samples() -> tuple[Split, Split]:
        training, validation = base.samples()
        return relabelled(training), relabelled(validation)

    tasks = (*base.tasks, *(binary(f"is_{digit}") for digit in digits))[:count]
    return replace(base, name=f"mnist-{count}-tasks", tasks=tasks, samples=samples)


def training_steps(registry: Registry, strategy: str, point: Point, samples: Split) -> Callable[[], None]:
    """An endless series of training steps, on the samples of `many_tasks` with the same number of tasks."""
    setup = many_tasks(point.tasks)
    setup = replace(setup, widths=(setup.widths[0], point.width, point.width // 2))
    build = partial(registry.build, registry.parse(strategy, setup))
    trainer = Trainer(
        setup, build, range(point.replicas), samples, batch_size=point.batch, lr=1e-3, device=torch.device("cpu")
    )
    return speed.endless(trainer)


def measure_steps(registry: Registry, curve: str, rounds: int) -> list[Row]:
    """Seconds and peak bytes of a step of every strategy along a curve, measured in the same rounds at all points."""
    points = {x: replace(BASE, **{curve: x}) for x in CURVES[curve]}
    steps: dict[str, Callable[[], None]] = {}
    made: dict[str, tuple[int, str, int, int]] = {}
    rows: list[Row] = []
    for x, point in points.items():
        samples, _ = many_tasks(point.tasks).samples()
        for name in STRATEGIES:
            label, seen = f"{name} {x}", point.replicas * point.batch

            def begin(label: str = label, name: str = name, point: Point = point, samples: Split = samples) -> None:
                steps[label] = training_steps(registry, name, point, samples)
                for _ in range(COUNTED_STEPS):
                    steps[label]()

            peak = peak_bytes(begin)
            made[label] = (x, name, seen, multiply_adds_of(steps[label]))
            rows.append((PEAK_BYTES, curve, x, name, 0, peak, seen, made[label][-1]))
    seconds = speed.interleave(steps, rounds, STEP_TURN, lambda: None)
    for label, (x, name, seen, formula) in made.items():
        rows += [(STEP_SECONDS, curve, x, name, i, s, seen, formula) for i, s in enumerate(seconds[label])]
    return rows


def measure_gramians(curve: str, rounds: int) -> list[Row]:
    """Seconds of both ways to one layer's Gramian along a curve, for the stack of `BASE`."""
    steps: dict[str, Callable[[], object]] = {}
    made: dict[str, tuple[int, str, int]] = {}
    for x in GRAMIANS[curve][-1]:
        shape = layer_at(curve, x)
        inputs = torch.randn(BASE.replicas, shape.batch, shape.into)
        deltas = torch.randn(BASE.replicas, shape.tasks, shape.batch, shape.out)
        ways = (partial(ghost_product, inputs, deltas, inputs, deltas), partial(explicit_gramian, inputs, deltas))
        for path, way, each in zip(PATHS, ways, gramian_costs(**asdict(shape)), strict=True):
            steps[f"{path} {x}"] = way
            made[f"{path} {x}"] = (x, path, BASE.replicas * each)
    seconds = speed.interleave(steps, rounds, GRAMIAN_TURN, lambda: None)
    return [
        (GRAMIAN_SECONDS, curve, x, path, i, value, BASE.replicas * layer_at(curve, x).batch, formula)
        for label, (x, path, formula) in made.items()
        for i, value in enumerate(seconds[label])
    ]


def peak_bytes(work: Callable[[], object]) -> int:
    """Peak memory on the CPU of the tensors created during the work.

    It is the sum of the requests to torch's allocator, so it is the same in every run. Memory that a library allocates
    inside a product is not included.
    """
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as profiler:
        work()
    with TemporaryDirectory() as folder:
        trace = Path(folder, "trace.json")
        profiler.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text())["traceEvents"]
    changes = sorted((e for e in events if e["name"] == "[memory]"), key=lambda event: event["ts"])
    return max(accumulate(event["args"]["Bytes"] for event in changes))


def explicit_gramian(x: Tensor, deltas: Tensor) -> Tensor:
    """The same as `ghost_product(x, deltas, x, deltas)`, computed from the Jacobian."""
    jacobian = explicit_jacobian(x, deltas)
    return torch.bmm(jacobian, jacobian.mT)


def multiply_adds_of(step: Callable[[], object]) -> int:
    """Multiply-adds in the matrix products of a call, as counted by torch."""
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops() // 2


def measure_all(rounds: int) -> pd.DataFrame:
    """Measure every curve, and print the name of the current one."""
    registry = Registry.load()
    rows: list[Row] = []
    for curve in GRAMIANS:
        print(f"Gramian of a layer: {curve}", flush=True)
        rows += measure_gramians(curve, rounds)
    for curve in CURVES:
        print(f"training steps: {curve}", flush=True)
        rows += measure_steps(registry, curve, rounds)
    return pd.DataFrame(rows, columns=list(COLUMNS))
