"""Collections of strategies and setups, to which `register` and `register_setup` add."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, Literal, TypeVar

Kind = Literal["strategy", "setup"]
T = TypeVar("T")


@dataclass(frozen=True)
class Declared(Generic[T]):
    """A strategy or a setup with its name, and the file and module that registered it.

    `origin` is the plug-in that it was loaded with: the path of a file or the value of an entry point.
    """

    kind: Kind
    name: str
    value: T
    file: Path
    module: str
    origin: str = ""


class Collection(dict[tuple[Kind, str], Declared[Any]]):
    """Strategies and setups by kind and name, in the order in which they were added."""

    def of(self, kind: Kind) -> dict[str, Declared[Any]]:
        """The strategies, or the setups, by name."""
        return {name: entry for (its_kind, name), entry in self.items() if its_kind == kind}

    def add(self, entry: Declared[Any]) -> None:
        """Add a strategy or a setup; one that is in the collection already stays as it is.

        Raises:
            ValueError: another one has its name, unless both were typed into a notebook, whose cells are run again.
        """
        before = self.setdefault((entry.kind, entry.name), entry)
        if before.value is not entry.value:
            if not before.module == entry.module == "__main__":
                raise ValueError(f"the name {entry.name!r} is already taken by {before.file}")
            self[entry.kind, entry.name] = entry


_current = ContextVar("collection", default=Collection())  # noqa: B039 - outside of a load, all share this one
_ever: dict[tuple[str, Kind, str], Declared[Any]] = {}  # by module: it is imported once, and may be loaded many times


@contextmanager
def collecting(collection: Collection) -> Generator[Collection]:
    """Context manager in which this thread's `register` and `register_setup` add to a collection."""
    token = _current.set(collection)
    try:
        yield collection
    finally:
        _current.reset(token)


def declare(kind: Kind, name: str, value: object) -> None:
    """Add what the caller's caller registers to the current collection; raises as `Collection.add`."""
    caller = sys._getframe(2)  # pyright: ignore[reportPrivateUsage]
    entry = Declared(kind, name, value, Path(caller.f_code.co_filename), str(caller.f_globals["__name__"]))
    _current.get().add(entry)
    _ever[entry.module, kind, name] = entry


def declare_again(value: object) -> bool:
    """Add what was registered when a module, or a package's modules, were imported; or one strategy or setup.

    Returns whether there was anything to add; raises as `Collection.add`.
    """
    added = False
    for entry in list(_ever.values()):
        in_module = isinstance(value, ModuleType) and f"{entry.module}.".startswith(f"{value.__name__}.")
        if in_module or entry.value is value:
            _current.get().add(entry)
            added = True
    return added
