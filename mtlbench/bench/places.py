"""Where jobs are carried out: side by side on this machine, or on a cluster (`mtlbench.bench.dask_cluster`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from typing import Protocol, TypeVar

from mtlbench.bench.jobs import PRELOAD, Notify, StackJob
from mtlbench.bench.planning import Request
from mtlbench.bench.processes import Limits, Processes
from mtlbench.bench.restarts import Function, carry_out
from mtlbench.records import environment

Job = TypeVar("Job")
Value = TypeVar("Value")


class Place(Protocol):
    """Carries out jobs, some at once, the first ones first."""

    def submit(self, function: Function[Value], job: StackJob, report: Notify) -> Future[Value]:
        """Carry out `function(job, report)`; the future raises `ProcessError` if that failed."""
        ...

    def stop(self) -> None:
        """End what is under way and start nothing more."""
        ...


class Here:
    """This machine: as many processes at once as are asked for."""

    def __init__(self, workers: Processes, at_once: int) -> None:
        self._workers = workers
        self._pool = ThreadPoolExecutor(at_once)

    def submit(self, function: Function[Value], job: StackJob, report: Notify) -> Future[Value]:
        """Carry out a job in a process of its own, as soon as one of them is free."""
        return self._pool.submit(carry_out, self._workers, function, job, report)

    def stop(self) -> None:
        """Kill the processes."""
        self._workers.stop()
        self._pool.shutdown(cancel_futures=True)


def side_by_side(
    place: Place, futures: Mapping[Future[Value], Job], done: Callable[[Job, Future[Value]], None]
) -> None:
    """Wait for all futures of a place; `done` is called here as each ends.

    If anything is raised here, Ctrl-C included, all of them are ended.
    """
    try:
        for future in as_completed(futures):
            done(futures[future], future)
    finally:
        place.stop()


def workers_of(request: Request) -> Processes:
    """Processes of this machine within the limits that were asked for."""
    return Processes(PRELOAD, limits_of(request))


def limits_of(request: Request) -> Limits:
    """What each process may take."""
    memory = None if request.run_memory is None else round(request.run_memory * 2**30)
    return Limits(request.run_timeout, memory)


def place_of(request: Request, device: str) -> tuple[Place, str]:
    """Where the jobs of a request are carried out, and how many at a time, in words.

    On this machine it is as many as were asked for, else one per core on cpu and one on any other device.

    Raises:
        UserError: the cluster cannot be reached or cannot do it.
    """
    if request.cluster is not None:
        from mtlbench.bench.dask_cluster import Cluster  # an optional extra

        cluster = Cluster(request.cluster, device, limits_of(request))
        return cluster, cluster.size
    at_once = request.jobs or (environment.cores() if device == "cpu" else 1)
    return Here(workers_of(request), at_once), f"{at_once} at a time"
