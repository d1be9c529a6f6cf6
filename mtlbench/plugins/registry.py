"""Which strategies and setups there are, and what a user's `name:hyper=value` stands for."""

from __future__ import annotations

import difflib
import hashlib
import inspect
import math
import typing
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

from mtlbench.contracts import strategy as contract
from mtlbench.contracts.registration import Declared
from mtlbench.contracts.setup import Setup
from mtlbench.contracts.space import Space, declared
from mtlbench.contracts.strategy import Heads, Strategy
from mtlbench.errors import UserError, first_line, in_one_line
from mtlbench.plugins.discovery import Kind, contained, load
from mtlbench.plugins.spec_text import as_lists, checked_value, listed, read_arguments, typed, written
from mtlbench.records.records import Spec
from mtlbench.records.roles import FRONT, REFERENCE, SINGLE, TUNED
from mtlbench.setups import mnist as family

TORCHJD = "torchjd"


class HasTasks(Protocol):
    """What a strategy is read for: a setup, or anything else that names its tasks."""

    @property
    def task_names(self) -> Sequence[str]:
        """Names of the tasks, the main one first."""
        ...


@dataclass(frozen=True)
class Registry:
    """The strategies and setups that could be loaded, and a line for each plugin that could not.

    `origins` says of each kind which plugin a name is from.
    """

    strategies: Mapping[str, type[Strategy]]
    setups: Mapping[str, Declared] = field(default_factory=dict[str, Declared])
    origins: Mapping[Kind, Mapping[str, str]] = field(default_factory=dict[Kind, Mapping[str, str]])
    problems: Sequence[str] = ()

    @classmethod
    def load(cls, plugins: Sequence[Path] = (), packages: Collection[str] | None = None) -> Registry:
        """Find all that there are, those of the files `plugins` and of `packages` among them; see `plugins.load`.

        Raises:
            UserError: a file of `plugins` does not exist.
        """
        found = load(plugins, packages)
        return cls(found.strategies, found.setups, found.origins, found.problems)

    def needed(self, strategies: Iterable[str], setup: str) -> frozenset[str]:
        """Which plugins some strategies and a setup are from, as in `origins`."""
        chosen = {self.origins["strategy"].get(name) for name in strategies} | {self.origins["setup"].get(setup)}
        return frozenset(origin for origin in chosen if origin is not None)

    def setup(self, name: str) -> Setup:
        """The setup of that name.

        Raises:
            UserError: there is none; lists the close ones.
        """
        if name not in self.setups:
            raise UserError(self._unknown("setup", name, self.setups))
        return self.setups[name].setup

    def setup_digest(self, name: str) -> str | None:
        """SHA-256 of the content of the file that registers a setup, part of the key of the runs on it.

        None for the family of `mtlbench.setups`, which changes with the version alone.
        """
        found = self.setups[name]
        return None if found.module == family.__name__ else hashlib.sha256(found.file.read_bytes()).hexdigest()

    def get(self, name: str) -> type[Strategy]:
        """The strategy of that name; `torchjd:NAME` is a method of TorchJD, loaded only here.

        Raises:
            UserError: there is none; lists the close ones.
        """
        owner, _, method = name.partition(":")
        if owner == TORCHJD:
            return _method_of_torchjd(method)
        if name not in self.strategies:
            raise UserError(self._unknown("strategy", name, [*self.strategies, SINGLE]))
        return self.strategies[name]

    def parameters(self, name: str) -> dict[str, inspect.Parameter]:
        """Hyper-parameters of a strategy with types and defaults, read off its signature, and `heads`."""
        cls = self.get(name)
        hints = typing.get_type_hints(cls.__init__, include_extras=True)
        found = {
            key: parameter.replace(annotation=hints.get(key, _written_type(parameter)))
            for key, parameter in inspect.signature(cls).parameters.items()
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY
        }
        heads = inspect.Parameter("heads", inspect.Parameter.KEYWORD_ONLY, default=cls.heads, annotation=Heads)
        return {**found, "heads": heads}

    def spaces(self, name: str) -> dict[str, Space]:
        """What a strategy is tuned over: the hyper-parameters that declare a space; `heads` is not among them."""
        parameters = self.parameters(name)
        del parameters["heads"]
        return declared(parameters)

    def parse(self, text: str, setup: HasTasks) -> Spec:
        """Read `name`, `name:value` or `name:hyper=value,...`; a bare value is the first hyper-parameter's.

        Those of a method of TorchJD stand behind its name, `torchjd:NAME,hyper=value`. `single:TASK` is a task trained
        alone, `front:SHARE` fixed weights that give the main task this share and the others equal ones.

        Raises:
            UserError: unknown name, hyper-parameter or task, or a value that cannot be read or is refused.
        """
        name, _, arguments = text.partition(":")
        if name == SINGLE:
            return self._single(arguments, setup)
        if name == FRONT:
            return self._front(arguments, setup)
        if name == TUNED:
            raise UserError(f"{text}: tuned settings come from `mtlbench tune`; add them with --tuned")
        between = ":"
        if name == TORCHJD:
            method, _, arguments = arguments.partition(",")
            name, between = f"{TORCHJD}:{method}", ","
        parameters = self.parameters(name)
        hyper: dict[str, object] = {}
        for key, value in read_arguments(text, arguments, list(parameters)):
            if key not in parameters:
                raise UserError(f"{name} has no hyper-parameter {key!r}; it has {listed(parameters)}")
            hyper[key] = checked_value(text, parameters[key], value)
        hyper = {key: value for key, value in hyper.items() if value != as_lists(parameters[key].default)}
        chosen = ",".join(f"{key}={written(hyper[key])}" for key in parameters if key in hyper)
        spec = Spec(label=f"{name}{between}{chosen}" if chosen else name, name=name, hyper=hyper)
        try:
            with contained():
                self.build(spec, (1, len(setup.task_names)))
        except SystemExit as error:
            raise UserError(f"{text}: {in_one_line(error)}") from None
        except Exception as error:  # a plugin's constructor may refuse with anything
            raise UserError(f"{text}: {first_line(error)}") from None
        return spec

    def build(self, spec: Spec, shape: tuple[int, int]) -> Strategy:
        """Make the strategy for K replicas and T tasks; `heads` is set on top of its constructor."""
        parameters = self.parameters(spec.name)
        given = {key: typed(parameters[key], value) for key, value in spec.hyper.items() if key != "heads"}
        made = typing.cast("typing.Any", self.get(spec.name))(shape, **given)
        made.heads = spec.hyper.get("heads", made.heads)
        return made

    def source(self, name: str) -> Path:
        """The file that holds a strategy."""
        return contract.source_file(self.get(name))

    def digest(self, name: str) -> str:
        """SHA-256 of the content of a strategy's file: part of the key of its runs.

        For a method of TorchJD that is the adapter's file and TorchJD's version.
        """
        content = self.source(name).read_bytes()
        if name.partition(":")[0] == TORCHJD:
            content += version(TORCHJD).encode()
        return hashlib.sha256(content).hexdigest()

    def _unknown(self, kind: Kind, name: str, known: Iterable[str]) -> str:
        close = difflib.get_close_matches(name, known := list(known)) or known
        broken = f" ({'; '.join(self.problems)})" if self.problems else ""
        return f"no {kind} is called {name!r}; there is {', '.join(close)}{broken}"

    def _single(self, task: str, setup: HasTasks) -> Spec:
        if task not in setup.task_names:
            choices = ", ".join(f"{SINGLE}:{name}" for name in setup.task_names)
            raise UserError(f"there is no task {task!r}; there is {choices}")
        weights = [float(name == task) for name in setup.task_names]
        return Spec(label=f"{SINGLE}:{task}", name=REFERENCE, hyper={"weights": weights}, only=task)

    def _front(self, text: str, setup: HasTasks) -> Spec:
        others = len(setup.task_names) - 1
        try:
            share = float(text)
        except ValueError:
            share = math.nan
        if not (0 <= share <= 1 and others):
            raise UserError(f"{FRONT}:SHARE takes the main task's share of the weights, 0 to 1, not {text!r}")
        weights = [float(f"{(others + 1) * part:.6g}") for part in (share, *[(1 - share) / others] * others)]
        return Spec(label=f"{FRONT}:{written(share)}", name=REFERENCE, hyper={"weights": weights})


def torchjd_methods() -> Mapping[str, type[Strategy]]:
    """What `torchjd:NAME` can be, by NAME.

    Raises:
        UserError: TorchJD is not installed.
    """
    try:
        from mtlbench.plugins.torchjd import methods
    except ImportError as error:
        raise UserError(
            f"{TORCHJD}:NAME is a method of TorchJD, which cannot be loaded ({first_line(error)}): "
            f"pip install 'mtlbench[{TORCHJD}]'"
        ) from None
    return methods()


def _method_of_torchjd(method: str) -> type[Strategy]:
    there = torchjd_methods()
    if method not in there:
        lower = {name.lower(): name for name in there}
        close = [lower[name] for name in difflib.get_close_matches(method.lower(), lower)] or list(there)
        names = ", ".join(f"{TORCHJD}:{name}" for name in close)
        raise UserError(f"no method of TorchJD is called {method!r}; there is {names}")
    return there[method]


def _written_type(parameter: inspect.Parameter) -> object:
    return object if parameter.annotation is parameter.empty else parameter.annotation
