"""Jobs on a Dask cluster: the same processes as on this machine, started by the cluster's workers."""

from __future__ import annotations

import logging
import multiprocessing as mp
import tempfile
import threading
import traceback
import uuid
from collections import defaultdict
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from mtlbench import files
from mtlbench.bench.jobs import PRELOAD, Notify, StackJob
from mtlbench.bench.processes import Limits, ProcessError, Processes
from mtlbench.bench.restarts import Function, carry_out
from mtlbench.contracts.setup import Setup
from mtlbench.data import datasets
from mtlbench.engine.fitting import Progress
from mtlbench.errors import UserError, first_line, in_one_line
from mtlbench.plugins.registry import Registry
from mtlbench.records import environment

try:
    from dask.distributed import Client, get_worker
except ImportError:
    raise UserError("--cluster needs Dask: pip install 'mtlbench[cluster]'") from None

Value = TypeVar("Value")

CONNECT_WITHIN = 10  # seconds
LOOK_EVERY = 10.0  # seconds between two looks at whether there are workers

_loading = threading.Lock()  # plugins make themselves known in their process, and a Dask worker has many threads
_fetching = threading.Lock()


class AtWork:
    """On a cluster's worker: the processes that are under way there, by the bench that sent them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_bench: defaultdict[str, set[Processes]] = defaultdict(set)
        self._ended: set[str] = set()

    @contextmanager
    def on(self, bench: str, workers: Processes) -> Generator[None]:
        """Within this, `workers` are ended with their bench; at once if that has ended before."""
        with self._lock:
            self._by_bench[bench].add(workers)
            if bench in self._ended:
                workers.stop()
        try:
            yield
        finally:
            workers.stop()
            with self._lock:
                self._by_bench[bench].discard(workers)

    def end(self, bench: str) -> None:
        """End what is under way for a bench, and whatever of it has yet to begin."""
        with self._lock:
            self._ended.add(bench)
            for workers in self._by_bench.pop(bench, ()):
                workers.stop()


_at_work = AtWork()


@dataclass(frozen=True)
class Parcel:
    """A job as it is sent: what it needs of this machine, and what the other one must agree in.

    `plugins` are names and contents of files, of which some may have one name.
    """

    job: StackJob
    plugins: tuple[tuple[str, bytes], ...]
    source: str
    setup_source: str | None
    versions: dict[str, str]
    limits: Limits
    topic: str
    bench: str


class Cluster:
    """A Dask cluster, each of whose worker threads takes one job at a time; on cuda one that declares `GPU` takes one.

    Args:
        address: of the scheduler, as Dask writes it (`tcp://host:8786`), or the path of its scheduler file.
        device: what is trained on.
        limits: what each process may take.

    Raises:
        UserError: there is no scheduler, it has no worker, or none that can take a job.
    """

    def __init__(self, address: str, device: str, limits: Limits) -> None:
        for name in ("distributed", "distributed.client"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # tracebacks, for what is said here in a line
        self._lost = f"the Dask scheduler at {address} was lost; finished runs are kept, and the same command goes on"
        try:
            if files.is_there(Path(address)):
                self._client = Client(scheduler_file=address, timeout=CONNECT_WITHIN)
            else:
                self._client = Client(address, timeout=CONNECT_WITHIN)
        except Exception as error:  # Dask has many for an address that it cannot take
            raise UserError(f"no Dask scheduler can be reached at {address}: {first_line(error)}") from None
        found = self._client.scheduler_info(n_workers=-1)["workers"].values()
        if not found:
            self._client.close()
            raise UserError(f"the Dask scheduler at {address} has no workers: start some with `dask worker {address}`")
        slots = [worker["resources"].get("GPU", 0) if device == "cuda" else worker["nthreads"] for worker in found]
        if not sum(slots):
            self._client.close()
            raise UserError("no Dask worker declares a GPU: start them with `dask worker ... --resources GPU=1`")
        self.size = f"{sum(slots):g} at a time on {len(slots)} Dask workers"
        self._limits = limits
        self._waiting: dict[Future[Any], Notify] = {}
        self._stopped = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()
        self._bench = f"mtlbench-{uuid.uuid4()}"  # others may be on this cluster
        self._executor = self._client.get_executor(
            pure=False, **({"resources": {"GPU": 1}} if device == "cuda" else {})
        )

    def submit(self, function: Function[Value], job: StackJob, report: Notify) -> Future[Value]:
        """Send a job to the cluster; it is sent again if the worker that has it is lost.

        The future raises `ProcessError` if that failed, `UserError` once the scheduler is lost.
        """
        topic = f"mtlbench-{uuid.uuid4()}"
        with _loading:
            registry = Registry.load(job.plugins)
        parcel = Parcel(
            replace(job, plugins=()),
            tuple((path.name, path.read_bytes()) for path in job.plugins),
            registry.digest(job.spec.name),
            registry.setup_digest(job.settings.setup),
            environment.versions(),
            self._limits,
            topic,
            self._bench,
        )

        def listen(event: tuple[float, dict[str, Any]]) -> None:
            said = event[1]["said"]
            report(said if isinstance(said, str) else Progress(**said))

        self._client.subscribe_topic(topic, listen)
        ended: Future[Value] = Future()

        def end(there: Future[Value]) -> None:
            del self._waiting[there]
            if there.cancelled():
                ended.set_exception(UserError(self._lost))
            elif (error := there.exception()) is None:
                ended.set_result(there.result())
            elif isinstance(error, ProcessError):
                ended.set_exception(error)
            else:  # Dask's own, such as that too many workers were lost
                ended.set_exception(ProcessError(in_one_line(error), "".join(traceback.format_exception(error))))

        there = self._executor.submit(_carry_out_there, function, parcel)
        self._waiting[there] = report  # which also holds it: Dask drops a job that nobody holds
        there.add_done_callback(end)
        return ended

    def stop(self) -> None:
        """End this bench's processes on all workers and leave the cluster as it was."""
        self._stopped.set()
        with suppress(Exception):  # Dask has many for a scheduler that is lost, and its workers end by themselves
            self._executor.shutdown(wait=False)
            self._client.run(_end_all, self._bench)
        self._client.close()

    def _watch(self) -> None:
        """Say so, once each time, if no worker is left: jobs then wait until there is one."""
        before = True
        while not self._stopped.wait(LOOK_EVERY):
            with suppress(Exception):  # a scheduler that is lost ends all jobs
                there = bool(self._client.scheduler_info(n_workers=-1)["workers"])
                if before and not there:
                    for report in list(self._waiting.values())[:1]:
                        report("no Dask worker is left; what is missing waits until one is started")
                before = there


