"""Two benches compared: what differs in their conditions, and in their scores, paired by seed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from mtlbench.cli.compare import show
from mtlbench.errors import UserError
from mtlbench.records.records import RunRecord
from mtlbench.records.store import Store
from mtlbench.stats import two_benches
from tests.helpers.stored_benches import ENVIRONMENT, SEEDS, make_store, stored


def noisy(label: str, gain: float, stream: int) -> RunRecord:
    rng = np.random.default_rng(stream)
    shared = np.random.default_rng(99).normal(0, 0.01, len(SEEDS))
    scores = [[0.9 + gain + s + rng.normal(0, 0.001), 0.05 + rng.normal(0, 0.001)] for s in shared]
    return stored(label, 0.9, scores=scores)


def test_what_changed_is_found_and_what_did_not_is_counted(tmp_path: Path) -> None:
    before = make_store(tmp_path, [noisy("fixed", 0, 1), noisy("moved", 0, 2), noisy("gone", 0, 3)], name="before")
    after = make_store(tmp_path, [noisy("fixed", 0, 1), noisy("moved", 0.01, 4), noisy("new", 0, 5)], name="after")
    found = two_benches.versus(before, after)
    rows = found.scores.set_index(["strategy", "task"])
    assert rows.loc[("moved", "digit"), "verdict"] == "better"
    assert rows.loc[("moved", "digit"), "difference"] == pytest.approx(0.01, abs=1e-3)
    assert rows.loc[("moved", "above_five"), "verdict"] == "none shown"
    assert found.scores[found.scores["strategy"] == "fixed"]["p"].tolist() == [1, 1]
    assert found.identical == 2
    assert found.only == (["mnist gone"], ["mnist new"])
    assert found.conditions == []


def test_conditions_that_differ_are_named(tmp_path: Path) -> None:
    other = ENVIRONMENT.model_copy(update={"machine": "another", "versions": {"torch": "3"}, "commit": "abc"})
    before = make_store(tmp_path, [noisy("fixed", 0, 1)], name="before")
    after = make_store(tmp_path, [noisy("fixed", 0, 1)], name="after", environment=other)
    found = two_benches.versus(before, after)
    assert found.conditions == ["machine a machine, not another", "commit unknown, not abc", "torch 2, not 3"]


def test_it_is_printed_with_its_verdicts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = make_store(tmp_path, [noisy("fixed", 0, 1), noisy("moved", 0, 2)], name="before")
    after = make_store(tmp_path, [noisy("fixed", 0, 1), noisy("moved", -0.01, 4)], name="after")
    show(two_benches.versus(before, after), Console(width=140))
    out = capsys.readouterr().out
    assert "1 worse" in out
    first = next(line for line in out.splitlines() if line.lstrip().startswith("mnist"))
    assert "moved" in first
    assert "-1.0" in first


def test_comparing_benches_does_not_load_the_plots() -> None:
    code = "import sys, mtlbench.cli.compare, mtlbench.stats.two_benches; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_benches_without_a_common_run_are_refused(tmp_path: Path) -> None:
    one = make_store(tmp_path, [noisy("fixed", 0, 1)], name="one")
    other = make_store(tmp_path, [noisy("other", 0, 1)], name="other")
    with pytest.raises(UserError, match=r"one.*other"):
        two_benches.versus(one, other)
    with pytest.raises(UserError, match="absent"):
        two_benches.versus(one, Store(tmp_path / "absent"))
