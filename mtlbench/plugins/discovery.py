"""Finding strategies and setups: folders of the checkout, entry points of installed packages, and named files."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
import threading
import typing
from collections.abc import Callable, Container, Generator, Sequence
from contextlib import ExitStack, chdir, contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field, replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, TextIO, cast

from mtlbench import files
from mtlbench.contracts.collection import Collection, collecting, declare_again
from mtlbench.contracts.setup import Setup
from mtlbench.contracts.strategy import Strategy
from mtlbench.errors import UserError, in_one_line
from mtlbench.setups.mnist import register_built_in

GROUPS = ("mtlbench.strategies", "mtlbench.setups")  # of entry points; either may register both
BUILT_IN = "mtlbench.setups"
"""Origin of the setups that are part of the package."""

_plugin_code = threading.RLock()


@dataclass
class Loaded:
    """The strategies and setups that could be loaded, and a line for each plug-in that could not."""

    collection: Collection = field(default_factory=Collection)
    problems: list[str] = field(default_factory=list[str])

    def add_file(self, path: Path) -> None:
        """Run a file, and add what it registers."""
        # It becomes a module like any other, under a name that no other file has.
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
        """Add everything that a plug-in registers, or nothing and a line in `problems`."""
        try:
            with contained(), collecting(Collection(self.collection)) as collection:
                value = load()
                if not declare_again(value):
                    _refuse_unregistered(value)
                for entry in collection.values():
                    if entry.kind == "strategy" and not entry.origin:
                        typing.get_type_hints(entry.value.__init__)  # the types of its hyper-parameters
        except (Exception, SystemExit) as error:
            self.problems.append(f"{origin} is left out: {in_one_line(error)}")
        else:
            self.collection = Collection(
                {key: entry if entry.origin else replace(entry, origin=origin) for key, entry in collection.items()}
            )


def load(plugins: Sequence[Path] = (), packages: Container[str] | None = None) -> Loaded:
    """Load the strategies and setups of `strategies/`, `setups/`, the entry points of installed packages and `plugins`.

    A plug-in that cannot be imported, or takes a name that is taken, is left out and named in `problems`. `plugins` are
    files; `packages` are values of the entry points to load, None for all.

    Raises:
        UserError: a file of `plugins` does not exist.
    """
    loaded = Loaded()
    loaded.add(BUILT_IN, register_built_in)
    shipped = [path for folder in (strategies_folder(), setups_folder()) for path in sorted(folder.glob("[!_]*.py"))]
    for path in shipped:
        loaded.add_file(path)
    for group in GROUPS:
        for entry in entry_points(group=group):
            if packages is None or entry.value in packages:
                loaded.add(str(entry.value), entry.load)
    for path in dict.fromkeys(plugins):
        if not files.is_there(path):
            raise UserError(f"the plug-in file {path} does not exist")
        if path.resolve() not in shipped:
            loaded.add_file(path)
    return loaded


def _refuse_unregistered(value: object) -> None:
    if isinstance(value, Setup):
        raise ValueError(f"the setup {value.name!r} was not registered: call register_setup on it")
    if isinstance(value, type) and issubclass(value, Strategy):
        raise ValueError(f"the strategy {value.__name__} was not registered: decorate it with @register(NAME)")


@contextmanager
def contained() -> Generator[None]:
    """Context manager around a plug-in's code, which may change the working directory and close the streams.

    Both are restored at the end. They are the whole process's, so that one thread at a time runs such code. A plug-in
    that ends the process at once (`os._exit`) cannot be contained.
    """
    with _plugin_code, ExitStack() as restored:
        with suppress(FileNotFoundError):  # the directory was removed, and nothing needs it
            restored.enter_context(chdir(os.curdir))
        restored.enter_context(redirect_stdout(cast("TextIO", _KeptOpen(sys.stdout))))
        restored.enter_context(redirect_stderr(cast("TextIO", _KeptOpen(sys.stderr))))
        yield


class _KeptOpen:
    """A stream whose `close` does nothing."""

    def __init__(self, stream: object) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever a stream has
        return (lambda: None) if name == "close" else getattr(self._stream, name)


def strategies_folder() -> Path:
    """The folder of the strategies that come with mtlbench: in the checkout, or inside the installed package."""
    return _folder("strategies", "strategies")


def setups_folder() -> Path:
    """The folder of the setups that come with mtlbench; in the package, `setups` is the name of a module."""
    return _folder("shipped_setups", "setups")


def _folder(inside: str, beside: str) -> Path:
    package = Path(__file__).resolve().parents[1]
    return package / inside if (package / inside).is_dir() else package.parent / beside
