"""Live progress of jobs: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import threading
import time
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from mtlbench.bench.display import Display, ShownJob


class Bars(Display):
    """One bar per running job: epoch, loss, validation score, time left.

    A job that has ended leaves one line above the bars, since a bench has more runs than a terminal has rows.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars: dict[ShownJob, TaskID] = {}
        self.progress = Progress(
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
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def note(self, text: str) -> None:
        """Print a line above the bars."""
        self._console.print(text, highlight=False, markup=False, emoji=False, soft_wrap=True)

    def started(self, job: ShownJob) -> None:
        """Add the job's bar."""
        self._bars[job] = self.progress.add_task(
            job.title, total=job.epochs, epoch=f"0/{job.epochs}", loss=job.loss, score=job.score
        )

    def moved(self, job: ShownJob) -> None:
        """Move the job's bar and show the epoch that is being trained."""
        if job in self._bars:  # a report from a cluster may arrive after the job's end
            done = job.progress.done if job.progress else 0.0
            epoch = f"{min(int(done) + 1, job.epochs)}/{job.epochs}"
            self.progress.update(self._bars[job], completed=done, epoch=epoch, loss=job.loss, score=job.score)

    def ended(self, job: ShownJob) -> None:
        """Remove the job's bar."""
        self.progress.remove_task(self._bars.pop(job))


class Lines(Display):
    """One line per job and epoch, each with the time, for logs."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lock = threading.Lock()

    def note(self, text: str) -> None:
        """Print a line with the time."""
        line = f"{time.strftime('%H:%M:%S')}  {text}"
        with self._lock:
            self._console.print(line, highlight=False, markup=False, emoji=False, soft_wrap=True)

    def started(self, job: ShownJob) -> None:
        """Print that the job has started."""
        self.note(f"{job.title}  started")

    def moved(self, job: ShownJob) -> None:
        """Print a line if an epoch has just been validated."""
        if job.progress is not None and job.progress.validated:
            done = job.progress.done
            left = job.seconds / done * (job.epochs - done)
            self.note(
                f"{job.title}  epoch {round(done)}/{job.epochs}  loss {job.loss}  validation {job.score}  "
                f"left {left:.0f} s"
            )

    def ended(self, job: ShownJob) -> None:
        """Do nothing: the outcome follows as a note."""


def display(console: Console) -> Display:
    """Bars on a terminal, lines elsewhere."""
    return Bars(console) if console.is_terminal else Lines(console)
