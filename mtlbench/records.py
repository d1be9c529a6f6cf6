"""What is asked of a bench and what it leaves, as validated records; their JSON is what lies under results/."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict

FORMAT = 1
REFERENCE = "fixed"  # the strategy that every other is compared with; equal weights

Matrix = list[list[float]]


@dataclass(frozen=True)
class Evaluation:
    """Losses and scores per seed and task, `[K][T]` each."""

    losses: Matrix
    scores: Matrix


@dataclass(frozen=True)
class Trajectory:
    """Means over equal stretches of training; `epochs[p]` is the end of stretch p, in epochs.

    `losses` and `weights` are `[P][K][T]`; `norms` of the task gradients likewise and their `cosines`
    `[P][K][pairs]` exist where the strategy asked for a Gramian.
    """

    epochs: list[float]
    losses: list[Matrix]
    weights: list[Matrix]
    norms: list[Matrix] | None
    cosines: list[Matrix] | None


@dataclass(frozen=True)
class Result:
    """What a run leaves: test and per-epoch validation, the trajectory, seconds spent in training steps."""

    test: Evaluation
    validation: list[Evaluation]
    trajectory: Trajectory
    training_seconds: float


class Record(BaseModel):
    """A stored record: unknown fields are refused, NaN and infinities survive the round trip."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")


class Spec(Record):
    """A strategy with its hyper-parameters: `label` is the canonical way to write it, defaults left out.

    `only` names the one task that is trained, for the baselines `single:TASK`.
    """

    label: str
    name: str
    hyper: dict[str, object]
    only: str | None = None


class Settings(Record):
    """The conditions that all runs of a bench share."""

    setup: str
    seeds: tuple[int, ...]
    epochs: int
    batch_size: int
    lr: float
    device: str

    def differences(self, other: Settings) -> list[str]:
        """A phrase for each condition in which `other` differs."""
        pairs = ((name, getattr(self, name), getattr(other, name)) for name in type(self).model_fields)
        return [f"{name} {_short(mine)}, not {_short(theirs)}" for name, mine, theirs in pairs if mine != theirs]


def is_share(metric: str) -> bool:
    """Whether a score lies between 0 and 1 and is shown in per cent."""
    return metric in {"accuracy", "error"}


def score_text(score: float, metric: str) -> str:
    """A score with what it counts, as it is shown while a bench goes on."""
    return f"{metric} {score:.2%}" if is_share(metric) else f"{metric} {score:.4g}"


class TaskInfo(Record):
    """Name and metric of a task; `metric` is what its score counts."""

    name: str
    metric: str

    @property
    def is_share(self) -> bool:
        """Whether the score is shown in per cent."""
        return is_share(self.metric)

    @property
    def column(self) -> str:
        """The score's name in `summary.csv`."""
        return f"{self.name}_{self.metric.replace(' ', '_')}"


class RunRecord(Record):
    """One run: what was asked, the strategy's own file, and the result or the error."""

    format: Literal[1] = FORMAT
    key: str
    spec: Spec
    settings: Settings
    tasks: list[TaskInfo]
    source_file: str
    source: str
    result: Result | None = None
    error: str | None = None
    traceback: str | None = None

    @property
    def trained(self) -> list[tuple[int, TaskInfo]]:
        """The tasks that the run trained, with their positions."""
        return [(t, task) for t, task in enumerate(self.tasks) if self.spec.only in (None, task.name)]

    @property
    def outcome(self) -> str:
        """In a line, the mean test scores over seeds, or the error."""
        if self.result is None:
            return f"failed: {self.error}"
        rows = self.result.test.scores
        means = [(task, sum(row[t] for row in rows) / len(rows)) for t, task in self.trained]
        return "test " + ", ".join(f"{task.name} {score_text(mean, task.metric)}" for task, mean in means)


class Cost(Record):
    """Speed of one run's training step, a value per interleaved round.

    `ratios` are step times relative to fixed weights in the same round; `peak_memory` is in bytes, on cuda.
    """

    key: str
    label: str
    replicas: int
    samples_per_second: list[float]
    ratios: list[float]
    peak_memory: int | None


class CostRecord(Record):
    """All speeds measured for a bench, each alone on the machine."""

    format: Literal[1] = FORMAT
    threads: int
    costs: list[Cost]


class Environment(Record):
    """Where and with what a bench was run; `commit` ends with `-dirty` if files differed from it."""

    machine: str
    cores: int
    memory_gib: float
    system: str
    versions: dict[str, str]
    commit: str | None


class BenchRecord(Record):
    """What was asked under a bench's name. `strategies` grows when more are asked for later."""

    format: Literal[1] = FORMAT
    name: str
    command: str
    created: str
    settings: Settings
    strategies: list[str]
    environment: Environment


def run_key(spec: Spec, settings: Settings, digest: str) -> str:
    """Identity of a run: its configuration and the content of its strategy's file, as a SHA-256."""
    asked = {
        "name": spec.name,
        "hyper": spec.hyper,
        "only": spec.only,
        "settings": settings.model_dump(),
        "source": digest,
    }
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def _short(value: object) -> str:
    if isinstance(value, tuple):
        first, last = value[0], value[-1]
        if value == tuple(range(first, last + 1)) and len(value) > 2:
            return f"{first}-{last}"
        return ",".join(str(item) for item in value)
    return str(value)
