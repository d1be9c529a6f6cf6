"""A bench on a real Dask cluster on this machine, against the same bench in local processes."""

from __future__ import annotations

import contextlib
import queue
import socket
import subprocess
import sys
import threading
from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from dask.distributed import Client, LocalCluster

from mtlbench.bench import execution, jobs, processes
from mtlbench.bench.dask_cluster import Cluster
from mtlbench.bench.jobs import PRELOAD, StackJob
from mtlbench.bench.planning import plan
from mtlbench.bench.processes import Limits, ProcessError
from mtlbench.engine.fitting import Progress
from mtlbench.errors import UserError
from mtlbench.plugins.registry import Registry
from mtlbench.records.records import Settings, Spec
from tests.bench.test_bench import few_rounds, write
from tests.helpers.kills import SETUP, Quiet, results, small_plan
from tests.helpers.own_setup import write_setup

__all__ = ["few_rounds"]  # a fixture that is used as it is there


WORKER = ["--nworkers", "1", "--nthreads", "1", "--no-dashboard", "--preload", "tests.helpers.preloaded"]
UNDER_A_NANNY, ALONE = ["--nanny"], ["--no-nanny"]
Processes = list[subprocess.Popen[bytes]]


def execute(out: Path, address: str | None, display: Quiet | None = None, plugins: Sequence[Path] = ()) -> bool:
    """The bench of `tests.helpers.kills` on a cluster, or here."""
    request = small_plan(out).request
    names = [*request.strategies, *(path.stem for path in plugins)]
    asked = replace(request, cluster=address, plugins=tuple(plugins), strategies=names)
    return execution.execute(plan(asked), display or Quiet())


def own_job(*plugins: Path, strategy: str = "fixed", setup: str = "own", epochs: int = 1) -> StackJob:
    """A job on the setup of `tests.helpers.own_setup`, which is one of the plugins."""
    settings = Settings(seeds=(0,), epochs=epochs, batch_size=20, lr=1e-3, device="cpu", setup=setup)
    return StackJob(Spec(label=strategy, name=strategy, hyper={}), settings, (0,), plugins)


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, object]]:
    """What the bench leaves here."""
    out = tmp_path_factory.mktemp("local")
    asked = small_plan(out)
    before, execution.ROUNDS = execution.ROUNDS, 2
    try:
        assert execution.execute(asked, Quiet())
    finally:
        execution.ROUNDS = before
    return results(out)


@contextlib.contextmanager
def local_cluster(workers: int, *, threads: int = 1, processes: bool = False) -> Generator[str]:
    """The address of a cluster made by Dask, its workers within this process or each in one of its own."""
    made: Any = LocalCluster
    with made(
        n_workers=workers,
        threads_per_worker=threads,
        processes=processes,
        dashboard_address=":0",
        preload="tests.helpers.preloaded" if processes else (),
    ) as cluster:
        yield cluster.scheduler_address


@pytest.fixture
def cluster() -> Generator[tuple[str, Processes]]:
    """A scheduler and two workers, each by its own command; the address and their processes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    with contextlib.ExitStack() as stack:

        def start(module: str, *arguments: str) -> subprocess.Popen[bytes]:
            process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            return process

        scheduler = start(
            "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"
        )
        made = [start("distributed.cli.dask_worker", address, *WORKER, *kind) for kind in (UNDER_A_NANNY, ALONE)]
        with Client(address, timeout=60) as client:
            client.wait_for_workers(len(made), timeout=60)
        yield address, [scheduler, *made]


def test_a_local_cluster_gives_the_same_results_bit_for_bit_and_a_bad_plugin_fails_alone(
    tmp_path: Path, local: dict[str, dict[str, object]]
) -> None:
    plugin = write(tmp_path, "raises", "raise RuntimeError('not today')")
    with local_cluster(2, threads=4, processes=True) as address:
        assert not execute(tmp_path, address, plugins=[plugin])
    failed = [run for run in small_plan(tmp_path).store.runs(SETUP) if run.problem]
    assert [(run.spec.label, run.error) for run in failed] == [("raises", "RuntimeError: not today")]
    assert results(tmp_path) == local


def test_a_setup_from_a_plugin_is_sent_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no data to fetch; a worker that knows another setup of that name takes no part."""
    file = write_setup(tmp_path / "own.py")
    job = own_job(file)
    with local_cluster(1) as address:
        cluster = Cluster(address, "cpu", Limits())
        result = cluster.submit(jobs.train, job, lambda _: None).result()
        assert len(result.test.scores[0]) == 3
        digests = iter(("of this machine", "of the worker"))

        def digest(_: Registry, name: str) -> str:
            return f"{name} {next(digests)}"

        monkeypatch.setattr(Registry, "setup_digest", digest)
        with pytest.raises(ProcessError, match="another version of the setup own, or none"):
            cluster.submit(jobs.train, job, lambda _: None).result()
        cluster.stop()


