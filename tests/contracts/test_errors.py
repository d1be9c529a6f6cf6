"""What is said of others' errors is one line that can be read, whatever they say themselves."""

from __future__ import annotations

import pytest

from mtlbench.errors import LONGEST_LINE, first_line, in_one_line


class SpeechlessError(Exception):
    """Cannot be written."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("no\nmore"), "ValueError: no"),
        (ValueError("  "), "ValueError"),
        (SystemExit(0), "SystemExit: 0"),
        (SpeechlessError(), "SpeechlessError"),
        (ValueError("\x1b[31mred\x07"), r"ValueError: \x1b[31mred\x07"),
        (type("\x1b[31mRed", (Exception,), {})("x"), r"\x1b[31mRed: x"),
        (OSError(2, "No such file or directory"), "FileNotFoundError: [Errno 2] No such file or directory"),
    ],
)
def test_an_error_is_said_in_one_printable_line(error: BaseException, line: str) -> None:
    assert in_one_line(error) == line


@pytest.mark.parametrize("text", ["x" * 5_000_000, "\x07" * 5_000, "word " * 1_000])
def test_a_long_line_is_cut(text: str) -> None:
    for line in (first_line(ValueError(text)), in_one_line(ValueError(text))):
        assert len(line) == LONGEST_LINE
        assert line.isprintable()
        assert line.endswith(" ...")


def test_a_line_of_usual_length_is_whole() -> None:
    assert first_line("x" * LONGEST_LINE) == "x" * LONGEST_LINE
