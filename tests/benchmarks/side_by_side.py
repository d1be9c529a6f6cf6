"""Stacks in processes of their own that train at the same time, as the runs of a bench do."""

from __future__ import annotations

import multiprocessing as mp
from collections.abc import Generator
from contextlib import contextmanager
from multiprocessing.connection import Connection

from mtlbench.bench import jobs
from mtlbench.plugins.registry import Registry
from tests.benchmarks.loops import Loop, stack


@contextmanager
def side_by_side(processes: int, label: str, replicas: int, batches: int) -> Generator[Loop]:
    """A loop whose call has each process train a stack on that many batches, over its replicas, and waits for all.

    Between calls the processes wait for the next one and take no time.
    """
    context = mp.get_context("spawn")
    pipes = [context.Pipe() for _ in range(processes)]
    workers = [
        context.Process(target=_serve, args=(there, label, replicas, batches), daemon=True) for _, there in pipes
    ]
    for worker, (_, there) in zip(workers, pipes, strict=True):
        worker.start()
        there.close()
    ends = [here for here, _ in pipes]

    def wait() -> None:
        for end in ends:
            end.recv()

    def run() -> None:
        for end in ends:
            end.send(None)
        wait()

    try:
        wait()
        yield Loop(run, processes * batches)
    finally:
        for end in ends:
            end.close()
        for worker in workers:
            worker.join()


def _serve(pipe: Connection, label: str, replicas: int, batches: int) -> None:
    jobs.prepare()
    turn = stack(Registry.load(), label, replicas).turn(batches)
    try:
        while True:
            pipe.send(None)
            pipe.recv()
            turn()
    except EOFError:
        return
