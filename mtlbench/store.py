"""The files of one bench: read and written here and nowhere else."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from mtlbench.errors import UserError
from mtlbench.records import REFERENCE, BenchRecord, CostRecord, RunRecord

R = TypeVar("R", bound=BaseModel)


class Store:
    """`results/<bench>/`: `bench.json`, `runs/*.json`, `costs.json`, and what is derived from them."""

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

    def bench(self) -> BenchRecord | None:
        """What was asked under this name, if anything."""
        return _read(self.folder / "bench.json", BenchRecord, "delete the folder to start the bench anew")

    def run(self, label: str) -> RunRecord | None:
        """The stored run of a strategy, complete or failed."""
        return _read(self._run_path(label), RunRecord, "delete it to have that run computed again")

    def runs(self) -> list[RunRecord]:
        """The runs in the order of the table: fixed weights, the strategies as asked, each task alone."""
        bench = self.bench()
        found = [self.run(label) for label in (bench.strategies if bench else [])]
        there = [run for run in found if run is not None]
        return sorted(there, key=lambda run: (run.spec.label != REFERENCE, run.spec.only is not None))

    def costs(self) -> CostRecord | None:
        """The stored speeds."""
        return _read(self.folder / "costs.json", CostRecord, "delete it to have the speeds measured again")

    def write_bench(self, record: BenchRecord) -> None:
        """Store what was asked."""
        self.write("bench.json", record.model_dump_json(indent=1))

    def write_run(self, record: RunRecord) -> None:
        """Store a run that is complete or has failed."""
        path = self._run_path(record.spec.label)
        self.write(str(path.relative_to(self.folder)), record.model_dump_json())

    def write_costs(self, record: CostRecord) -> None:
        """Store measured speeds."""
        self.write("costs.json", record.model_dump_json())

    def write(self, name: str, text: str) -> Path:
        """Write a file whole or not at all: to a temporary name, synced, then renamed."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, scratch = tempfile.mkstemp(prefix=".", suffix=f"-{path.name}", dir=path.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text if text.endswith("\n") else text + "\n")
                file.flush()
                os.fchmod(file.fileno(), 0o644)
                os.fsync(file.fileno())
            os.replace(scratch, path)
        except BaseException:
            Path(scratch).unlink(missing_ok=True)
            raise
        return path

    def _run_path(self, label: str) -> Path:
        plain = re.sub(r"[^A-Za-z0-9.=-]+", "-", label).strip("-")
        if plain != label:
            plain = f"{plain}-{hashlib.sha256(label.encode()).hexdigest()[:6]}"
        return self.folder / "runs" / f"{plain}.json"


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
