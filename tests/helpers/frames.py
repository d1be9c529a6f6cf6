"""Made-up frames of a bench on MNIST, and of an overview of several setups."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mtlbench.records.roles import reference_of, role_of
from mtlbench.report.figures.inputs import Frames, Overview
from mtlbench.stats.ranks import Ranking, rank_test

Points = NDArray[np.float64]

MAIN, AUXILIARY = "digit", "above_five"
FIVE = ("fixed", "uncertainty", "gradnorm", "dwa", "fixed:weights=[1,0.1]")
THIRTY = ("fixed", *(f"method_{i}:temperature={i / 10},weights=[1,0.1]" for i in range(29)))


MANY = (
    "fixed", "aligned-mtl", "cagrad", "config", "db-mtl", "dualproj", "dwa", "excessmtl", "fairgrad", "famo",
    "geometric", "go4align", "graddrop", "gradnorm", "gradvac", "imtl", "imtl-g", "imtl-l", "mgda", "moco", "modo",
    "nashmtl", "pcgrad", "rlw", "sdmgrad", "stch", "uncertainty", "uncertainty-softmax",
)  # fmt: skip


SETUPS = (
    "mnist-aux-noise", "mnist-aux-unrelated", "mnist-eight-tasks", "fashion", "multi-fashion-and-mnist",
    "toy-regression", "sarcos", "mnist-imbalanced",
)  # fmt: skip
FRONT = (0.0, 0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9, 1.0)


def make_frames(
    strategies: tuple[str, ...] = FIVE,
    seeds: int = 10,
    epochs: int = 3,
    points: int = 60,
    more_tasks: tuple[str, ...] = (),
    tuned: tuple[str, ...] = (),
    front: tuple[float, ...] = (),
    setup: str = "mnist",
) -> Frames:
    """Frames of a bench on MNIST: accuracies near 98%, with a standard deviation of about 0.1% between seeds.

    Sweeps of fixed weights bend around the strategies; at the shares 0 and 1 one head is not trained.
    """
    rng = np.random.default_rng(round(1e6 * hash_of(setup)))
    tasks = (MAIN, AUXILIARY, *more_tasks)
    names = [*strategies, *(f"tuned:{name}" for name in tuned), *(f"single:{task}" for task in tasks[:2])]
    names += [f"front:{share:g}" for share in front]
    luck = rng.normal(0, 0.0005, (len(tasks), seeds))
    runs: list[dict[str, object]] = []
    scores: list[dict[str, object]] = []
    speeds: list[dict[str, object]] = []
    curves: list[pd.DataFrame] = []
    scores_by_seed: dict[tuple[str, str], Points] = {}
    for name in names:
        effect = rng.normal(0, 0.0012) * (name != "fixed") - 0.0008 * name.startswith("tuned:")
        for task in tasks:
            if name.startswith("single:") and name != f"single:{task}":
                continue
            t, metric = tasks.index(task), "accuracy" if task == MAIN else "error"
            errors = 0.018 + 0.004 * (t > 0) - effect * (1 - 1.6 * (t > 0)) + luck[t] + rng.normal(0, 0.0008, seeds)
            if name.startswith("front:"):
                errors += front_of(float(name[6:]), main=t == 0) + effect * (1 - 1.6 * (t > 0))
            values = 1 - errors if task == MAIN else errors
            scores_by_seed[name, task] = values
            about: dict[str, object] = {
                "setup": setup,
                "strategy": name,
                "task": task,
                "metric": metric,
                "better": "higher" if task == MAIN else "lower",
            }
            runs += [about | {"seed": i, "score": x, "loss": 0.06 + rng.normal(0, 0.005)} for i, x in enumerate(values)]
            scores.append(
                about | {"seeds": seeds} | compared(name, values, scores_by_seed.get((reference_of(name), task)))
            )
            curves.append(made_curves(rng, about, errors, epochs, points, effect))
        if role_of(name) == "strategy":
            speeds += made_speeds(name, seeds)
        if role_of(name) in ("strategy", "tuned"):
            about: dict[str, object] = {
                "setup": setup,
                "strategy": name,
                "task": "all tasks",
                "metric": "delta-m",
                "better": "higher",
            }
            values = np.asarray(10 * effect + rng.normal(0, 0.004, seeds))
            scores_by_seed[name, "all tasks"] = values
            runs += [about | {"seed": i, "score": x, "loss": np.nan} for i, x in enumerate(values)]
            reference = scores_by_seed.get((reference_of(name), "all tasks"))
            scores.append(about | {"seeds": seeds} | compared(name, values, reference))
    return Frames(
        runs=pd.DataFrame(runs),
        curves=pd.concat(curves, ignore_index=True),
        scores=pd.DataFrame(scores),
        speeds=pd.DataFrame(speeds),
        tasks=tasks,
        caption=f"{setup}, {seeds} seeds, {epochs} epochs, batch 64, Adam lr 0.001, cpu. Failed: nash_mtl (singular).",
    )


def renamed(frames: Frames, tasks: dict[str, str], metric: str) -> Frames:
    """The frames with other names of tasks, and of the metric of auxiliary tasks."""
    names = tasks | {f"single:{old}": f"single:{new}" for old, new in tasks.items()}

    def of(frame: pd.DataFrame) -> pd.DataFrame:
        columns = [column for column in ("strategy", "task", "metric") if column in frame]
        return frame.assign(**{column: frame[column].replace(names | {"error": metric}) for column in columns})

    parts = {name: of(getattr(frames, name)) for name in ("runs", "curves", "scores", "speeds")}
    return replace(frames, tasks=tuple(tasks.get(task, task) for task in frames.tasks), **parts)


def front_of(share: float, *, main: bool) -> float:
    """The error added by fixed weights with this share of the main task."""
    own = share if main else 1 - share
    return (0.88 if main else 0.48) if own == 0 else 0.0012 * (1 - own) ** 2 / (own + 0.05) ** 0.7 - 0.0006


def compared(name: str, values: Points, reference: Points | None) -> dict[str, object]:
    """Mean and paired difference of a row of the scores; the intervals are approximate."""
    seeds = len(values)
    half = 2.26 * values.std(ddof=1) / np.sqrt(seeds) if seeds > 1 else np.nan
    mean = values.mean()
    row: dict[str, object] = {"mean": mean, "low": mean - half, "high": mean + half, "reference": "", "verdict": ""}
    columns = ("difference", "difference_low", "difference_high", "p", "p_holm", "gained", "detectable")
    row |= dict.fromkeys(columns, np.nan) | {"comparisons": 0}
    if name == "fixed" or reference is None:
        return row
    change = float((values - reference).mean())
    row |= {"difference": change, "difference_low": change - half, "difference_high": change + half}
    if role_of(name) in ("strategy", "tuned"):
        told = "too few seeds" if seeds < 9 else "none shown" if abs(change) < 1.6 * half else "better"
        row |= {
            "p": 0.01, "p_holm": 0.04, "gained": 0.8, "detectable": 2 * half if seeds >= 9 else np.inf,
            "comparisons": 9, "reference": reference_of(name),
            "verdict": "worse" if told == "better" and change < 0 else told,
        }  # fmt: skip
    return row


def made_curves(
    rng: np.random.Generator, about: dict[str, object], errors: Points, epochs: int, points: int, effect: float
) -> pd.DataFrame:
    """Training stretches and validation of one strategy and task, for every seed."""
    name, task = str(about["strategy"]), str(about["task"])
    steps, ends = np.arange(1, points + 1) * epochs / points, np.arange(1.0, epochs + 1)
    drift = 0.25 * (hash_of(name) - 0.5) * np.log1p(3 * steps) * (1 if task == MAIN else -1)
    moves = not name.startswith(("fixed", "single:", "front:"))
    rows: list[Points] = []  # of each seed: loss, score, weight
    for last in errors:
        loss = (0.05 + 0.5 / (1 + 6 * steps)) * np.exp(rng.normal(0, 0.05, points)) * (1 + 40 * effect)
        weight = (0.1 if "0.1]" in name and task != MAIN else 1) + (drift + rng.normal(0, 0.03, points)) * moves
        error = last + 0.016 * np.exp(-1.2 * (ends - 1)) + rng.normal(0, 0.0005, epochs)
        score = 1 - error if task == MAIN else error
        training = np.stack([loss, np.full(points, np.nan), weight])
        validation = np.stack([np.full(epochs, 0.07), score, np.full(epochs, np.nan)])
        rows.append(np.concatenate([training, validation], axis=1))
    loss, score, weight = np.concatenate(rows, axis=1)
    seeds = len(errors)
    return pd.DataFrame({
        "split": np.tile(np.repeat(np.array(["training", "validation"], dtype=object), [points, epochs]), seeds),
        "epoch": np.tile(np.concatenate([steps, ends]), seeds),
        "loss": loss, "score": score, "weight": weight, "seed": np.repeat(np.arange(seeds), points + epochs),
        "setup": str(about["setup"]), "strategy": name, "task": task, "gradient_norm": 0.1, "cosine": 0.1,
    })  # fmt: skip


def made_speeds(name: str, seeds: int) -> list[dict[str, object]]:
    """One replica and the whole stack."""
    rows: list[dict[str, object]] = []
    for replicas in sorted({1, seeds}):
        ratio = 1 + (name != "fixed") * (0.05 + 0.8 * hash_of(name)) / replicas**0.3
        speed = 9000 * replicas**0.6 / ratio
        rows.append({
            "strategy": name, "replicas": replicas, "samples_per_second": speed, "samples_low": 0.97 * speed,
            "samples_high": 1.03 * speed, "ratio": ratio, "ratio_low": ratio - 0.03, "ratio_high": ratio + 0.04,
            "peak_memory": None,
        })  # fmt: skip
    return rows


def make_overview(strategies: tuple[str, ...], setups: int = 9, *, delta_m: bool = True, seeds: int = 10) -> Overview:
    """Scores of several setups, with ranks over them, and over the seeds of the first one."""
    names = ["mnist", *SETUPS[: setups - 1]]
    frames = {
        name: make_frames(strategies, seeds, points=2, epochs=1, tuned=strategies[:2], setup=name) for name in names
    }
    scores = pd.concat([part.scores for part in frames.values()], ignore_index=True)
    if not delta_m:
        scores = scores[scores["task"] != "all tasks"]
    main = scores[(scores["task"] == MAIN) & scores["strategy"].isin(strategies)]
    means = main.pivot_table(index="setup", columns="strategy", values="mean")[list(strategies)]
    runs = frames["mnist"].runs
    runs = runs[(runs["task"] == MAIN) & runs["strategy"].isin(strategies)]
    by_seed = runs.pivot_table(index="seed", columns="strategy", values="score")[list(strategies)]
    rankings = [Ranking("digit", list(strategies), rank_test(by_seed.to_numpy(), True), "seeds")]
    if setups > 1:
        rankings.insert(0, Ranking("main task", list(strategies), rank_test(means.to_numpy(), True), "setups"))
    caption = f"{setups} setups, {seeds} seeds each, 3 epochs, batch 64, Adam lr 0.001, cpu."
    return Overview(scores, dict.fromkeys(names, MAIN), rankings, caption)


def hash_of(name: str) -> float:
    """A number in 0..1 that is the same in every process."""
    return sum(i * ord(c) for i, c in enumerate(name, 1)) % 97 / 97


def failing(frames: Frames) -> Frames:
    """The frames with a strategy that collapsed in every seed, one that did in one seed, and one without numbers."""
    runs, scores, curves = frames.runs.copy(), frames.scores.copy(), frames.curves.copy()
    for frame in (runs, scores, curves):
        values = [c for c in ("score", "loss", "mean", "low", "high", "weight") if c in frame]
        frame.loc[frame["strategy"] == "gradnorm", values] = np.nan
        collapsed = (frame["strategy"] == "uncertainty") & (frame["task"] == MAIN)
        for column in {"score", "mean", "low", "high"} & set(frame):
            frame.loc[collapsed, column] = frame.loc[collapsed, column] - 0.87
    runs.loc[(runs["strategy"] == "dwa") & (runs["seed"] == 3), ["score", "loss"]] = (0.11, np.inf)
    return replace(frames, runs=runs, scores=scores, curves=curves, speeds=frames.speeds.iloc[:0])


def with_outlier(frames: Frames, name: str) -> Frames:
    """The frames with one strategy that is far from all others in every number of the main task."""
    far = {"score": -0.2, "mean": -0.2, "low": -0.25, "high": -0.15, "loss": 2.0, "weight": 30.0, "ratio": 9.0}
    parts = {part: getattr(frames, part).copy() for part in ("runs", "scores", "curves", "speeds")}
    for frame in parts.values():
        there = (frame["strategy"] == name) & (frame["task"] == MAIN if "task" in frame else True)
        for column, change in far.items():
            if column in frame:
                frame.loc[there, column] += change
    return replace(frames, **parts)
