"""How a bench shows where it is: live bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import threading
import time
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from mtlbench.harness import Progress as RunProgress


class Bars:
    """One bar a run: epoch, loss of the main task, validation score, time left."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description}", style="bold"),
            BarColumn(bar_width=24),
            TextColumn("epoch {task.fields[epoch]}"),
            TextColumn("loss {task.fields[loss]}"),
            TextColumn("validation {task.fields[score]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            refresh_per_second=4,
        )
        self._tasks: dict[str, TaskID] = {}
        self._epochs: dict[str, int] = {}

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def note(self, text: str) -> None:
        """Print a line above the bars."""
        self._progress.console.print(escape(text), highlight=False)

    def run_started(self, label: str, epochs: int) -> None:
        """Add the run's bar."""
        self._epochs[label] = epochs
        self._tasks[label] = self._progress.add_task(
            escape(label), total=epochs, epoch=f"0/{epochs}", loss="-", score="-"
        )

    def run_moved(self, label: str, progress: RunProgress) -> None:
        """Move the run's bar."""
        loss, score = _shown(progress)
        epochs = self._epochs[label]
        epoch = f"{min(int(progress.done) + 1, epochs)}/{epochs}"
        self._progress.update(self._tasks[label], completed=progress.done, epoch=epoch, loss=loss, score=score)

    def run_ended(self, label: str, error: str | None) -> None:
        """Leave the bar full, or say what failed."""
        if error is not None:
            self._progress.stop_task(self._tasks[label])
            self.note(f"{label} failed: {error}")


class Lines:
    """A line at the end of each epoch, for logs."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lock = threading.Lock()
        self._begun: dict[str, float] = {}
        self._epochs: dict[str, int] = {}

    def __enter__(self) -> Lines:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def note(self, text: str) -> None:
        """Print a line with the time."""
        with self._lock:
            self._console.print(f"{time.strftime('%H:%M:%S')}  {text}", highlight=False, markup=False, soft_wrap=True)

    def run_started(self, label: str, epochs: int) -> None:
        """Say so."""
        self._begun[label], self._epochs[label] = time.monotonic(), epochs
        self.note(f"{label}  started")

    def run_moved(self, label: str, progress: RunProgress) -> None:
        """Print a line where an epoch has been validated."""
        epoch = round(progress.done)
        if progress.validated:
            loss, score = _shown(progress)
            passed = time.monotonic() - self._begun[label]
            left = passed / progress.done * (self._epochs[label] - progress.done)
            self.note(
                f"{label}  epoch {epoch}/{self._epochs[label]}  loss {loss}  validation {score}  left {left:.0f} s"
            )

    def run_ended(self, label: str, error: str | None) -> None:
        """Say how."""
        self.note(f"{label}  done" if error is None else f"{label}  failed: {error}")


def display(console: Console) -> Bars | Lines:
    """Bars where the console is a terminal, lines elsewhere."""
    return Bars(console) if console.is_terminal else Lines(console)


def _shown(progress: RunProgress) -> tuple[str, str]:
    loss = "-" if progress.loss is None else f"{progress.loss:.4f}"
    if progress.score is None:
        return loss, "-"
    return loss, f"{progress.metric} {progress.score:.2%}"
