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
from mtlbench.bench.display import ShownJob
from mtlbench.bench.jobs import PRELOAD, StackJob
from mtlbench.bench.planning import plan
from mtlbench.bench.processes import Limits, ProcessError
from mtlbench.engine.fitting import Progress
from mtlbench.errors import UserError
from mtlbench.plugins.registry import Registry
from mtlbench.records.records import Settings, Spec
from tests.helpers.kills import SETUP, Quiet, results, small_plan
from tests.helpers.own_setup import write_setup
from tests.helpers.tiny_bench import write

WORKER = ["--nworkers", "1", "--nthreads", "1", "--no-dashboard", "--preload", "tests.helpers.preloaded"]
PATIENCE = 120  # seconds; only a failure takes that long, or a busy machine
UNDER_A_NANNY, ALONE = ["--nanny"], ["--no-nanny"]
Processes = list[subprocess.Popen[bytes]]


def execute(out: Path, address: str | None, display: Quiet | None = None, plugins: Sequence[Path] = ()) -> bool:
    """Run the bench of `tests.helpers.kills` on a cluster, or on this machine without an address."""
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
    """Results of the bench in local processes."""
    out = tmp_path_factory.mktemp("local")
    asked = small_plan(out)
    before, execution.ROUNDS = execution.ROUNDS, 2
    try:
        assert execution.execute(asked, Quiet())
    finally:
        execution.ROUNDS = before
    return results(out)


@contextlib.contextmanager
def local_cluster(workers: int, *, threads: int = 1) -> Generator[str]:
    """Context manager that gives the address of a cluster whose workers are in this process."""
    made: Any = LocalCluster
    with made(
        n_workers=workers,
        threads_per_worker=threads,
        processes=False,
        protocol="tcp://",  # within one process Dask would connect through memory, which now and then fails
        dashboard_address=":0",
    ) as cluster:
        yield cluster.scheduler_address


@pytest.fixture
def cluster() -> Generator[tuple[str, Processes]]:
    """The address and the processes of a scheduler and two workers, each started by its own command."""
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


def test_a_setup_from_a_plugin_is_sent_to_the_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The setup has no data to fetch. A worker with another setup of that name refuses the job."""
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
        with pytest.raises(ProcessError, match="setup own"):
            cluster.submit(jobs.train, job, lambda _: None).result()
        cluster.stop()


SLOW = """
import threading, time
if threading.current_thread() is not threading.main_thread():
    time.sleep(0.3)
