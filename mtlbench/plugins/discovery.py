"""Where strategies and setups are found: folders of the checkout, entry points of installed packages, named files."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import os
import sys
import typing
from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, TextIO, cast

from mtlbench import files
from mtlbench.contracts import registration
from mtlbench.contracts import strategy as contract
from mtlbench.contracts.registration import Declared
from mtlbench.contracts.setup import Setup
from mtlbench.contracts.strategy import Strategy
from mtlbench.errors import UserError, in_one_line
from mtlbench.setups import mnist

GROUPS = ("mtlbench.strategies", "mtlbench.setups")  # of entry points; either may register both
Kind = Literal["strategy", "setup"]


@dataclass
class Found:
    """The strategies and setups that could be loaded, and a line for each plugin that could not.

    `origins` says of each kind which plugin a name is from, a file or the value of an entry point.
    """

    strategies: dict[str, type[Strategy]] = field(default_factory=dict[str, type[Strategy]])
    setups: dict[str, Declared] = field(default_factory=dict[str, Declared])
    origins: dict[Kind, dict[str, str]] = field(default_factory=lambda: {"strategy": {}, "setup": {}})
    problems: list[str] = field(default_factory=list[str])

    def add_file(self, path: Path) -> None:
        """Run a file and take what it registers."""
        # Known to the interpreter like any module, under a name that no other file has.
        name = f"mtlbench_plugin_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"

        def run() -> None:
            spec = importlib.util.spec_from_file_location(name, path)
            if spec is None or spec.loader is None:
                raise ImportError("not a Python file")
            module = importlib.util.module_from_spec(spec)
            sys.modules[name] = module
            spec.loader.exec_module(module)

        self.add(str(path), run)

    def add(self, origin: str, load: Callable[[], object]) -> None:
        """Take what a plugin registers, all or nothing."""
        strategies, setups = dict(contract.registered), dict(registration.registered)
        try:
            with contained():
                found = load()
            if inspect.isclass(found) and issubclass(found, Strategy) and found.name not in strategies:
                contract.registered[found.name] = found
            if isinstance(found, ModuleType):
                _strategies_again(found)
            if isinstance(found, ModuleType | Setup):
                registration.register_again(found)
            for name in contract.registered.keys() - strategies.keys():
                typing.get_type_hints(contract.registered[name].__init__)  # they say what a hyper-parameter may be
        except (Exception, SystemExit) as error:
            contract.registered.clear()
            contract.registered.update(strategies)
            registration.registered.clear()
            registration.registered.update(setups)
            self.problems.append(f"{origin} is left out: {in_one_line(error)}")
        self.origins["strategy"] |= {name: origin for name in contract.registered if name not in strategies}
        self.origins["setup"] |= {name: origin for name in registration.registered if name not in setups}


def load(plugins: Sequence[Path] = (), packages: Collection[str] | None = None) -> Found:
    """Find strategies and setups in `strategies/` and `setups/`, in installed packages' entry points, and in `plugins`.

    Of the entry points only those whose values are in `packages`, all if that is None.

    A plugin that cannot be imported, or takes a name that is taken, is left out and named in `problems`.

    Raises:
        UserError: a file of `plugins` does not exist.
    """
    contract.registered.clear()
    registration.registered.clear()
    found = Found()
    found.add(mnist.__name__, lambda: mnist)
    shipped = [path for folder in (strategies_folder(), setups_folder()) for path in sorted(folder.glob("[!_]*.py"))]
    for path in shipped:
        found.add_file(path)
    for group in GROUPS:
        for entry in entry_points(group=group):
            if packages is None or entry.value in packages:
                found.add(str(entry.value), entry.load)
    for path in dict.fromkeys(plugins):
        if not files.is_there(path):
            raise UserError(f"there is no plugin file {path}")
        if path.resolve() not in shipped:
            found.add_file(path)
    found.strategies, found.setups = dict(contract.registered), dict(registration.registered)
    return found


@contextmanager
def contained() -> Generator[None]:
    """Within this, a plug-in may change the working directory and close the streams; after it they are as before.

    What ends the process at once (`os._exit`) cannot be held.
    """
    folder, out, err = _here(), sys.stdout, sys.stderr
    sys.stdout, sys.stderr = cast("TextIO", _Kept(out)), cast("TextIO", _Kept(err))
    try:
        yield
    finally:
        sys.stdout, sys.stderr = out, err
        if folder is not None:
            os.chdir(folder)


def _here() -> Path | None:
    try:
        return Path.cwd()
    except FileNotFoundError:  # it was removed, and nothing needs it
        return None


class _Kept:
    """A stream that cannot be closed by whoever is given this."""

    def __init__(self, stream: object) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever a stream has
        return getattr(self._stream, name)

    def close(self) -> None:
        """Leave it open."""


def strategies_folder() -> Path:
    """The folder of the strategies that come with mtlbench: in the checkout, or inside the installed package."""
    return _folder("strategies", "strategies")


def setups_folder() -> Path:
    """Likewise of the setups that are plugins; inside the package its name is not that of the module `setups`."""
    return _folder("shipped_setups", "setups")


def _folder(inside: str, beside: str) -> Path:
    package = Path(__file__).resolve().parents[1]
    return package / inside if (package / inside).is_dir() else package.parent / beside


def _strategies_again(module: ModuleType) -> None:
    """Make the strategies of a module, or of a package's modules, known although it was imported before.

    Raises:
        ValueError: the name of one is taken by another.
    """

    def within(cls: type) -> bool:
        return f"{cls.__module__}.".startswith(f"{module.__name__}.")

    found = list(Strategy.__subclasses__())
    for cls in found:
        found += cls.__subclasses__()
    for cls in reversed(found):  # of a class that was defined twice the later one
        if within(cls) and "name" in vars(cls):
            known = contract.registered.setdefault(cls.name, cls)
            if not within(known):
                raise ValueError(f"the name {cls.name!r} is already taken by {contract.source_file(known)}")
