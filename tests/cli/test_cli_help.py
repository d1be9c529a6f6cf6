"""Help, lists, checks and new files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mtlbench.check.checks import PROPERTIES
from tests.helpers.commands import Run, refused


def test_an_unknown_command_is_refused(run: Run) -> None:
    assert "benhc" in refused(run, "benhc")


def test_list_shows_every_strategy_with_its_hyper_parameters(run: Run) -> None:
    code, out, _ = run("list")
    assert code == 0
    for text in ("fixed", "gradnorm", "uncertainty", "single:digit", "alpha=1.5", "mnist"):
        assert text in out


def test_list_as_json_has_families_and_losses(run: Run) -> None:
    rows = {row["name"]: row for row in json.loads(run("list", "--json")[1])}
    assert rows["gradnorm"]["family"] == "gradient-norm"
    assert rows["gradnorm"]["losses"] == "positive"
    assert (rows["fixed"]["family"], rows["fixed"]["losses"]) == ("loss-only", "any")
    assert all(set(row) == {"name", "family", "source", "needs", "losses", "heads", "hyper"} for row in rows.values())


def test_list_of_one_strategy_shows_its_source(run: Run) -> None:
    assert "ICML 2018" in run("list", "gradnorm")[1]
    assert "gradnorm" in refused(run, "list", "gradnrom")


def test_list_of_torchjd_names_its_methods(run: Run) -> None:
    _, out, _ = run("list", "torchjd")
    assert "torchjd:UPGrad" in out
    assert "Jacobian Descent" in run("list", "torchjd:UPGrad")[1]
    assert "torchjd:UPGrad" in refused(run, "list", "torchjd:upgrd")


def test_list_shows_the_tuning_spaces_of_a_strategy(run: Run) -> None:
    assert "Tuned over: alpha in Uniform(low=0, high=3)" in run("list", "gradnorm")[1]


def test_version(run: Run) -> None:
    assert run("--version") == (0, "mtlbench 0.1.0\n", "")


COMMANDS = [
    "",
    "bench",
    "tune",
    "report",
    "compare",
    "list",
    "data",
    "check",
    "check-setup",
    "new",
    "new-setup",
    "train",
    "predict",
]
HELP = """
import contextlib, io, json, sys
from mtlbench import cli
shown = {}
for command in json.loads(sys.argv[1]):
    sys.argv = ["mtlbench", *command.split(), "--help"]
    with contextlib.redirect_stdout(io.StringIO()) as text:
        try: cli.main()
        except SystemExit as ended: code = ended.code
    loaded = {"torch", "pandas", "matplotlib", "scipy", "numpy"} & set(sys.modules)
    shown[command] = [code, sorted(loaded), text.getvalue()]
print(json.dumps(shown))
"""


@pytest.fixture(scope="module")
def helps() -> dict[str, tuple[int, list[str], str]]:
    """For each command's help: the exit code, the heavy packages loaded, and the text."""
    command = [sys.executable, "-c", HELP, json.dumps(COMMANDS)]
    environment = {**os.environ, "COLUMNS": "100"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_examples_and_does_not_load_torch(helps: dict[str, tuple[int, list[str], str]], command: str) -> None:
    code, loaded, text = helps[command]
    assert code == 0
    assert loaded == []
    assert f"mtlbench {command}".strip() in text


def test_check_prints_a_line_per_property(run: Run, tmp_path: Path) -> None:
    code, out, err = run("check", "fixed", "fixed:weights=[1,0.1]")
    lines = out.splitlines()
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in lines if not line.startswith(" ")] == ["fixed", "fixed:weights=[1,0.1]"]
    verdicts = [line.split()[0] for line in lines if line.startswith(" ")]
    assert verdicts == 2 * len(PROPERTIES) * ["holds"]


def test_check_exits_with_1_if_a_property_fails(run: Run, tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text(
        "from mtlbench import Strategy, register\n"
        "@register('bad')\n"
        "class Bad(Strategy):\n"
        "    def forward(self, step):\n"
        "        raise RuntimeError('not [today]')\n"
    )
    code, out, err = run("check", "bad", "fixed", "--plugin", "bad.py")
    assert (code, err) == (1, "")
    assert "bad.py:5 `raise RuntimeError('not [today]')`: RuntimeError: not [today]\n" in out
    assert len(out.splitlines()) == 2 * (1 + len(PROPERTIES))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["check"], "NAME|FILE"),
        (["check", ""], "name a strategy"),
        (["check", "gradnrom"], "gradnorm"),
        (["check", "absent.py"], "absent.py"),
        (["check", "gradnorm:alpha=-1"], "alpha must be finite and >= 0"),
        (["check", "gradnorm:beta=1"], "alpha=1.5, lr=0.025"),
        (["new"], "NAME"),
        (["new", "gradnorm"], "already taken"),
        (["new", "single"], "'single'"),
        (["new", "Mine"], "lower-case words"),
        (["new", "mine_too"], "lower-case words"),
        (["new", "3d"], "lower-case words"),
        (["new", "../mine"], "lower-case words"),
        (["new", "m" * 41], "at most 40"),
        (["new", "none"], "a class None"),
        (["new", "step"], "a class Step"),
        (["new", "json"], "the module json"),
    ],
)
def test_invalid_checks_and_names_are_refused(run: Run, tmp_path: Path, arguments: list[str], says: str) -> None:
    assert says in refused(run, *arguments)
    assert list(tmp_path.iterdir()) == []


def test_without_arguments_only_the_help_is_printed(run: Run) -> None:
    code, out, err = run()
    assert code == 2
    assert "Examples" in out + err
    assert "see --help" not in err