SLOW = """
import threading, time
if threading.current_thread() is not threading.main_thread():
    time.sleep(0.3)
"""


def test_threads_of_a_worker_load_plugins_one_after_the_other(tmp_path: Path) -> None:
    file = write_setup(tmp_path / "own.py", extra=SLOW)
    with local_cluster(1, threads=4) as address:
        cluster = Cluster(address, "cpu", Limits())
        futures = [
            cluster.submit(jobs.train, own_job(file, strategy=name), lambda _: None) for name in ("fixed", "dwa", "rlw")
        ]
        for future in futures:
            assert len(future.result().test.scores[0]) == 3
        cluster.stop()


def test_plugins_of_one_file_name_are_sent_as_they_are(tmp_path: Path) -> None:
    setup, strategy = tmp_path / "a" / "mine.py", tmp_path / "b" / "mine.py"
    for path in (setup, strategy):
        path.parent.mkdir()
    write_setup(setup)
    written = write(tmp_path, "mine").read_text()
    strategy.write_bytes(f"# coding: latin-1\r\n# caf\xe9\r\n{written}".encode("latin-1"))
    job = own_job(setup, strategy, strategy="mine")
    alone = processes.Processes(PRELOAD)
    local = alone.call(jobs.train, job, lambda _: None)
    alone.stop()
    with local_cluster(1) as address:
        cluster = Cluster(address, "cpu", Limits())
        sent = cluster.submit(jobs.train, job, lambda _: None).result()
        cluster.stop()
    assert replace(sent, training_seconds=0) == replace(local, training_seconds=0)


def test_whatever_a_worker_raises_is_the_fault_of_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def raises(*_: object) -> None:
        raise OSError("no room\nleft")

    file = write_setup(tmp_path / "own.py")
    with local_cluster(1) as address:
        cluster = Cluster(address, "cpu", Limits())
        monkeypatch.setattr("mtlbench.bench.dask_cluster._have_data", raises)
        with pytest.raises(ProcessError, match=r"^on the Dask worker: OSError: no room$") as raised:
            cluster.submit(jobs.train, own_job(file), lambda _: None).result()
        assert "in raises" in raised.value.traceback
        cluster.stop()


def test_a_bench_that_stops_ends_its_own_runs_alone_and_those_that_have_yet_to_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_setup(tmp_path / "own.py")
    begun, loading, go_on = threading.Event(), threading.Event(), threading.Event()
    late: queue.Queue[bool] = queue.Queue()

    def wait_for_the_end(_: object) -> None:
        loading.set()
        assert go_on.wait(20)

    def begin_late(workers: processes.Processes, *_: object) -> None:
        late.put(workers.stopped)

    with local_cluster(1, threads=3) as address:
        stopped, other = (Cluster(address, "cpu", Limits()) for _ in range(2))
        result = other.submit(jobs.train, own_job(file, epochs=300), lambda _: begun.set())
        assert begun.wait(20)
        monkeypatch.setattr("mtlbench.bench.dask_cluster._have_data", wait_for_the_end)
        monkeypatch.setattr("mtlbench.bench.dask_cluster.carry_out", begin_late)
        stopped.submit(jobs.train, own_job(file), lambda _: None)
        assert loading.wait(20)
        stopped.stop()
        go_on.set()
        assert not result.done()
        assert late.get(timeout=20)
        assert len(result.result().validation) == 300
        other.stop()


