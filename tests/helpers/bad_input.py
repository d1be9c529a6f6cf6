"""Random wrong command lines and damaged stored files, and the command line without training."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import settings
from hypothesis import strategies as st

from mtlbench.bench import execution, tune
from mtlbench.cli import app, bench
from mtlbench.plugins.registry import Registry
from mtlbench.records.records import Settings, Spec, Trial, TuningRecord
from mtlbench.report import plots
from tests.helpers import stored_benches

CASES = int(os.environ.get("MTLBENCH_CASES", "250"))
"""Number of cases of all properties together; `make soak` tries 2,000."""

ODD_VALUES = (
    "", " ", "0", "-1", "1", "2", "٣", "1_0", "1e400", "-1e400", "1e-400", "nan", "inf", "-inf", "0x10", "1.5", "1,",
    ",", "9" * 30, "9" * 5000, "True", "None", "none", "a" * 300, "../x", "/", ".", "a/b", "ä", "🦆", "[", "]]", "'",
    '"', "\\", "\n", "a\nb", "\x1b[31m", "\u2028", "[red]", "mnist", "fixed", "single:digit", "front:2", "tuned:fixed",
    "torchjd:",
)  # fmt: skip
ODD_HYPER = (
    "", "1", "-1", "0", "nan", "1e999", "-1e999", "9**9", str(10**400), "[1,2]", "[1,-1]", "[[1],[2]]", "[" * 400,
    "1,,2", "(1", "{}", "{1:2}", "lambda: 0", "f'{x}'", "__import__('os')", "b'1'", "'a", "1j", "...", "None", "True",
    "own", "heads", "1=2", "*[1]", "**{}", "a.b", "[1,\n2]", "ä", "x" * 1000, "-" * 3000 + "1", "[0.1]*9",
)  # fmt: skip
ODD_JSON: tuple[object, ...] = (
    None, True, "", "x", "a\nb", "\ud83d", -1, 0, 1, 10**30, 1e308, float("nan"), float("inf"), [], [[]], [[[]]], {},
    {"a": 1}, [1, 2], [[1.0, 2.0]],
)  # fmt: skip
TEXTS = st.one_of(
    st.sampled_from(ODD_VALUES),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=30),
)


def limited(share: float) -> settings:
    """Settings for this share of `CASES`."""
    return settings(max_examples=max(1, round(share * CASES)))


@st.composite
def strategy_texts(draw: st.DrawFn) -> str:
    """`name:hyper=value,...`, correct or nearly so."""
    name = draw(
        st.sampled_from(["fixed", "gradnorm", "cagrad", "famo", "stch", "torchjd:UPGrad", "gradnrom", "single"])
    )
    keys = st.sampled_from(["alpha", "weights", "heads", "lr", "gamma", "c", "", "*", "ä"])
    values = st.one_of(st.sampled_from(ODD_HYPER), TEXTS, st.integers().map(str), st.floats().map(str))
    pairs = draw(st.lists(st.tuples(keys, values), max_size=3))
    return f"{name}:{','.join(f'{key}={value}' if key else value for key, value in pairs)}"


NUMBERS = st.one_of(st.integers(-3, 100).map(str), st.integers().map(str), st.floats().map(str))
ARGUMENTS: dict[str, st.SearchStrategy[str]] = {
    "--strategies": st.one_of(strategy_texts(), TEXTS),
    "--seeds": st.one_of(NUMBERS, TEXTS, st.lists(st.integers(-1, 9), max_size=4).map(lambda seeds: f"{seeds}"[1:-1])),
    "--epochs": st.one_of(NUMBERS, TEXTS),
    "--batch-size": st.one_of(NUMBERS, TEXTS),
    "--lr": st.one_of(NUMBERS, TEXTS),
    "--jobs": st.one_of(NUMBERS, TEXTS),
    "--run-timeout": st.one_of(NUMBERS, TEXTS),
    "--run-memory": st.one_of(NUMBERS, TEXTS),
    "--setup": st.one_of(st.sampled_from(["mnist", "mnist fashion-mnist", "mnist,mnits"]), TEXTS),
    "--device": st.one_of(st.sampled_from(["cpu", "auto"]), TEXTS),
    "--name": TEXTS,
    "--out": TEXTS,
    "--plugin": TEXTS,
}
TUNING = {"--trials": st.one_of(NUMBERS, TEXTS), "--tuning-seeds": st.one_of(NUMBERS, TEXTS)}
WORDS = {
    "report": TEXTS, "compare": TEXTS, "selftest-stats": TEXTS, "list": st.one_of(TEXTS, strategy_texts()),
    "check": st.one_of(TEXTS, strategy_texts()), "new": TEXTS,
}  # fmt: skip


@st.composite
def command_lines(draw: st.DrawFn) -> list[str]:
    """A command with some of its options, most of them wrong."""
    command = draw(st.sampled_from(["bench", "bench", "tune", *WORDS]))
    if command in WORDS:
        words = draw(st.lists(WORDS[command], min_size=1, max_size=2))
        return [command, *words]
    options = ARGUMENTS | TUNING if command == "tune" else ARGUMENTS
    names = draw(st.lists(st.sampled_from(list(options)), max_size=3, unique=True))
    return [command, "--device=cpu", *(f"{name}={draw(options[name])}" for name in names)]


@dataclass(frozen=True)
class Outcome:
    """Exit code and output of a command."""

    code: int
    out: str
    err: str


def call(arguments: Sequence[str]) -> Outcome:
    """Call the command line in this process; an exception that it does not handle is raised here."""
    out, err = io.StringIO(), io.StringIO()
    before, sys.argv = sys.argv, ["mtlbench", *arguments]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            app.main()
    except SystemExit as ended:
        return Outcome(int(ended.code or 0), out.getvalue(), err.getvalue())
    finally:
        sys.argv = before
    raise AssertionError("the command line did not end")


def assert_sound(outcome: Outcome) -> None:
    """The exit code is 0, 1 or 2, and an error with code 2 is one printable line."""
    assert outcome.code in (0, 1, 2)
    if outcome.code == 2:
        line = outcome.err.removesuffix("\n")
        assert line.startswith("mtlbench: "), outcome
        assert line.isprintable(), outcome


@contextlib.contextmanager
def untrained() -> Generator[None]:
    """Context manager in which commands end where training, tuning, checking or drawing would begin."""

    def ended(*_: object) -> bool:
        raise typer.Exit

    def nothing(*_: object) -> Any:
        return []

    def no_plots(*_: object) -> plots.SavedPlots:
        return plots.SavedPlots({}, [])

    shipped, load = Registry.load(), Registry.load

    def known(plugins: Sequence[Path] = ()) -> Registry:
        return load(plugins) if plugins else shipped

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(execution, "execute", ended)
        patch.setattr(tune, "execute", ended)
        patch.setattr(plots, "draw_all", no_plots)
        patch.setattr("mtlbench.check.check", nothing)
        patch.setattr(bench, "fetch", nothing)
        patch.setattr(Registry, "load", known)
        yield


def contents(folder: Path) -> dict[str, bytes]:
    """Content of every file below a folder, by relative path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def stored_bench(folder: Path) -> Path:
    """A bench with every kind of stored file: runs (one of them failed), speeds and a tuning."""
    runs = [
        stored_benches.stored("fixed", 0.9),
        stored_benches.stored("gradnorm", 0.91),
        stored_benches.stored("rlw", None, error="ValueError: no"),
        stored_benches.stored("single:digit", 0.9, only="digit"),
    ]
    store = stored_benches.make_store(
        folder, runs, [stored_benches.cost("fixed", 1, 1.0), stored_benches.cost("gradnorm", 1, 1.2)]
    )
    evaluation = stored_benches.stored("fixed", 0.9).result
    assert evaluation is not None
    store.write_tuning(
        TuningRecord(
            key="k",
            command="mtlbench tune",
            spec=Spec(label="fixed", name="fixed", hyper={}),
            settings=Settings.model_validate(stored_benches.settings().model_dump()),
            tasks=stored_benches.TASKS,
            budget=2,
            trials=[Trial(hyper={}, lr=1e-3, validation=evaluation.test, seconds=1.0)] * 2,
        )
    )
    return store.folder