"""


def test_threads_of_a_worker_load_plugins_without_interference(tmp_path: Path) -> None:
    file = write_setup(tmp_path / "own.py", extra=SLOW)
    with local_cluster(1, threads=4) as address:
        cluster = Cluster(address, "cpu", Limits())
        futures = [
            cluster.submit(jobs.train, own_job(file, strategy=name), lambda _: None) for name in ("fixed", "dwa", "rlw")
        ]
        for future in futures:
            assert len(future.result().test.scores[0]) == 3
        cluster.stop()


def test_plugins_with_the_same_file_name_are_sent_unchanged(tmp_path: Path) -> None:
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


def test_an_error_on_a_worker_or_of_dask_fails_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def raises(*_: object) -> None:
        raise OSError("no room\nleft")

    file = write_setup(tmp_path / "own.py")
    with local_cluster(1) as address:
        cluster = Cluster(address, "cpu", Limits())
        monkeypatch.setattr("mtlbench.bench.dask_cluster._fetch_data", raises)
        with pytest.raises(ProcessError, match=r"^on the Dask worker: OSError: no room$") as raised:
            cluster.submit(jobs.train, own_job(file), lambda _: None).result()
        assert "in raises" in raised.value.traceback
        monkeypatch.setattr("mtlbench.bench.dask_cluster._carry_out_there", len)
        with pytest.raises(ProcessError, match="TypeError: len"):
            cluster.submit(jobs.train, own_job(file), lambda _: None).result(PATIENCE)
        cluster.stop()


def test_a_stopped_bench_ends_only_its_own_runs_including_later_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_setup(tmp_path / "own.py")
    begun, loading, go_on = threading.Event(), threading.Event(), threading.Event()
    late: queue.Queue[bool] = queue.Queue()

    def wait_for_the_end(_: object) -> None:
        loading.set()
        assert go_on.wait(PATIENCE)

    def begin_late(workers: processes.Processes, *_: object) -> None:
        late.put(workers.stopped)

    with local_cluster(1, threads=3) as address:
        stopped, other = (Cluster(address, "cpu", Limits()) for _ in range(2))
        result = other.submit(jobs.train, own_job(file, epochs=200), lambda _: begun.set())
        assert begun.wait(PATIENCE)
        monkeypatch.setattr("mtlbench.bench.dask_cluster._fetch_data", wait_for_the_end)
        monkeypatch.setattr("mtlbench.bench.dask_cluster.carry_out", begin_late)
        stopped.submit(jobs.train, own_job(file), lambda _: None)
        assert loading.wait(PATIENCE)
        stopped.stop()
        go_on.set()
        assert not result.done()
        assert late.get(timeout=PATIENCE)
        assert len(result.result().validation) == 200
        other.stop()


def kill_all(process: subprocess.Popen[bytes]) -> None:
    """Kill a worker of the cluster with all its processes."""
    for child in psutil.Process(process.pid).children(recursive=True):
        child.kill()
    process.kill()


class Striking(Quiet):
    """Kills a worker of the cluster once a run is under way."""

    def __init__(self, victim: subprocess.Popen[bytes]) -> None:
        self._victim = victim
        self.struck = threading.Event()

    def moved(self, job: ShownJob) -> None:
        if job.progress and job.progress.done > 0.5 and not self.struck.is_set():
            self.struck.set()
            kill_all(self._victim)


def test_a_bench_survives_a_killed_worker_and_the_loss_of_the_others_and_of_the_scheduler_is_reported(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    local: dict[str, dict[str, object]],
    cluster: tuple[str, Processes],
) -> None:
    """One test, since starting the cluster takes most of the time."""
    address, (scheduler, under_a_nanny, victim) = cluster
    plugin = write(tmp_path, "raises", "raise RuntimeError('not today')")
    display = Striking(victim)
    assert not execute(tmp_path, address, display, plugins=[plugin])
    assert display.struck.is_set()
    assert victim.poll() is not None
    failed = [run for run in small_plan(tmp_path).store.runs(SETUP) if run.problem]
    assert [(run.spec.label, run.error) for run in failed] == [("raises", "RuntimeError: not today")]
    assert results(tmp_path) == local

    monkeypatch.setattr("mtlbench.bench.dask_cluster.LOOK_EVERY", 0.2)
    monkeypatch.setattr("mtlbench.bench.dask_cluster.CONNECT_WITHIN", 4)
    said: queue.Queue[Progress | str] = queue.Queue()
    place = Cluster(address, "cpu", Limits())
    result = place.submit(jobs.train, own_job(setup=SETUP, epochs=10_000), said.put)
    assert isinstance(said.get(timeout=PATIENCE), Progress)
    kill_all(under_a_nanny)
    while isinstance(message := said.get(timeout=PATIENCE), Progress):
        pass
    assert "no Dask worker" in message
    scheduler.kill()
    with pytest.raises(UserError, match=f"the Dask scheduler at {address} was lost"):
        result.result(PATIENCE)
    place.stop()


def test_an_invalid_address_is_named(tmp_path: Path) -> None:
    """Dask itself would fail with an assertion."""
    file = tmp_path / "no-scheduler.json"
    file.write_text("one word")
    with pytest.raises(UserError, match=f"no Dask scheduler can be reached at {file}"):
        Cluster(str(file), "cpu", Limits())


def test_an_address_without_a_scheduler_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mtlbench.bench.dask_cluster.CONNECT_WITHIN", 1)
    with pytest.raises(UserError, match=r"no Dask scheduler can be reached at tcp://127\.0\.0\.1:9"):
        Cluster("tcp://127.0.0.1:9", "cpu", Limits())


def test_a_cluster_that_cannot_take_a_job_is_refused() -> None:
    with local_cluster(0) as address, pytest.raises(UserError, match="no workers"):
        Cluster(address, "cpu", Limits())
    with local_cluster(1) as address, pytest.raises(UserError, match="GPU"):
        Cluster(address, "cuda", Limits())
