"""The report of a bench of hand-made stored runs: its README, CSV files and terminal output, the same every time."""

from __future__ import annotations

import base64
import csv
import gzip
import re
import tempfile
from pathlib import Path
from typing import NoReturn

import pytest
from rich.console import Console

from mtlbench.errors import UserError
from mtlbench.records.records import RunRecord
from mtlbench.records.store import Store
from mtlbench.report import tables, terminal
from mtlbench.report.model import Report
from mtlbench.report.writing import write_report
from tests.helpers.stored_benches import cost, make_store, stored

NUMBERS = {
    "digit_accuracy",
    "digit_accuracy_difference",
    "above_five_error_difference",
    "replicas",
    "cost_ratio",
    "replicas_one_replica",
    "cost_ratio_one_replica",
    "samples_per_second",
}
CSV_FILES = ("summary.csv", "scores.csv", "speeds.csv", "runs.csv", "curves.csv")
DERIVED = ("README.md", "report.html", *CSV_FILES)
RUNS = [
    stored("fixed", 0.9),
    stored("other", 0.92),
    stored("bad", None, error="ValueError: a | b <script>"),
    stored("single:digit", 0.91, only="digit"),
    stored("single:above_five", 0.5, only="above_five"),
]
COSTS = [cost("fixed", 10, 1.0), cost("other", 10, 1.25), cost("fixed", 1, 1.0), cost("other", 1, 1.5)]


@pytest.fixture
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    def save_none(*_: object) -> list[object]:
        return []

    monkeypatch.setattr("mtlbench.report.plots.save_all", save_none)


def readme_of(report: Report) -> str:
    return (report.folder / "README.md").read_text()


def summary_of(store: Store) -> dict[str, dict[str, str]]:
    with (store.folder / "summary.csv").open(newline="") as file:
        return {row["strategy"]: row for row in csv.DictReader(file)}


@pytest.mark.usefixtures("no_plots")
def test_the_summary_holds_scores_differences_and_cost(tmp_path: Path) -> None:
    store = make_store(tmp_path, RUNS, COSTS)
    write_report(store)
    rows = summary_of(store)
    assert list(rows) == [run.spec.label for run in RUNS]
    other = {name: float(value) for name, value in rows["other"].items() if value and name in NUMBERS}
    assert other["digit_accuracy"] == pytest.approx(0.9255)
    assert other["digit_accuracy_difference"] == pytest.approx(0.02)
    assert other["above_five_error_difference"] == pytest.approx(0)
    assert (other["replicas"], other["cost_ratio"]) == (10, 1.25)
    assert (other["replicas_one_replica"], other["cost_ratio_one_replica"]) == (1, 1.5)
    assert other["samples_per_second"] == pytest.approx(8_000, rel=0.01)
    assert rows["single:digit"]["above_five_error"] == rows["single:above_five"]["digit_accuracy"] == ""


@pytest.mark.usefixtures("no_plots")
def test_a_failed_strategy_has_its_row_and_error_and_no_numbers(tmp_path: Path) -> None:
    store = make_store(tmp_path, RUNS, COSTS)
    made = write_report(store)
    row = summary_of(store)["bad"]
    assert row.pop("problem") == "failed: ValueError: a | b <script>"
    assert (row.pop("setup"), row.pop("strategy")) == ("mnist", "bad")
    assert set(row.values()) == {""}
    assert any("bad failed" in note for note in made.notes)
    for name in ("runs.csv", "curves.csv"):
        assert "bad" not in (store.folder / name).read_text()


@pytest.mark.usefixtures("no_plots")
def test_what_a_plugin_says_cannot_break_the_readme(tmp_path: Path) -> None:
    text = readme_of(write_report(make_store(tmp_path, RUNS, COSTS)))
    (row,) = (line for line in text.splitlines() if line.startswith("| bad "))
    (headers,) = (line for line in text.splitlines() if line.startswith("| strategy "))
    assert "ValueError: a \\| b &lt;script" in row
    assert row.replace("\\|", "").count("|") == headers.count("|")
    assert "<script" not in text


@pytest.mark.usefixtures("no_plots")
@pytest.mark.parametrize("runs", [RUNS, [RUNS[0], RUNS[1]]], ids=["with notes", "without notes"])
def test_table_and_notes_of_the_readme_end_before_its_text_begins(tmp_path: Path, runs: list[RunRecord]) -> None:
    lines = readme_of(write_report(make_store(tmp_path, runs))).splitlines()
    for start in ("| ", "- "):
        ends = [i for i, line in enumerate(lines) if line.startswith(start) and not lines[i + 1].startswith(start)]
        assert ends
        assert all(lines[i + 1] == "" for i in ends)
    headings = [i for i, line in enumerate(lines) if line.startswith("## ")]
    assert all(lines[i - 1] == lines[i + 1] == "" for i in headings)


def test_the_readme_shows_every_plot_and_the_conditions(tmp_path: Path) -> None:
    store = make_store(tmp_path, RUNS, COSTS)
    made = write_report(store)
    text = readme_of(made)
    saved = [*made.plots, *made.setups[0].plots]
    assert made.plots
    assert made.setups[0].plots
    for path in (plot.png for plot in saved):
        assert path.is_file()
        assert path.with_suffix(".svg").is_file()
        assert f"](plots/{path.relative_to(store.folder / 'plots')})" in text
    pairs = dict(re.findall(r"^- ([a-z ]+): (.*)$", text, re.MULTILINE))
    assert (pairs["seeds"], pairs["epochs"], pairs["device"]) == ("12, paired", "2", "cpu")
    assert "64" in pairs["training"]
    assert "0.001" in pairs["training"]
    assert "6 interleaved rounds" in pairs["speed measured"]
    assert "Without scores: bad" in (store.folder / "plots" / "mnist" / "accuracy.svg").read_text()


