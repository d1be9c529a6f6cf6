"""The files of one bench: read and written here and nowhere else."""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from filelock import FileLock, Timeout
from pydantic import BaseModel, ValidationError

from mtlbench import files
from mtlbench.errors import UserError
from mtlbench.records.records import BenchRecord, RunRecord, SpeedRecord, TuningRecord
from mtlbench.records.roles import REFERENCE, Role, role_of

R = TypeVar("R", bound=BaseModel)
LONGEST_NAME = 235  # with what a scratch file and an `.error.txt` add, a file system's 255
READABLE = 100  # characters of a name that is longer, before its hash
ROLES: list[Role] = ["strategy", "tuned", "front", "single"]


class Store:
    """`results/<bench>/`: `bench.json`, `runs/SETUP/*.json`, `tuning/SETUP/*.json`, `costs.json`, and what is derived.

    Beside a run that failed lies `*.error.txt`, with its traceback and the end of what it printed; `checkpoints/` has
    the state of runs that are under way. Nothing else reads or writes there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def prepare(self) -> None:
        """Make the folders.

        Raises:
            UserError: the folder cannot be written.
        """
        try:
            (self.folder / "runs").mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder / "runs"):
                pass
        except OSError as error:
            raise UserError(
                f"cannot write to {self.folder} ({error.strerror}): choose another folder with --out"
            ) from None

    @contextmanager
    def locked(self) -> Generator[None]:
        """Within this, no other process computes for this bench; a lock ends with its process, whatever ends that.

        Raises:
            UserError: another one does.
        """
        lock = FileLock(self.folder / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise UserError(
                f"another process is working on {self.folder}: wait for it, or take another --name"
            ) from None
        try:
            yield
        finally:
            lock.release()

    def bench(self) -> BenchRecord | None:
        """What was asked under this name, if anything."""
        return _read(self.folder / "bench.json", BenchRecord, "delete the folder to start the bench anew")

    def require_bench(self) -> BenchRecord:
        """What was asked under this name.

        Raises:
            UserError: nothing was, or the record cannot be read.
        """
        if (bench := self.bench()) is None:
            raise UserError(f"there is no bench in {self.folder}: run `mtlbench bench --name {self.folder.name}`")
        return bench

    def run(self, setup: str, label: str) -> RunRecord | None:
        """The stored run of a strategy on a setup, complete or failed."""
        return _read(self._path("runs", setup, label), RunRecord, "delete it to have that run computed again")

    def runs(self, setup: str) -> list[RunRecord]:
        """The runs of a setup in the order of tables: fixed weights, strategies, tuned ones, front, single tasks."""
        bench = self.bench()
        found = [self.run(setup, label) for label in (bench.runs.get(setup, []) if bench else [])]
        there = [run for run in found if run is not None]
        return sorted(there, key=lambda run: (run.spec.label != REFERENCE, ROLES.index(role_of(run.spec.label))))

    def tuning(self, setup: str, label: str) -> TuningRecord | None:
        """The trials of a strategy on a setup."""
        return _read(self._path("tuning", setup, label), TuningRecord, "delete it to have that strategy tuned again")

    def tuned(self, setup: str) -> list[TuningRecord]:
        """All that have been tuned on a setup, by label."""
        files = sorted((self.folder / "tuning" / setup).glob("[!.]*.json"))
        found = [_read(path, TuningRecord, "delete it to have that strategy tuned again") for path in files]
        return sorted((record for record in found if record), key=lambda record: record.spec.label)

    def speeds(self) -> SpeedRecord | None:
        """The stored speeds."""
        return _read(self.folder / "costs.json", SpeedRecord, "delete it to have the speeds measured again")

    def write_bench(self, record: BenchRecord) -> None:
        """Store what was asked."""
        self.write("bench.json", record.model_dump_json(indent=1))

    def write_run(self, record: RunRecord, details: str = "") -> None:
        """Store a run that is complete or has failed, with the details of its failure."""
        path = self._path("runs", record.settings.setup, record.spec.label)
        told = path.with_suffix(".error.txt")
        if details:
            self.write(str(told.relative_to(self.folder)), details)
        else:
            told.unlink(missing_ok=True)
        self._write_at(path, record)

    def checkpoint(self, setup: str, label: str, stack: int) -> Path:
        """Where the state of a stack of a run lies while it is under way."""
        return self._path("checkpoints", setup, label).with_suffix("") / f"{stack}.safetensors"

    def drop_checkpoints(self, setup: str, label: str) -> None:
        """Remove the states of a run that is complete, and the folders that are empty then."""
        folder = self.checkpoint(setup, label, 0).parent
        shutil.rmtree(folder, ignore_errors=True)
        for parent in (folder.parent, folder.parent.parent):
            with contextlib.suppress(OSError):
                parent.rmdir()

    def drop_scratch(self) -> None:
        """Remove what is left of writes that were cut off; only for whom has the lock."""
        for path in [*self.folder.rglob(".*.json"), *self.folder.rglob(".*.safetensors")]:
            path.unlink(missing_ok=True)

    def write_tuning(self, record: TuningRecord) -> None:
        """Store the trials of a strategy."""
        self._write_at(self._path("tuning", record.settings.setup, record.spec.label), record)

    def write_speeds(self, record: SpeedRecord) -> None:
        """Store measured speeds."""
        self.write("costs.json", record.model_dump_json())

    def write(self, name: str, text: str) -> Path:
        """Write a file whole or not at all: to a temporary name, synced, then renamed."""
        path = self.folder / name
        with files.replaced(path) as scratch:
            scratch.write_text(text if text.endswith("\n") else text + "\n", encoding="utf-8")
        return path

    def _write_at(self, path: Path, record: BaseModel) -> None:
        self.write(str(path.relative_to(self.folder)), record.model_dump_json())

    def _path(self, kind: str, setup: str, label: str) -> Path:
        plain = re.sub(r"[^A-Za-z0-9.=-]+", "-", label).strip("-")
        if plain != label:
            plain = f"{plain}-{hashlib.sha256(label.encode()).hexdigest()[:6]}"
        if len(plain) > LONGEST_NAME:
            plain = f"{plain[:READABLE]}-{hashlib.sha256(label.encode()).hexdigest()[:16]}"
        return self.folder / kind / setup / f"{plain}.json"


def _read(path: Path, model: type[R], remedy: str) -> R | None:
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path} ({error}): {remedy}") from None
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        why = f"{where}: {first['msg']}" if where else first["msg"]
        raise UserError(f"{path} is not a record that this version can read ({why}): {remedy}") from None
