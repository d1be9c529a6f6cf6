"""One-line summaries of errors are short and printable, whatever the errors' messages are."""

from __future__ import annotations

import pytest

from mtlbench.errors import LONGEST_LINE, first_line, in_one_line


class UnprintableError(Exception):
    """Cannot be written."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("no\nmore"), "ValueError: no"),
        (ValueError("  "), "ValueError"),
        (SystemExit(0), "SystemExit: 0"),
        (UnprintableError(), "UnprintableError"),
        (ValueError("\x1b[31mred\x07"), r"ValueError: \x1b[31mred\x07"),
        (type("\x1b[31mRed", (Exception,), {})("x"), r"\x1b[31mRed: x"),
        (OSError(2, "No such file or directory"), "FileNotFoundError: [Errno 2] No such file or directory"),
    ],
)
def test_a_summary_is_one_printable_line(error: BaseException, line: str) -> None:
    assert in_one_line(error) == line


@pytest.mark.parametrize("text", ["x" * 5_000_000, "\x07" * 5_000, "word " * 1_000])
def test_a_long_summary_is_cut(text: str) -> None:
    for line in (first_line(ValueError(text)), in_one_line(ValueError(text))):
        assert len(line) == LONGEST_LINE
        assert line.isprintable()
        assert line.endswith(" ...")


def test_a_summary_of_usual_length_is_complete() -> None:
    assert first_line("x" * LONGEST_LINE) == "x" * LONGEST_LINE
