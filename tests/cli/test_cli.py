"""Commands on benches, tuning and reports: one clear line and exit code 2 for invalid requests."""

from __future__ import annotations

import shutil
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
import torch

from mtlbench.cli import options
from tests.helpers import toy
from tests.helpers.commands import Run, call, refused


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--strategies", "gradnrom"], "gradnorm"),
        (["--setup", "mnits"], "mnist"),
        (["--device", "tpu"], "auto, cpu, cuda, mps"),
        (["--strategies", "gradnorm:alpha"], "alpha"),
        (["--strategies", "gradnorm:alpha=[["], "cannot read"),
        (["--strategies", "fixed:weights=[1]"], "2 numbers"),
        (["--strategies", "fixed:weights=[1,-1]"], ">= 0"),
        (["--strategies", "fixed:weights=[1,inf]"], "finite"),
        (["--seeds", "1,2,1"], "1 more than once"),
        (["--seeds", "x"], "'x'"),
        (["--seeds", "0"], "at least one"),
        (["--seeds=-1,2"], ">= 0"),
        (["--epochs", "0"], "at least 1"),
        (["--epochs", "x"], "--epochs"),
        (["--batch-size", "55001"], "55000"),
        (["--batch-size", "0"], "between 1"),
        (["--lr", "nan"], "--lr"),
        (["--lr", "-1"], "--lr"),
        (["--jobs", "0"], "--jobs"),
        (["--name", "../x"], "'../x'"),
        (["--plugin", "absent.py"], "absent.py"),
        (["--nonsense"], "--nonsense"),
    ],
)
def test_an_invalid_bench_is_refused(run: Run, tmp_path: Path, arguments: list[str], says: str) -> None:
    assert says in refused(run, "bench", *arguments)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["cuda", "mps"])