class Striking(Quiet):
    """Kills a worker of the cluster once a run is under way."""

    def __init__(self, victim: subprocess.Popen[bytes]) -> None:
        self._victim = victim
        self.struck = threading.Event()

    def run_moved(self, label: str, progress: Progress) -> None:
        if progress.done > 0.5 and not self.struck.is_set():
            self.struck.set()
            for child in psutil.Process(self._victim.pid).children(recursive=True):
                child.kill()
            self._victim.kill()


def test_runs_of_a_worker_that_is_killed_are_started_elsewhere(
    tmp_path: Path, local: dict[str, dict[str, object]], cluster: tuple[str, Processes]
) -> None:
    address, (*_, victim) = cluster
    display = Striking(victim)
    assert execute(tmp_path, address, display)
    assert display.struck.is_set()
    assert victim.poll() is not None
    assert results(tmp_path) == local


def test_that_no_worker_is_left_is_said(monkeypatch: pytest.MonkeyPatch, cluster: tuple[str, Processes]) -> None:
    monkeypatch.setattr("mtlbench.bench.dask_cluster.LOOK_EVERY", 0.2)
    address, (_, *victims) = cluster
    said: queue.Queue[Progress | str] = queue.Queue()
    place = Cluster(address, "cpu", Limits())
    place.submit(jobs.train, own_job(setup=SETUP, epochs=10_000), said.put)
    assert isinstance(said.get(timeout=30), Progress)
    for victim in victims:
        for child in psutil.Process(victim.pid).children(recursive=True):
            child.kill()
        victim.kill()
    while isinstance(message := said.get(timeout=30), Progress):
        pass
    assert message == "no Dask worker is left; what is missing waits until one is started"
    place.stop()


def test_a_scheduler_that_is_lost_is_named_and_what_dask_itself_raises_is_the_fault_of_one_run(
    monkeypatch: pytest.MonkeyPatch, cluster: tuple[str, Processes]
) -> None:
    address, (scheduler, *_) = cluster
    monkeypatch.setattr("mtlbench.bench.dask_cluster.CONNECT_WITHIN", 2)
    begun = threading.Event()
    place = Cluster(address, "cpu", Limits())
    job = own_job(setup=SETUP, epochs=10_000)
    with monkeypatch.context() as patch, pytest.raises(ProcessError, match="TypeError: len"):
        patch.setattr("mtlbench.bench.dask_cluster._carry_out_there", len)
        place.submit(jobs.train, job, lambda _: None).result(30)
    future = place.submit(jobs.train, job, lambda _: begun.set())
    assert begun.wait(30)
    scheduler.kill()
    with pytest.raises(UserError, match=f"the Dask scheduler at {address} was lost"):
        future.result(30)
    place.stop()


def test_what_is_no_address_is_named(tmp_path: Path) -> None:
    """Dask fails on it by an assertion."""
    file = tmp_path / "no-scheduler.json"
    file.write_text("one word")
    with pytest.raises(UserError, match=f"no Dask scheduler can be reached at {file}"):
        Cluster(str(file), "cpu", Limits())


def test_an_address_without_a_scheduler_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mtlbench.bench.dask_cluster.CONNECT_WITHIN", 1)
    with pytest.raises(UserError, match=r"no Dask scheduler can be reached at tcp://127\.0\.0\.1:9"):
        Cluster("tcp://127.0.0.1:9", "cpu", Limits())


def test_a_cluster_that_cannot_take_a_job_is_named() -> None:
    with local_cluster(0) as address, pytest.raises(UserError, match="no workers"):
        Cluster(address, "cpu", Limits())
    with local_cluster(1) as address, pytest.raises(UserError, match="GPU"):
        Cluster(address, "cuda", Limits())
