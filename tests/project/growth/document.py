"""The text of `docs/performance.md`: every number in it comes from the measured rows."""

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
    """How the rows were measured."""

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
    """The document; its figures lie in `folder`, beside it."""
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
        f"A step is measured as it runs in a bench: {evidence.threads} thread, one stack, evaluation outside the "
        f"clock. Four strategies stand for what a strategy may ask for: {signals}. Where a curve does not vary it, the "
        f"stack has {BASE.replicas} replicas, {BASE.tasks} tasks, batch {BASE.batch} and the trunk "
        f"784-{BASE.width}-{BASE.width // 2}; the second layer is always half as wide as the first. Tasks are those of "
        f"`mnist-8-tasks` in their order, the first two being those of `mnist`, then the questions `is_0`, `is_1` and "
        "so on."
    )


def _evidence(evidence: Evidence, folder: str) -> str:
    environment = evidence.environment
    versions = ", ".join(f"{name} {version}" for name, version in environment.versions.items())
    return (
        f"Made by `{evidence.command}` on {evidence.created}: {evidence.rounds} interleaved rounds on "
        f"{environment.machine}, {environment.cores} cores, {environment.memory_gib} GiB, {environment.system}; "
        f"{versions}; commit {environment.commit or 'unknown'}. Every round of every point is in "
        f"[growth.csv]({folder}/growth.csv); `make growth REPLOT=1` makes this page from it again."
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
        "The time of a step divided by batch and replicas, on one thread. Dotted lines are the matrix products of the "
        f"step alone: their multiply-adds as torch counts them, at {1e12 * scale:.1f} ps each, the constant of the "
        "Gramians below. What lies above is not products: Adam passes over all parameters once a step whatever the "
        "batch, samples are gathered, activations are read and written. The table has the time over that of the "
        "products alone, and the power of x that the time per sample grows with, both from the first two and from the "
        "last two points, with that of the products in brackets.",
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
        "The most bytes of tensors alive at once while a trainer is made and takes two steps, from torch's profiler: "
        "parameters, gradients, Adam's moments, the order of the epoch, activations, the strategy's state and signals. "
        "It is the same on every run. Not counted are the samples, which all replicas share, and what a library takes "
        "for itself within a product.",
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
        "For a batch of B, T tasks and a layer with `in` inputs and `out` outputs, `ghost` takes inner products over "
        "the batch, B² (in + T out) + T² B out multiply-adds; `explicit` forms the task gradients, T B in out + T² (in "
        f"+ 1) out, and pays {PER_JACOBIAN_VALUE} more for each of the T (in + 1) out values that it writes and reads "
        "again. The smaller one is taken; of a convolution, B counts the patches of all samples. One constant, "
        f"{1e12 * scale:.1f} ps, scales both to the time measured. The table has the time measured over the time by "
        "the formula at both ends of each curve, and the power of x that it grows with there, with that of the formula "
        "in brackets.",
        "",
        *_table(["curve", "x", "way", *_both_ends("over formula", "power")], fits, texts=3),
        "",
        "What the rule takes at both ends, and its time over that of the other way, measured in the same rounds:",
        "",
        *_table(
            ["curve", "x", "taken", "time over the other's"],
            [[choice.curve, str(choice.x), choice.path, f"{choice.ratio:.2f}"] for choice in ends],
            texts=3,
        ),
        "",
        f"Of {len(made)} shapes, the rule takes the faster way at {_score(made)}. Were a value of the Jacobian free, "
        f"so that only multiply-adds counted, it would at {_score(choices(rows, per_value=0))}.",
    ]


def _score(made: list[Choice]) -> str:
    """How often the choice was right, and what the worst one cost."""
    worst = max(made, key=lambda choice: choice.ratio)
    right = sum(choice.ratio <= 1 for choice in made)
    if right == len(made):
        return "all"
    return f"{right}; its worst choice takes {worst.ratio:.2f} times as long as the other ({worst.curve}: {worst.x})"


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
