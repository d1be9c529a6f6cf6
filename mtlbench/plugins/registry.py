"""Strategies and setups by name, and strategies with hyper-parameters from text such as `name:hyper=value`."""

from __future__ import annotations

import difflib
import hashlib
import inspect
import math
import typing
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

from mtlbench.contracts.collection import Declared, Kind
from mtlbench.contracts.setup import Setup
from mtlbench.contracts.space import Space, declared
from mtlbench.contracts.strategy import Heads, Strategy
from mtlbench.errors import UserError, first_line, in_one_line
from mtlbench.plugins import discovery
from mtlbench.plugins.discovery import BUILT_IN, contained
from mtlbench.plugins.smooth import smoothed
from mtlbench.plugins.spec_text import as_lists, checked_value, defaults, read_arguments, typed, written
from mtlbench.records.records import Spec
from mtlbench.records.roles import FRONT, REFERENCE, SINGLE, TUNED

TORCHJD, SMOOTH = "torchjd", "smooth"


class HasTasks(Protocol):
    """A setup, or anything else that has tasks with names."""

    @property
    def task_names(self) -> Sequence[str]:
        """Names of the tasks, the main one first."""
        ...


@dataclass(frozen=True)
class Registry:
    """The strategies and setups that could be loaded, and a line for each plug-in that could not."""

    strategies: Mapping[str, Declared[type[Strategy]]]
    setups: Mapping[str, Declared[Setup]] = field(default_factory=dict[str, Declared[Setup]])
    problems: Sequence[str] = ()

    @classmethod
    def load(cls, plugins: Sequence[Path] = (), packages: Container[str] | None = None) -> Registry:
        """Load everything that can be found, including the files `plugins`; raises as `discovery.load`."""
        loaded = discovery.load(plugins, packages)
        return cls(loaded.collection.of("strategy"), loaded.collection.of("setup"), loaded.problems)

    def needed(self, strategies: Iterable[str], setup: str) -> frozenset[str]:
        """Origins of some strategies and of a setup: the plug-ins that have to be loaded for them."""
        names = (name.removeprefix(f"{SMOOTH}:") for name in strategies)
        chosen = [*map(self.strategies.get, names), self.setups.get(setup)]
        return frozenset(entry.origin for entry in chosen if entry is not None)

    def setup(self, name: str) -> Setup:
        """The setup of that name; a UserError that lists similar names if it does not exist."""
        if name not in self.setups:
            raise UserError(self._unknown("setup", name, self.setups))
        return self.setups[name].value

    def setup_digest(self, name: str) -> str | None:
        """SHA-256 of the content of the file that registers a setup, which is part of the keys of its runs.

        None for a setup that is part of the package: it changes with mtlbench's version only.
        """
        entry = self.setups[name]
        return None if entry.origin == BUILT_IN else hashlib.sha256(entry.file.read_bytes()).hexdigest()

    def get(self, name: str) -> type[Strategy]:
        """The strategy of that name; raises as `setup`. Only `torchjd:NAME`, a method of TorchJD, loads TorchJD."""
        owner, _, method = name.partition(":")
        if owner == TORCHJD:
            return _method_of_torchjd(method)
        if owner == SMOOTH:
            return smoothed(self.get(method), method, self.hyper_parameters(method))
        if name not in self.strategies:
            raise UserError(self._unknown("strategy", name, [*self.strategies, SINGLE]))
        return self.strategies[name].value

    def hyper_parameters(self, name: str) -> dict[str, inspect.Parameter]:
        """Hyper-parameters of a strategy with their types and defaults, read from its signature."""
        cls = self.get(name)
        hints = typing.get_type_hints(cls.__init__, include_extras=True)
        return {
            key: parameter.replace(annotation=hints.get(key, parameter.annotation))
            for key, parameter in inspect.signature(cls).parameters.items()
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY
        }

    def parameters(self, name: str) -> dict[str, inspect.Parameter]:
        """Everything that can be set by `name:hyper=value`: the hyper-parameters, and `heads`."""
        default = self.get(name).heads
        heads = inspect.Parameter("heads", inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Heads)
        return {**self.hyper_parameters(name), "heads": heads}

    def spaces(self, name: str) -> dict[str, Space]:
        """The spaces that a strategy is tuned in, by hyper-parameter; those that declare none are not tuned."""
        return declared(self.hyper_parameters(name))

    def parse(self, text: str, setup: HasTasks) -> Spec:
        """Read `name`, `name:value` or `name:hyper=value,...`; a bare value is for the first hyper-parameter.

        For a method of TorchJD and for smoothed weights, hyper-parameters follow the second name:
        `torchjd:NAME,hyper=value`, `smooth:NAME,hyper=value`. `single:TASK` is a task trained alone. `front:SHARE` is
        fixed weights that give the main task this share, and the others equal shares.

        Raises:
            UserError: the name, hyper-parameter or task is unknown, or a value cannot be read or is refused.
        """
        name, _, arguments = text.partition(":")
        if name == SINGLE:
            return _single(arguments, setup)
        if name == FRONT:
            return _front(arguments, setup)
        if name == TUNED:
            raise UserError(f"{text}: tuned settings come from `mtlbench tune`; add them with --tuned")
        separator = ":"
        if name in (TORCHJD, SMOOTH):
            method, _, arguments = arguments.partition(",")
            name, separator = f"{name}:{method}", ","
        parameters = self.parameters(name)
        hyper: dict[str, object] = {}
        for key, value in read_arguments(text, arguments, list(parameters)):
            if key not in parameters:
                raise UserError(f"{name} has no hyper-parameter {key!r}; it has {', '.join(defaults(parameters))}")
            hyper[key] = checked_value(text, parameters[key], value)
        hyper = {key: value for key, value in hyper.items() if value != as_lists(parameters[key].default)}
        settings = ",".join(f"{key}={written(hyper[key])}" for key in parameters if key in hyper)
        spec = Spec(label=f"{name}{separator}{settings}" if settings else name, name=name, hyper=hyper)
        try:
            with contained():
                self.build(spec, (1, len(setup.task_names)))
        except SystemExit as error:
            raise UserError(f"{text}: {in_one_line(error)}") from None
        except Exception as error:  # a plug-in's constructor may raise anything
            raise UserError(f"{text}: {first_line(error)}") from None
        return spec

    def build(self, spec: Spec, shape: tuple[int, int]) -> Strategy:
        """Make a strategy for K replicas and T tasks."""
        parameters = self.parameters(spec.name)
        arguments = {key: typed(parameters[key], value) for key, value in spec.hyper.items() if key != "heads"}
        strategy = typing.cast("typing.Any", self.get(spec.name))(shape, **arguments)
        strategy.heads = spec.hyper.get("heads", strategy.heads)
        return strategy

    def source(self, name: str) -> Path:
        """The file in which a strategy is defined."""
        return Path(inspect.getfile(self.get(name)))

    def shipped(self, name: str) -> bool:
        """True if a strategy comes with mtlbench: its code is known and may run in any process."""
        return name in self.strategies and self.source(name).parent == discovery.strategies_folder()

    def digest(self, name: str) -> str:
        """SHA-256 of the content of a strategy's file, which is part of the keys of its runs.

        For a method of TorchJD, of the adapter's file and TorchJD's version; for smoothed weights, of both files.
        """
        content = self.source(name).read_bytes()
        owner, _, method = name.partition(":")
        if owner == TORCHJD:
            content += version(TORCHJD).encode()
        if owner == SMOOTH:
            content += self.digest(method).encode()
        return hashlib.sha256(content).hexdigest()

    def _unknown(self, kind: Kind, name: str, known: Iterable[str]) -> str:
        names = difflib.get_close_matches(name, known := list(known)) or known
        problems = f" ({'; '.join(self.problems)})" if self.problems else ""
        return f"unknown {kind} {name!r}; choose from {', '.join(names)}{problems}"


