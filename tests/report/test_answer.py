"""The wording of the answer, in one golden file; `python -m tests.report.test_answer` writes it anew."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from mtlbench.report.answer import answer
from mtlbench.stats.comparisons import scores_frame
from tests.helpers.scores import runs_of

GOLDEN = Path(__file__).with_name("answer.golden")
SPEEDS = pd.DataFrame({"strategy": ["fixed", "a"], "replicas": [10, 10], "ratio": [1.0, 1.3]})
TUNED = {"a": 0.0003, "tuned:fixed": 0.004, "tuned:a": 0.0042}
MANY = {f"s{i}": 0.01 + i / 1000 for i in range(6)}


def answers() -> str:
    """A paragraph per case: its name, then the sentences."""
    elsewhere = runs_of({"a": 0.01, "b": 0.012}, setup="mnist-aux-x100")
    unchanged = runs_of({"a": 0.0}, setup="mnist-aux-noise")
    of_no_share = runs_of({"a": 0.01}).assign(metric="R2")
    cases = {
        "winners and a loser": (runs_of({"a": 0.01, "b": -0.01, "c": 0.02}), SPEEDS),
        "one winner": (runs_of({"a": 0.01}), SPEEDS),
        "many winners": (runs_of(MANY), SPEEDS),
        "a loser": (runs_of({"a": -0.0005, "b": -0.01}), SPEEDS),
        "losers only": (runs_of({"a": -0.02, "b": -0.01}), SPEEDS),
        "not a share": (of_no_share, SPEEDS),
        "tuned, several setups": (pd.concat([runs_of(TUNED), elsewhere, unchanged]), SPEEDS),
        "one other setup with a gain": (pd.concat([runs_of(TUNED), elsewhere]), SPEEDS),
        "one other setup without gains": (pd.concat([runs_of(TUNED), unchanged]), SPEEDS),
        "too few seeds, speed not measured": (runs_of(MANY, seeds=7), SPEEDS.iloc[:0]),
        "nothing to compare": (runs_of({}), SPEEDS),
    }
    texts = {name: answer(scores_frame(runs), speeds, "mnist", "digit") for name, (runs, speeds) in cases.items()}
    return "\n".join("\n".join([f"[{name}]", *sentences, ""]) for name, sentences in texts.items())


def test_the_answer_reads_as_in_the_golden_file() -> None:
    assert answers() == GOLDEN.read_text(encoding="utf-8")


if __name__ == "__main__":
    GOLDEN.write_text(answers(), encoding="utf-8")
