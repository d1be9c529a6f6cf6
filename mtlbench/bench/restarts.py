"""A job in a process of its own, started again where the process dies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TypeVar

from mtlbench.bench.jobs import Notify, StackJob
from mtlbench.bench.processes import ProcessDiedError, Processes
from mtlbench.records import checkpoint

Value = TypeVar("Value")


MOST_RESTARTS = 2


Function = Callable[[StackJob, Notify], Value]


def carry_out(workers: Processes, function: Function[Value], job: StackJob, report: Notify) -> Value:
    """A job in a process of its own, which is started again where it dies, `MOST_RESTARTS` times from each epoch.

    Raises:
        ProcessError: it raised, broke a limit, or died once too often after the same epoch.
    """
    died: Counter[int] = Counter()
    while True:
        try:
            return workers.call(function, job, report)
        except ProcessDiedError as error:
            epoch = _epochs_kept(job)
            if died[epoch] == MOST_RESTARTS or workers.stopped:
                raise
            died[epoch] += 1
            report(f"{error}; it is started again from {f'the end of epoch {epoch}' if epoch else 'its beginning'}")


def _epochs_kept(job: StackJob) -> int:
    """The epochs that a job need not train again: what it will find, whichever process left it."""
    found = checkpoint.read(job.checkpoint, job.key) if job.checkpoint else None
    return len(found.history.validation) if found else 0
