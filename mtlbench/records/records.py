"""What is asked of a bench and what it leaves, as validated records; their JSON is what lies under results/."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Annotated, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mtlbench.contracts.metrics import SHARES, Better, Metric, named_score
from mtlbench.records.history import LARGEST, Evaluation, Result, check_evaluation, check_result

FORMAT = 3
Positive = Annotated[float, Field(gt=0, lt=LARGEST)]


class Record(BaseModel):
    """A stored record: unknown fields are refused, NaN and infinities survive the round trip."""

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")


class Spec(Record):
    """A strategy with its hyper-parameters: `label` is the canonical way to write it, defaults left out.

    `only` names the one task that is trained, for the baselines `single:TASK`; `lr` is the network's learning rate
    where it is not the bench's, for `tuned:NAME`.
    """

    label: str
    name: str
    hyper: dict[str, object]
    only: str | None = None
    lr: float | None = None


class Conditions(Record):
    """What all runs of a bench share; `lr` is that of runs which are not tuned."""

    seeds: Annotated[tuple[int, ...], Field(min_length=1)]
    epochs: Annotated[int, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=1)]
    lr: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    device: str

    def differences(self, other: Conditions) -> list[str]:
        """A phrase for each condition in which `other` differs."""
        pairs = ((name, getattr(self, name), getattr(other, name)) for name in Conditions.model_fields)
        return [f"{name} {_short(mine)}, not {_short(theirs)}" for name, mine, theirs in pairs if mine != theirs]


class Settings(Conditions):
    """The conditions of one run."""

    setup: str


class TaskInfo(Record):
    """Name and metric of a task; `metric` is what its score counts, `better` which way of it is better."""

    name: str
    metric: str
    better: Better

    @model_validator(mode="before")
    @classmethod
    def _of_before(cls, given: object) -> object:
        # Runs were stored without it while it followed from the metric.
        if not isinstance(given, dict):
            return given
        return {"better": SHARES.get(str(given.get("metric")), "lower"), **given}

    def measured(self, scale: float = math.nan) -> Metric:
        """The metric, with about how large it is."""
        return Metric(self.metric, self.better, scale)

    @property
    def column(self) -> str:
        """The score's name in `summary.csv`."""
        return f"{self.name}_{self.metric.replace(' ', '_')}"


class OwnSetup(Record):
    """A setup that comes from a file of its own: what it says of itself, and the file as it was."""

    about: str
    source_file: str
    source: str


class RunRecord(Record):
    """One run: what was asked, the strategy's own file and the setup's if it has one, and the result or the error.

    `stacks` are the seeds that were trained together; a seed's result depends on its stack in rounding alone.
    """

    format: Literal[3] = FORMAT
    key: str
    spec: Spec
    settings: Settings
    tasks: Annotated[list[TaskInfo], Field(min_length=1)]
    source_file: str
    source: str
    own_setup: OwnSetup | None = None
    stacks: list[list[int]]
    result: Result | None = None
    error: str | None = None

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if (self.result is None) == (self.error is None):
            raise ValueError("there must be a result or an error")
        if self.spec.only is not None and not self.trained:
            raise ValueError(f"there is no task {self.spec.only}")
        if self.result is not None:
            check_result(self.result, len(self.settings.seeds), len(self.tasks))
        return self

    @property
    def scored(self) -> Result | None:
        """The result, if every seed has one that can be averaged: none failed and none diverged."""
        return None if self.problem else self.result

    @property
    def problem(self) -> str:
        """In a line, why the run has no scores; empty if it has."""
        if self.result is None:
            return f"failed: {self.error}"
        lost = [
            (seed, at) for seed, at in zip(self.settings.seeds, self.result.diverged, strict=True) if at is not None
        ]
        return "diverged: " + ", ".join(f"seed {seed} at step {at:,}" for seed, at in lost) if lost else ""

    @property
    def trained(self) -> list[tuple[int, TaskInfo]]:
        """The tasks that the run trained, with their positions."""
        return [(t, task) for t, task in enumerate(self.tasks) if self.spec.only in (None, task.name)]

    @property
    def outcome(self) -> str:
        """In a line, the mean test scores over seeds, or what went wrong."""
        if self.scored is None:
            return self.problem
        rows = self.scored.test.scores
        means = [(task, sum(row[t] for row in rows) / len(rows)) for t, task in self.trained]
        return "test " + ", ".join(f"{task.name} {named_score(mean, task.metric)}" for task, mean in means)


class Trial(Record):
    """One trial of tuning: the settings tried, and losses and scores of the validation split, `[K][T]` each."""

    hyper: dict[str, object]
    lr: float
    validation: Evaluation | None = None
    seconds: float = 0.0
    error: str | None = None

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.validation is None and self.error is None:
            raise ValueError("there must be validation scores or an error")
        return self


class TuningRecord(Record):
    """The trials of one strategy on one setup; `settings` are theirs, with seeds that no bench uses.

    `key` stands for all that decides the trials; there are `budget` of them once tuning is complete. `command` asked
    for them.
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
        """The trial with the best mean validation score of the main task, ties by its loss.

        None as long as trials are missing, or if one failed: a strategy gets its whole budget or none.
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
    """Speed of one strategy's training step on the bench's main setup, a value per interleaved round.

    `ratios` are step times relative to fixed weights in the same round; `peak_memory` is in bytes, on cuda.
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
            raise ValueError("samples_per_second and ratios must have a value per round")
        return self


class SpeedRecord(Record):
    """All speeds measured for a bench, each alone on the machine."""

    format: Literal[3] = FORMAT
    threads: int
    costs: list[StepSpeed]


class Environment(Record):
    """Where and with what a bench was run; `commit` ends with `-dirty` if files differed from it."""

    machine: str
    cores: int
    memory_gib: float
    system: str
    versions: dict[str, str]
    commit: str | None


class BenchRecord(Record):
    """What was asked under a bench's name, and how.

    `runs` has the labels of each setup's runs, the setup that was asked for first being the main one; it grows, and
    `commands` with it, when more is asked for later.
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
        """The setup that was asked for first."""
        return next(iter(self.runs))


def key_of(**parts: object) -> str:
    """Identity of a computation, as a SHA-256 of everything that decides it: records and plain values."""
    plain = {name: part.model_dump() if isinstance(part, BaseModel) else part for name, part in parts.items()}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _short(value: object) -> str:
    if isinstance(value, tuple):
        first, last = value[0], value[-1]
        if value == tuple(range(first, last + 1)) and len(value) > 2:
            return f"{first}-{last}"
        return ",".join(str(item) for item in value)
    return str(value)
