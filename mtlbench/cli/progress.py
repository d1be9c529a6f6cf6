"""How a bench shows where it is: live bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from mtlbench.contracts.metrics import named_score
from mtlbench.engine.fitting import Progress as RunProgress


@dataclass
class Run:
    """A run that is being shown: how far it is and when it began."""

    label: str
    epochs: int
    begun: float = field(default_factory=time.monotonic)
    progress: RunProgress | None = None

    @property
    def loss(self) -> str:
        """The last training loss."""
        return "-" if self.progress is None or self.progress.loss is None else f"{self.progress.loss:.4f}"

    @property
    def score(self) -> str:
        """The last validation score, with what it counts."""
        if self.progress is None or self.progress.score is None:
            return "-"
        return named_score(self.progress.score, self.progress.metric)

    @property
    def passed(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self.begun


class Display(ABC):
    """What both ways of showing a bench keep and say; its methods may be called from several threads."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._runs: dict[str, Run] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    @abstractmethod
    def note(self, text: str) -> None:
        """Say one thing."""

    @abstractmethod
    def began(self, run: Run) -> None:
        """Show that a run has begun."""

    @abstractmethod
    def moved(self, run: Run) -> None:
        """Show where a run is."""

    @abstractmethod
    def ended(self, run: Run) -> None:
        """Show that a run goes on no more."""

    def run_started(self, label: str, epochs: int) -> None:
        """A run has begun."""
        self._runs[label] = Run(label, epochs)
        self.began(self._runs[label])

    def run_moved(self, label: str, progress: RunProgress) -> None:
        """A run has come further."""
        self._runs[label].progress = progress
        self.moved(self._runs[label])

    def run_ended(self, label: str, outcome: str) -> None:
        """A run goes on no more; what came of it is said."""
        run = self._runs.pop(label)
        self.ended(run)
        self.note(f"{label}  {run.passed:.0f} s  {outcome}")


class Bars(Display):
    """One bar a run while it goes on: epoch, loss of the main task, validation score, time left.

    A run that has ended leaves a line above the bars: a bench has more runs than a terminal has rows.
    """

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._bars: dict[str, TaskID] = {}
        self._progress = Progress(
            TextColumn("{task.description}", style="bold", markup=False),
            BarColumn(bar_width=24),
            TextColumn("epoch {task.fields[epoch]}"),
            TextColumn("loss {task.fields[loss]}"),
            TextColumn("validation {task.fields[score]}", markup=False),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            refresh_per_second=4,
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def note(self, text: str) -> None:
        """Print a line above the bars."""
        self._console.print(text, highlight=False, markup=False, emoji=False, soft_wrap=True)

    def began(self, run: Run) -> None:
        """Add the run's bar."""
        epoch = f"0/{run.epochs}"
        self._bars[run.label] = self._progress.add_task(
            run.label, total=run.epochs, epoch=epoch, loss=run.loss, score=run.score
        )

    def moved(self, run: Run) -> None:
        """Move the run's bar; its epoch is the one that is under way."""
        done = run.progress.done if run.progress else 0.0
        epoch = f"{min(int(done) + 1, run.epochs)}/{run.epochs}"
        self._progress.update(self._bars[run.label], completed=done, epoch=epoch, loss=run.loss, score=run.score)

    def ended(self, run: Run) -> None:
        """Take the run's bar away."""
        self._progress.remove_task(self._bars.pop(run.label))

    def renderable(self) -> RenderableType:
        """The bars as they are now."""
        return self._progress.get_renderable()


class Lines(Display):
    """A line at the end of each epoch, for logs."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._lock = threading.Lock()

    def note(self, text: str) -> None:
        """Print a line with the time."""
        line = f"{time.strftime('%H:%M:%S')}  {text}"
        with self._lock:
            self._console.print(line, highlight=False, markup=False, emoji=False, soft_wrap=True)

    def began(self, run: Run) -> None:
        """Say so."""
        self.note(f"{run.label}  started")

    def moved(self, run: Run) -> None:
        """Print a line where an epoch has been validated."""
        if run.progress is not None and run.progress.validated:
            done = run.progress.done
            left = run.passed / done * (run.epochs - done)
            self.note(
                f"{run.label}  epoch {round(done)}/{run.epochs}  loss {run.loss}  validation {run.score}  "
                f"left {left:.0f} s"
            )

    def ended(self, run: Run) -> None:
        """Nothing is left on the screen to be taken away."""


def display(console: Console) -> Display:
    """Bars where the console is a terminal, lines elsewhere."""
    return Bars(console) if console.is_terminal else Lines(console)
