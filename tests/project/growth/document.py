"""The text of `docs/performance.md`, with every number computed from the measured rows."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from mtlbench.engine.gradients import PER_JACOBIAN_VALUE
from mtlbench.records.records import Environment, Record
from tests.project.growth.facts import Choice, choices, exponents, line, medians, seconds_per_unit
from tests.project.growth.measure import (
    BASE,
    CURVES,
    GRAMIAN_SECONDS,
    GRAMIANS,
    PATHS,
    PEAK_BYTES,
    STEP_SECONDS,
    STRATEGIES,
)


class Evidence(Record):
    """How and where the rows were measured."""

    command: str
    created: str
    rounds: int
    threads: int
    environment: Environment

    @property
    def caption(self) -> str:
        """The line below each figure."""
        versions = self.environment.versions
        return (
            f"{self.environment.machine}, {self.threads} thread, torch {versions['torch']}. Lines are medians of "
            f"{self.rounds} interleaved rounds, bands their middle half."
        )


def written(rows: pd.DataFrame, evidence: Evidence, folder: str) -> str:
    """The page; its figures are in `folder` next to it."""
    points = medians(rows)
    parts = [
        ["# Performance: how a step grows"],
        [_evidence(evidence, folder)],
        [_what_is_measured(evidence)],
        _time(points, folder),
        _memory(points, folder),
        _gramian(rows, points, folder),
    ]
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def _what_is_measured(evidence: Evidence) -> str:
    signals = ", ".join(f"`{name}` ({what})" for name, what in STRATEGIES.items())
    return (
        f"A step is measured as it runs in a bench: {evidence.threads} thread, one stack, without evaluation. Four "
        f"strategies represent what a strategy may need: {signals}. Each curve varies one quantity; the others are "
        f"{BASE.replicas} replicas, {BASE.tasks} tasks, batch {BASE.batch} and the trunk "
        f"784-{BASE.width}-{BASE.width // 2}. The second layer is always half as wide as the first. The tasks are "
        "those of `mnist-8-tasks` in their order (the first two are those of `mnist`), then the questions `is_0`, "
        "`is_1` and so on."
    )


def _evidence(evidence: Evidence, folder: str) -> str:
    environment = evidence.environment
    versions = ", ".join(f"{name} {version}" for name, version in environment.versions.items())
    return (
        f"Made by `{evidence.command}` on {evidence.created}: {evidence.rounds} interleaved rounds on "
        f"{environment.machine}, {environment.cores} cores, {environment.memory_gib} GiB, {environment.system}; "
        f"{versions}; commit {environment.commit or 'unknown'}. [growth.csv]({folder}/growth.csv) has every round of "
        "every point; `make growth REPLOT=1` makes this page from it again."
    )


def _time(points: pd.DataFrame, folder: str) -> list[str]:
    scale = seconds_per_unit(points)
    rows: list[list[str]] = []
    for curve in CURVES:
        for name in STRATEGIES:
            own = line(points, STEP_SECONDS, curve, name)
            x = own["x"].tolist()
            seconds, products = (own["value"] / own["samples"]).tolist(), (own["formula"] / own["samples"]).tolist()
            rows.append([
                f"{curve} {x[0]} to {x[-1]}", f"`{name}`", *(f"{1e6 * seconds[i]:.1f}" for i in (0, -1)),
                *(f"{seconds[i] / (scale * products[i]):.2f}" for i in (0, -1)),
                *_powers(exponents(x, seconds), exponents(x, products)),
            ])  # fmt: skip
    return [
        "## Time per sample",
        "",
        f"![Time per sample of four strategies against replicas, tasks, batch and width]({folder}/step-time.png)",
        "",
        "The time of a step divided by batch size and replicas, on one thread. Dotted lines show the matrix "
        f"products of the step alone: their multiply-adds as counted by torch, at {1e12 * scale:.1f} ps each, the "
        "constant of the Gramians below. The rest of the time is not spent on products: once per step, whatever the "
        "batch size, Adam passes over all parameters; samples are gathered; activations are read and written. The "
        "table has the time relative to that of the products alone, and the power of x with which the time per "
        "sample grows, from the first two and from the last two points. The power for the products is in brackets.",
        "",
        *_table(["curve", "strategy", *_both_ends("µs", "over products", "power")], rows, texts=2),
    ]


def _memory(points: pd.DataFrame, folder: str) -> list[str]:
    rows: list[list[str]] = []
    for curve in CURVES:
        for name in STRATEGIES:
            own = line(points, PEAK_BYTES, curve, name)
            x, replicas = own["x"].tolist(), own["x"] if curve == "replicas" else BASE.replicas
            each = (own["value"] / replicas / 2**20).tolist()
            ends = (f"{each[i]:.2f}" for i in (0, -1))
            rows.append([f"{curve} {x[0]} to {x[-1]}", f"`{name}`", *ends, *_powers(exponents(x, each))])
    return [
        "## Memory",
        "",
        f"![Memory per replica of four strategies against replicas, tasks, batch and width]({folder}/memory.png)",
        "",
        "The peak memory of tensors, from torch's profiler, while a trainer is created and takes two steps: "
        "parameters, gradients, Adam's moments, the order of the epoch, activations, the strategy's state and signals. "
        "It is the same in every run. It does not include the samples, which all replicas share, or the memory that a "
        "library allocates inside a product.",
        "",
        *_table(["curve", "strategy", *_both_ends("MiB", "power")], rows, texts=2),
    ]


def _gramian(rows: pd.DataFrame, points: pd.DataFrame, folder: str) -> list[str]:
    scale = seconds_per_unit(points)
    fits: list[list[str]] = []
    for curve in GRAMIANS:
        for path in PATHS:
            own = line(points, GRAMIAN_SECONDS, curve, path)
            x, ratio = own["x"].tolist(), (own["value"] / (scale * own["formula"])).tolist()
            fits.append([
                curve, f"{x[0]} to {x[-1]}", path, *(f"{ratio[i]:.2f}" for i in (0, -1)),
                *_powers(exponents(x, own["value"].tolist()), exponents(x, own["formula"].tolist())),
            ])  # fmt: skip
    made = choices(rows)
    ends = [own[i] for curve in GRAMIANS for own in [[c for c in made if c.curve == curve]] for i in (0, -1)]
    return [
        "## Gramian",
        "",
        f"![Time of both ways to the Gramian of a layer, measured and by the formula]({folder}/gramian.png)",
        "",
        "There are two ways to the Gramian of a layer with `in` inputs and `out` outputs, for batch size B and T "
        "tasks. `ghost` computes inner products over the batch, in B² (in + T out) + T² B out multiply-adds. "
        "`explicit` forms the task gradients, in T B in out + T² (in + 1) out multiply-adds and the time of "
        f"{PER_JACOBIAN_VALUE} more for each of the T (in + 1) out values that it writes and reads again. The rule "
        "takes the way with the smaller number; for a convolution, B is the number of patches of all samples. One "
        f"constant, {1e12 * scale:.1f} ps, scales both numbers to the measured time. The table has the measured time "
        "relative to that of the formula at both ends of each curve, and the power of x with which it grows there. "
        "The power for the formula is in brackets.",
        "",
        *_table(["curve", "x", "way", *_both_ends("over formula", "power")], fits, texts=3),
        "",
        "The way that the rule takes at both ends, and its time relative to that of the other way, measured in the "
        "same rounds:",
        "",
        *_table(
            ["curve", "x", "taken", "time / other way"],
            [[choice.curve, str(choice.x), choice.path, f"{choice.ratio:.2f}"] for choice in ends],
            texts=3,
        ),
        "",
        f"The rule takes the faster way at {_score(made)}. If it counted only multiply-adds, and nothing for the "
        f"values of the Jacobian, it would do so at {_score(choices(rows, per_value=0))}.",
    ]


def _score(made: list[Choice]) -> str:
    """At how many shapes the choice was right, and how slow the worst choice was."""
    worst = max(made, key=lambda choice: choice.ratio)
    right = sum(choice.ratio <= 1 for choice in made)
    if right == len(made):
        return f"all {right} shapes"
    return (
        f"{right} of {len(made)} shapes; its worst choice takes {worst.ratio:.2f} times as long as the other way "
        f"({worst.curve}: {worst.x})"
    )


def _powers(measured: tuple[float, float], formula: tuple[float, float] | None = None) -> list[str]:
    """Exponents as text, those of the formula in brackets."""
    beside = ("", "") if formula is None else tuple(f" ({_power(each)})" for each in formula)
    return [_power(each) + other for each, other in zip(measured, beside, strict=True)]


def _power(value: float) -> str:
    return f"{round(value, 2) + 0.0:.2f}"  # no negative zero


def _both_ends(*names: str) -> list[str]:
    return [f"{name}, {end}" for name in names for end in ("first", "last")]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], texts: int) -> list[str]:
    """Lines of a table whose first `texts` columns are text, the others numbers."""
    rule = ["---"] * texts + ["---:"] * (len(header) - texts)
    return [f"| {' | '.join(cells)} |" for cells in (header, rule, *rows)]
