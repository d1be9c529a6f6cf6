"""What training and tuning share: how many processes at once, what each may take, and where progress is shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from mtlbench import environment
from mtlbench.harness import Progress
from mtlbench.planning import Request
from mtlbench.workers import Limits, Workers

# torch.optim imports torch._dynamo when it is first used: done once here, not for seconds in each worker.
PRELOAD = ["mtlbench.jobs", "torch._dynamo"]


class Display(Protocol):
    """Where the progress of a bench is shown."""

    def note(self, text: str) -> None:
        """Say one thing."""

    def run_started(self, label: str, epochs: int) -> None:
        """A run has begun."""

    def run_moved(self, label: str, progress: Progress) -> None:
        """A run has come further."""

    def run_ended(self, label: str, outcome: str) -> None:
        """A run goes on no more; `outcome` is its scores or its error."""


def workers_of(request: Request) -> Workers:
    """Processes within the limits that were asked for."""
    memory = None if request.run_memory is None else round(request.run_memory * 2**30)
    return Workers(PRELOAD, Limits(request.run_timeout, memory))


def at_once(request: Request, device: str, jobs: int) -> int:
    """How many jobs go side by side: as asked, else one per core on cpu, one on any other device."""
    return min(request.jobs or (environment.cores() if device == "cpu" else 1), jobs)


def shown(display: Display, title: str) -> Callable[[Progress | str], None]:
    """Shows what a job reports under its title."""

    def report(message: Progress | str) -> None:
        if isinstance(message, str):
            display.note(f"{title}: {message}")
        else:
            display.run_moved(title, message)

    return report
