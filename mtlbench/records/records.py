"""The requests and results of benches as validated records, which `results/` holds as JSON."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from itertools import combinations
from typing import Annotated, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mtlbench.contracts.metrics import SHARES, Better, Metric, named_score
from mtlbench.records.history import LARGEST, Evaluation, Result, check_evaluation, check_result

FORMAT = 3
Positive = Annotated[float, Field(gt=0, lt=LARGEST)]
Library = Literal["bmm", "onednn"]
Precision = Literal["float32", "bf16"]


class Record(BaseModel):
    """A stored record: it refuses unknown fields, and keeps NaN and infinities."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")


class Spec(Record):
    """A strategy with its hyper-parameters; `label` is its canonical text, without defaults.

    `only` is the one task that a baseline `single:TASK` trains; `lr` is the network's learning rate in `tuned:NAME`,
    if not the bench's.
    """

    label: str
    name: str
    hyper: dict[str, object]
    only: str | None = None
    lr: float | None = None


class Conditions(Record):
    """The conditions that all runs of a bench share; tuned runs have learning rates of their own.

    `products` is the library of matrix products, and `precision` that of their operands: results of different ones
    differ by rounding, and are not mixed.
    """

    seeds: Annotated[tuple[int, ...], Field(min_length=1)]
    epochs: Annotated[int, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=1)]
    lr: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    device: str
    products: Library = "bmm"
    precision: Precision = "float32"

    def differences(self, other: Conditions) -> list[str]:
        """A phrase for each condition in which `other` differs."""
        values = ((name, getattr(self, name), getattr(other, name)) for name in Conditions.model_fields)
        return [f"{name} {_short(value)}, not {_short(changed)}" for name, value, changed in values if value != changed]


class Settings(Conditions):
    """The conditions of one run."""

    setup: str


class TaskInfo(Record):
    """A task's name, the metric of its score, and whether higher or lower scores are better."""

    name: str
    metric: str
    better: Better

    @model_validator(mode="before")
    @classmethod
    def _with_better(cls, fields: object) -> object:
        # Older runs were stored without `better`, which then followed from the metric.
        if not isinstance(fields, dict):
            return fields
        return {"better": SHARES.get(str(fields.get("metric")), "lower"), **fields}

    def measured(self, scale: float = math.nan) -> Metric:
        """The metric of scores of about the size `scale`."""
        return Metric(self.metric, self.better, scale)

    @property
    def column(self) -> str:
        """The score's column in `summary.csv`."""
        return f"{self.name}_{self.metric.replace(' ', '_')}"


class OwnSetup(Record):
    """The description of a setup that has a file of its own, and that file's name and text."""

    about: str
    source_file: str
    source: str


class RunRecord(Record):
    """One run: its spec and settings, the files of strategy and setup, and the result or the error.

    `stacks` lists the seeds that were trained together; this affects a seed's result only by rounding. In the first
    `warm_up` epochs the strategy does not follow its own rule yet.
    """

    format: Literal[3] = FORMAT
    key: str
    spec: Spec
    settings: Settings
    tasks: Annotated[list[TaskInfo], Field(min_length=1)]
    warm_up: int = 0
    source_file: str
    source: str
    own_setup: OwnSetup | None = None
    stacks: list[list[int]]
    result: Result | None = None
    error: str | None = None

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if (self.result is None) == (self.error is None):
            raise ValueError("must have either a result or an error")
        if self.spec.only is not None and not self.trained:
            raise ValueError(f"spec.only must be a task; found {self.spec.only}")
        if self.result is not None:
            check_result(self.result, len(self.settings.seeds), len(self.tasks))
        return self

    @property
    def scored(self) -> Result | None:
        """The result, if the run did not fail and no seed diverged."""
        return None if self.problem else self.result

    @property
    def problem(self) -> str:
        """Why the run has no scores, in a line; empty if it has scores."""
        if self.result is None:
            return f"failed: {self.error}"
        steps = zip(self.settings.seeds, self.result.diverged, strict=True)
        diverged = ", ".join(f"seed {seed} at step {step:,}" for seed, step in steps if step is not None)
        return f"diverged: {diverged}" if diverged else ""

    @property
    def trained(self) -> list[tuple[int, TaskInfo]]:
        """The tasks that the run trained, with their indices."""
        return [(t, task) for t, task in enumerate(self.tasks) if self.spec.only in (None, task.name)]

    @property
    def outcome(self) -> str:
        """The mean test scores over seeds, or the problem, in a line."""
        if self.scored is None:
            return self.problem
        rows = self.scored.test.scores
        means = [(task, sum(row[t] for row in rows) / len(rows)) for t, task in self.trained]
        return "test " + ", ".join(f"{task.name} {named_score(mean, task.metric)}" for task, mean in means)