STORED = (
    "bench.json", "costs.json", "runs/mnist/fixed.json", "runs/mnist/gradnorm.json", "runs/mnist/rlw.json",
    "tuning/mnist/fixed.json",
)  # fmt: skip
Damage = Callable[[bytes], bytes]


def replaceable(content: Any) -> list[tuple[Any, Any]]:
    """Containers and keys of the values to replace; only the first and the last item of a list."""
    keys = list(content) if isinstance(content, dict) else sorted({0, len(content) - 1}) if content else []
    pairs = [(content, key) for key in keys]
    for key in keys:
        if isinstance(content[key], dict | list):
            pairs += replaceable(content[key])
    return pairs


@st.composite
def byte_damages(draw: st.DrawFn) -> Damage:
    """Cuts a file off, flips one of its bits, or inserts bytes."""
    kind = draw(st.sampled_from(["cut", "flip", "insert"]))
    at = draw(st.floats(0, 1, exclude_max=True))
    junk, bit = draw(st.binary(min_size=1, max_size=8)), draw(st.integers(0, 7))

    def damage(whole: bytes) -> bytes:
        place = int(at * len(whole))
        if kind == "cut":
            return whole[:place]
        if kind == "flip":
            return whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :]
        return whole[:place] + junk + whole[place:]

    return damage


@st.composite
def edits(draw: st.DrawFn) -> Damage:
    """Replaces or removes a value of a JSON file."""
    at, odd, removed = draw(st.floats(0, 1, exclude_max=True)), draw(st.sampled_from(ODD_JSON)), draw(st.booleans())

    def damage(whole: bytes) -> bytes:
        content = json.loads(whole)
        pairs = replaceable(content)
        holder, key = pairs[int(at * len(pairs))]
        if removed:
            del holder[key]
        else:
            holder[key] = odd
        return json.dumps(content).encode()

    return damage


damages = st.one_of(byte_damages(), edits(), edits())