def _single(task: str, setup: HasTasks) -> Spec:
    if task not in setup.task_names:
        choices = ", ".join(f"{SINGLE}:{name}" for name in setup.task_names)
        raise UserError(f"unknown task {task!r}; choose from {choices}")
    weights = [float(name == task) for name in setup.task_names]
    return Spec(label=f"{SINGLE}:{task}", name=REFERENCE, hyper={"weights": weights}, only=task)


def _front(text: str, setup: HasTasks) -> Spec:
    others = len(setup.task_names) - 1
    try:
        share = float(text)
    except ValueError:
        share = math.nan
    if not (0 <= share <= 1 and others):
        raise UserError(f"SHARE of {FRONT}:SHARE must be a number from 0 to 1, with 2 tasks or more; found {text!r}")
    weights = [float(f"{(others + 1) * part:.6g}") for part in (share, *[(1 - share) / others] * others)]
    return Spec(label=f"{FRONT}:{written(share)}", name=REFERENCE, hyper={"weights": weights})


def torchjd_methods() -> Mapping[str, type[Strategy]]:
    """The methods that `torchjd:NAME` can name, by NAME; a UserError if TorchJD is not installed."""
    try:
        from mtlbench.plugins.torchjd import methods
    except ImportError as error:
        raise UserError(
            f"{TORCHJD}:NAME is a method of TorchJD, which cannot be loaded ({first_line(error)}): "
            f"pip install 'mtlbench[{TORCHJD}]'"
        ) from None
    return methods()


def _method_of_torchjd(name: str) -> type[Strategy]:
    methods = torchjd_methods()
    if name not in methods:
        by_lower_case = {method.lower(): method for method in methods}
        close = [by_lower_case[match] for match in difflib.get_close_matches(name.lower(), by_lower_case)]
        names = ", ".join(f"{TORCHJD}:{method}" for method in close or methods)
        raise UserError(f"unknown method of TorchJD {name!r}; choose from {names}")
    return methods[name]