@pytest.mark.usefixtures("no_plots")
def test_the_csv_files_saved_from_the_page_are_those_on_disk(tmp_path: Path) -> None:
    store = make_store(tmp_path, [*RUNS, stored("fixed", 0.8, setup="other"), stored("other", 0.7, setup="other")])
    write_report(store)
    page = (store.folder / "report.html").read_text()
    packed = dict(re.findall(r'<pre hidden id="(file-\d)">([^<]*)</pre>', page))
    buttons = dict(re.findall(r'data-file="(file-\d)" data-name="([^"]+)"', page))
    assert packed
    assert "summary.csv" in buttons.values()
    files = [gzip.decompress(base64.b64decode(text)) for text in packed.values()]
    assert files == [(store.folder / name).read_bytes() for name in CSV_FILES]
    assert buttons["file-1"] == "summary.csv"


@pytest.mark.usefixtures("no_plots")
def test_a_second_report_is_the_same_to_the_byte(tmp_path: Path) -> None:
    store = make_store(tmp_path, RUNS, COSTS)
    write_report(store)
    before = {name: (store.folder / name).read_bytes() for name in DERIVED}
    for name in DERIVED:
        (store.folder / name).unlink()
    write_report(store)
    assert {name: (store.folder / name).read_bytes() for name in DERIVED} == before


def test_a_bench_in_which_all_failed_has_a_report_without_plots(tmp_path: Path) -> None:
    runs = [stored(label, None, error="RuntimeError: no") for label in ("fixed", "other")]
    made = write_report(make_store(tmp_path, runs))
    assert made.plots == made.setups[0].plots == ()
    assert [row.problem for row in made.setups[0].table.rows] == ["failed: RuntimeError: no"] * 2


@pytest.mark.usefixtures("no_plots")
def test_a_bench_without_fixed_weights_has_no_differences(tmp_path: Path) -> None:
    runs = [stored("fixed", None, error="RuntimeError: no"), stored("other", 0.92)]
    made = write_report(make_store(tmp_path, runs))
    assert [cell.value for cell in made.setups[0].table.rows[1].cells][:2] == ["92.55", tables.NOTHING]


@pytest.mark.usefixtures("no_plots")
def test_the_terminal_shows_text_from_plugins_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [*RUNS, stored("worse", None, error="ValueError: [red]x[/red] [/]")]
    made = write_report(make_store(tmp_path, runs, COSTS))
    terminal.show(made, Console(width=160))
    out = capsys.readouterr().out
    assert "[red]x[/red] [/]" in out
    assert "92.55" in out
    assert str(made.folder / "README.md") in out


@pytest.mark.parametrize("runs", [None, []], ids=["no bench", "no runs"])
def test_a_report_of_nothing_is_refused(tmp_path: Path, runs: list[RunRecord] | None) -> None:
    store = Store(tmp_path / "made") if runs is None else make_store(tmp_path, runs)
    with pytest.raises(UserError, match="made"):
        write_report(store)
    assert not (tmp_path / "made" / "README.md").exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> NoReturn:
        raise PermissionError(13, "Permission denied")

    store = make_store(tmp_path, RUNS)
    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with pytest.raises(UserError, match="Permission denied") as raised:
        write_report(store)
    assert str(store.folder) in str(raised.value)


def long_report(folder: Path) -> Report:
    runs = [stored("fixed", 0.9), *(stored(f"method-{i}", 0.9 + i / 1000) for i in range(26))]
    runs += [stored("bad", None, error="ValueError: [b]much to say[/b]"), stored("single:digit", 0.9, only="digit")]
    return write_report(make_store(folder, runs, [cost(run.spec.label, 10, 1.5) for run in runs[:27]]))


@pytest.mark.usefixtures("no_plots")
@pytest.mark.parametrize(
    ("width", "shown"),
    [(84, ""), (105, "differences"), (120, "differences cost"), (150, "differences cost scores")],
)
def test_a_long_table_has_a_line_a_strategy_and_the_intervals_there_is_room_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], width: int, shown: str
) -> None:
    made = long_report(tmp_path)
    terminal.show(made, Console(width=width))
    lines = capsys.readouterr().out.splitlines()
    start = next(i for i, line in enumerate(lines) if "───" in line) + 1
    rows = [line.split() for line in lines[start : start + len(made.setups[0].table.rows)]]
    assert [row[0] for row in rows] == [row.label for row in made.setups[0].table.rows]
    assert all(len(line) <= width for line in lines[: start + len(rows)])
    cells = dict(
        zip(("scores", "differences", "cost"), (made.setups[0].table.rows[2].cells[i] for i in (0, 1, -1)), strict=True)
    )
    assert rows[2][0] == "method-1"
    assert {cell.value for cell in cells.values()} <= set(rows[2])
    text = " ".join(rows[2])
    assert {name for name, cell in cells.items() if f"{cell.value} {cell.interval}" in text} == set(shown.split())
    assert rows[-2] == ["bad", "failed"]
    assert "bad failed: ValueError: [b]much to say[/b]" in lines