def test_a_missing_device_is_named(run: Run, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert f"no {kind} device" in refused(run, "bench", "--device", kind)


@pytest.mark.parametrize("out", ["file", "/proc"])
def test_an_unwritable_output_folder_is_named(run: Run, tmp_path: Path, out: str) -> None:
    """Even root cannot write to these."""
    (tmp_path / "file").write_text("")
    assert f"cannot write to {out}/default" in refused(run, "bench", "--out", out)


def test_an_unreadable_run_is_named(run: Run, tiny_bench: Path) -> None:
    path = tiny_bench / "runs" / SETUP / "fixed.json"
    whole = path.read_text()
    path.write_text(whole[: len(whole) // 2])
    try:
        out = str(tiny_bench.parent)
        assert "fixed.json" in refused(run, "report", tiny_bench.name, "--out", out)
        assert "fixed.json" in refused(run, "bench", *TINY, "--name", tiny_bench.name, "--out", out)
    finally:
        path.write_text(whole)


SETUP = toy.TINY.name
TINY = ("--epochs", "1", "--seeds", "2", "--batch-size", "100", "--setup", SETUP, "--strategies", "fixed")


@pytest.fixture(scope="module")
def tiny_bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out")
    with redirect_stdout(StringIO()) as printed, pytest.MonkeyPatch.context() as patch:
        patch.setattr("mtlbench.bench.execution.TURN_SECONDS", 0.01)
        assert call("bench", *TINY, "--name", "tiny", "--out", out) == 0
    assert "report" in printed.getvalue()
    assert "single:above_five" in printed.getvalue()
    return out / "tiny"


def test_a_bench_writes_its_files(tiny_bench: Path) -> None:
    names = {path.name for path in tiny_bench.iterdir()}
    assert names == {
        "bench.json", "costs.json", "runs", "runs.csv", "curves.csv", "scores.csv", "speeds.csv", "summary.csv",
        "plots", "README.md", "report.html", ".lock",
    }  # fmt: skip
    for kind in ("png", "svg"):
        assert len(list((tiny_bench / "plots" / SETUP).glob(f"*.{kind}"))) == 6
        assert [path.stem for path in (tiny_bench / "plots").glob(f"*.{kind}")] == ["ranks"]


def test_report_makes_the_same_files_again(run: Run, tiny_bench: Path) -> None:
    derived = ["README.md", "summary.csv", "scores.csv", "speeds.csv", "runs.csv", "curves.csv", "report.html"]
    before = {name: (tiny_bench / name).read_bytes() for name in derived}
    code, out, _ = run("report", "tiny", "--out", str(tiny_bench.parent))
    assert code == 0
    assert "README.md" in out
    assert {name: (tiny_bench / name).read_bytes() for name in derived} == before


def test_a_file_that_cannot_be_replaced_is_named(run: Run, tiny_bench: Path, tmp_path: Path) -> None:
    folder = tmp_path / tiny_bench.name
    shutil.copytree(tiny_bench, folder)
    (folder / "summary.csv").unlink()
    (folder / "summary.csv").mkdir()
    line = refused(run, "report", folder.name, "--out", str(tmp_path))
    assert line.startswith(f"mtlbench: {folder / 'summary.csv'} cannot be used (Is a directory)")


def test_changed_settings_under_one_name_are_refused(run: Run, tiny_bench: Path) -> None:
    before = (tiny_bench / "bench.json").read_bytes()
    line = refused(
        run,
        "bench",
        "--name",
        "tiny",
        "--out",
        str(tiny_bench.parent),
        "--seeds",
        "3",
        "--epochs",
        "2",
        "--setup",
        SETUP,
        "--batch-size",
        "100",
    )
    assert "epochs 1, not 2" in line
    assert "seeds 0,1, not 0-2" in line
    assert (tiny_bench / "bench.json").read_bytes() == before


def test_a_report_of_a_missing_bench_is_refused(run: Run) -> None:
    assert "no bench" in refused(run, "report", "absent")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["tune", "--trials", "0"], "at least 1"),
        (["tune", "--tuning-seeds", "0"], "between 1"),
        (["tune", "--strategies", "single:digit"], "baseline"),
        (["tune", "--strategies", "gradnrom"], "gradnorm"),
        (["bench", "--tuned"], "mtlbench tune --name default --setup mnist"),
        (["bench", "--seeds", "4611686018427387904,"], "--seeds"),
        (["bench", "--setup", "mnist,mnits"], "mnist"),
        (["compare", "absent", "other"], "no bench"),
        (["selftest-stats", "absent"], "no bench"),
    ],
)
def test_an_invalid_tuning_or_comparison_is_refused(run: Run, tmp_path: Path, arguments: list[str], says: str) -> None:
    assert says in refused(run, *arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_bench_equals_itself(run: Run, tiny_bench: Path) -> None:
    code, out, _ = run("compare", "tiny", "tiny", "--out", str(tiny_bench.parent))
    assert code == 0
    assert "same conditions" in out
    assert "5 scores, 5 of them identical" in out


@pytest.mark.parametrize(("text", "seeds"), [("4", (0, 1, 2, 3)), ("0,3,7", (0, 3, 7)), ("3,", (3,)), ("1", (0,))])
def test_seeds_are_a_number_or_a_list(text: str, seeds: tuple[int, ...]) -> None:
    assert options.seeds_of(text) == seeds


@pytest.mark.parametrize("text", ["10001", "999999999999999"])
def test_too_many_seeds_are_refused(run: Run, tmp_path: Path, text: str) -> None:
    assert "at most" in refused(run, "bench", "--seeds", text)
    assert list(tmp_path.iterdir()) == []


def test_a_failing_strategy_exits_with_1_and_has_a_row(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_pictures(*_: object) -> list[Path]:
        return []

    monkeypatch.setattr("mtlbench.report.plots.save_all", no_pictures)
    monkeypatch.setattr("mtlbench.bench.execution.TURN_SECONDS", 0.01)
    (tmp_path / "bad.py").write_text(
        "from mtlbench import Strategy, register\n"
        "@register('bad')\n"
        "class Bad(Strategy):\n"
        "    def forward(self, step):\n"
        "        raise RuntimeError('not today')\n"
    )
    asked = ("--setup", SETUP, "--batch-size", "100", "--epochs", "1", "--seeds", "2", "--strategies", "bad")
    code, out, _ = run("bench", "--plugin", "bad.py", *asked, "--name", "b")
    assert code == 1
    assert "failed: RuntimeError: not today" in " ".join(out.split())
    assert "| bad | failed: RuntimeError: not today |" in (tmp_path / "results/b/README.md").read_text()


def test_an_interrupted_bench_says_how_to_resume(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr("mtlbench.bench.execution.execute", interrupted)
    code, _, err = run("bench", *TINY)
    assert code == 130
    assert len(err.splitlines()) == 1
    assert "resume" in err