class Trial(Record):
    """One trial of tuning: its settings, and losses and scores on the validation split, `[K][T]` each."""

    hyper: dict[str, object]
    lr: float
    validation: Evaluation | None = None
    seconds: float = 0.0
    error: str | None = None

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.validation is None and self.error is None:
            raise ValueError("must have validation scores or an error")
        return self


class TuningRecord(Record):
    """The trials of one strategy on one setup, `budget` of them once tuning is complete.

    `key` identifies everything that determines the trials; `settings` have seeds that no bench uses.
    """

    format: Literal[3] = FORMAT
    key: str
    command: str
    spec: Spec
    settings: Settings
    tasks: Annotated[list[TaskInfo], Field(min_length=1)]
    budget: Annotated[int, Field(ge=1)]
    trials: list[Trial]

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        for trial in self.trials:
            if trial.validation is not None:
                check_evaluation(trial.validation, len(self.settings.seeds), len(self.tasks))
        return self

    @property
    def chosen(self) -> Trial | None:
        """The trial with the best mean validation score of the main task; its loss breaks ties.

        None if trials are missing or one failed: a strategy gets its whole budget or nothing.
        """
        if len(self.trials) < self.budget or any(trial.error for trial in self.trials):
            return None
        return max(self.trials, key=self._merit)

    def _merit(self, trial: Trial) -> tuple[float, float]:
        assert trial.validation is not None
        scores, losses = ([row[0] for row in rows] for rows in (trial.validation.scores, trial.validation.losses))
        sign = 1 if self.tasks[0].better == "higher" else -1
        score, loss = sign * sum(scores) / len(scores), -sum(losses) / len(losses)
        return (score, loss) if math.isfinite(score) and math.isfinite(loss) else (-math.inf, -math.inf)


class StepSpeed(Record):
    """Speed of one strategy's training step on the bench's main setup, with one value per interleaved round.

    `ratios` are step times relative to fixed weights in the same round; `peak_memory` is in bytes (only on cuda).
    """

    key: str
    label: str
    replicas: Annotated[int, Field(ge=1)]
    samples_per_second: Annotated[list[Positive], Field(min_length=1)]
    ratios: Annotated[list[Positive], Field(min_length=1)]
    peak_memory: int | None

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if len(self.samples_per_second) != len(self.ratios):
            raise ValueError("samples_per_second and ratios must have equally many values")
        return self


class SpeedRecord(Record):
    """All speeds of a bench, measured with nothing else running."""

    format: Literal[3] = FORMAT
    threads: int
    costs: list[StepSpeed]


class Environment(Record):
    """The machine and versions of a bench; `commit` ends with `-dirty` if files differed from it."""

    machine: str
    cores: int
    memory_gib: float
    system: str
    versions: dict[str, str]
    commit: str | None


class BenchRecord(Record):
    """The runs that were requested under the name of a bench, and their conditions.

    `runs` has the labels of each setup's runs; `runs` and `commands` grow when more is asked for later.
    """

    format: Literal[3] = FORMAT
    name: str
    commands: list[str]
    created: str
    conditions: Conditions
    runs: Annotated[dict[str, list[str]], Field(min_length=1)]
    environment: Environment

    @property
    def main_setup(self) -> str:
        """The setup that was first asked for."""
        return next(iter(self.runs))


def key_of(**parts: object) -> str:
    """SHA-256 of everything that determines a computation, given as records and plain values."""
    plain = {name: _plain(part) for name, part in parts.items()}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _plain(part: object) -> object:
    """A part of a key; conditions without the fields that older runs lack, if these have the values of older runs."""
    if not isinstance(part, BaseModel):
        return part
    later = {name: Conditions.model_fields[name].default for name in ("products", "precision")}
    return {name: value for name, value in part.model_dump().items() if name not in later or value != later[name]}


def identical_runs(runs: Sequence[RunRecord]) -> list[str]:
    """A line for each pair of strategies whose losses and scores are exactly equal.

    Runs that do not last longer than their warm-up are left out: they may well be equal to others.
    """
    numbers = {
        run.spec.label: (run.scored.test, run.scored.validation, run.scored.trajectory.losses)
        for run in runs
        if run.scored and (run.warm_up == 0 or run.warm_up < run.settings.epochs)
    }
    return [
        f"{first} and {second} gave identical numbers for every seed: "
        f"does one of them silently fall back to the other's weights?"
        for first, second in combinations(numbers, 2)
        if numbers[first] == numbers[second]
    ]


def _short(value: object) -> str:
    if not isinstance(value, tuple):
        return str(value)
    if len(value) > 2 and value == tuple(range(value[0], value[-1] + 1)):
        return f"{value[0]}-{value[-1]}"
    return ",".join(map(str, value))