def _carry_out_there(function: Callable[[StackJob, Notify], Any], parcel: Parcel) -> Any:  # noqa: ANN401
    """On a worker of the cluster: have the data, make sure that the code is the same, and start the process.

    Raises:
        ProcessError: whatever went wrong, which is that run's alone.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="mtlbench-") as scratch:
            return _carry_out_within(Path(scratch), function, parcel)
    except ProcessError:
        raise
    except Exception as error:
        raise ProcessError(f"on the Dask worker: {in_one_line(error)}", traceback.format_exc()) from None


def _carry_out_within(scratch: Path, function: Callable[[StackJob, Notify], Any], parcel: Parcel) -> Any:  # noqa: ANN401
    here = environment.versions()
    if other := {name: version for name, version in here.items() if parcel.versions.get(name) != version}:
        found = ", ".join(f"{name} {version}, not {parcel.versions.get(name)}" for name, version in other.items())
        raise ProcessError(f"the Dask worker has {found}: install the same versions everywhere")
    worker = get_worker()
    _may_have_children()
    plugins = [scratch / f"plugin-{number}" / name for number, (name, _) in enumerate(parcel.plugins)]
    for path, (_, content) in zip(plugins, parcel.plugins, strict=True):
        path.parent.mkdir()
        path.write_bytes(content)
    _have_data(_setup_of(parcel, plugins))
    checkpoint = None if parcel.job.checkpoint is None else scratch / "state.safetensors"
    job = replace(parcel.job, plugins=tuple(plugins), checkpoint=checkpoint)

    def tell(message: Progress | str) -> None:
        worker.log_event(parcel.topic, {"said": message if isinstance(message, str) else asdict(message)})

    workers = Processes(PRELOAD, parcel.limits)
    with _at_work.on(parcel.bench, workers):
        return carry_out(workers, function, job, tell)


def _setup_of(parcel: Parcel, plugins: Sequence[Path]) -> Setup:
    """What a parcel's job trains on, the strategy and the setup being the same here as where it was sent from."""
    spec, setup = parcel.job.spec, parcel.job.settings.setup
    with _loading:
        registry = Registry.load(tuple(plugins))
        if registry.digest(spec.name) != parcel.source:
            raise ProcessError(f"the Dask worker has another version of {spec.name}: install the same")
        if setup not in registry.setups or registry.setup_digest(setup) != parcel.setup_source:
            raise ProcessError(f"the Dask worker has another version of the setup {setup}, or none: install the same")
        return registry.setup(setup)


def _may_have_children() -> None:
    # Under a nanny, Dask's worker is a daemon, which Python refuses children lest they outlive it; ours do not.
    vars(mp.current_process())["_config"]["daemon"] = False


def _have_data(setup: Setup) -> None:
    """Fetch the setup's data into this machine's cache, if it has any and another job has not done so before."""
    if setup.dataset is not None:
        with _fetching:
            datasets.fetch(setup.dataset, lambda _: None)


def _end_all(bench: str) -> None:
    _at_work.end(bench)
