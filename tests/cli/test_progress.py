"""What a bench shows while it runs: bars on a terminal, lines in a log."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from mtlbench.bench.display import Display, ShownJob
from mtlbench.cli.progress import Bars, Lines, display
from mtlbench.engine.fitting import Progress

ODD = "mine:text=[red]x[/red],y=[/]:smile:"


def console(*, terminal: bool, height: int = 25) -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    return Console(file=out, force_terminal=terminal, width=150, height=height, color_system=None), out


def moved(done: float, score: float | None = None, *, metric: str = "accuracy", validated: bool = False) -> Progress:
    return Progress(done, 0.12345, score, metric, validated)


def plain(out: io.StringIO) -> list[str]:
    """The lines that were written, without the terminal's control sequences."""
    return re.sub(r"\x1b\[[0-9?;]*[A-Za-z]", "", out.getvalue()).replace("\r", "\n").splitlines()


@pytest.mark.parametrize("terminal", [True, False])
def test_a_terminal_gets_bars_and_a_log_gets_lines(terminal: bool) -> None:
    assert isinstance(display(console(terminal=terminal)[0]), Bars if terminal else Lines)


@pytest.mark.parametrize("terminal", [True, False])
def test_a_job_is_shown_from_start_to_end(terminal: bool) -> None:
    screen, out = console(terminal=terminal)
    with display(screen) as shown:
        shown.note("training 2 runs")
        one = ShownJob(shown, "one", 2)
        one.report(moved(0.5))
        one.report(moved(1, 0.9712, validated=True))
        one.report(moved(2, 0.9834, validated=True))
        one.end("test digit accuracy 98.10%")
        ShownJob(shown, "two", 2).end("failed: ValueError: no")
    lines = plain(out)
    for text in ("training 2 runs", r"one  \d+ s  test digit accuracy 98.10%", r"two  \d+ s  failed: ValueError: no"):
        assert sum(bool(re.search(text, line)) for line in lines) == 1, text
    text = "\n".join(lines)
    assert text.index("training 2 runs") < text.index("98.10%") < text.index("ValueError")
    assert terminal or "loss 0.1235" in text or "loss 0.1234" in text


@pytest.mark.parametrize("terminal", [True, False])
def test_markup_is_not_interpreted(terminal: bool) -> None:
    screen, out = console(terminal=terminal)
    with display(screen) as shown:
        shown.note(f"note {ODD}")
        job = ShownJob(shown, ODD, 1)
        job.report(moved(1, 0.5, validated=True))
        if isinstance(shown, Bars):
            assert ODD in "".join(plain(bars_of(shown)))
        job.end("failed: KeyError: [bold]k[/bold] [/]")
    text = "\n".join(plain(out))
    assert f"note {ODD}" in text
    assert f"{ODD}  0 s  failed: KeyError: [bold]k[/bold] [/]" in text


@pytest.mark.parametrize("terminal", [True, False])
def test_only_shares_are_shown_as_percentages(terminal: bool) -> None:
    screen, out = console(terminal=terminal)
    with display(screen) as shown:
        ShownJob(shown, "one", 1).report(moved(1, 12.5, metric="squared error", validated=True))
        seen = bars_of(shown) if isinstance(shown, Bars) else out
        assert "validation squared error 12.500 " in "\n".join(plain(seen))


def bars_of(shown: Bars) -> io.StringIO:
    """The bars as they look now."""
    screen, out = console(terminal=False)
    screen.print(shown.progress.get_renderable())
    return out


def test_bars_show_the_current_epoch() -> None:
    shown = Bars(console(terminal=True)[0])
    one = ShownJob(shown, "one", 3)
    one.report(moved(0))
    assert "epoch 0/3" in bars_of(shown).getvalue()
    for done, epoch in ((0.05, 1), (0.95, 1), (1.0, 2), (2.5, 3), (3.0, 3)):
        one.report(moved(done))
        assert f"epoch {epoch}/3" in bars_of(shown).getvalue()


def test_only_running_jobs_have_a_bar() -> None:
    screen, out = console(terminal=True, height=10)
    with Bars(screen) as shown:
        for i in range(40):
            job = ShownJob(shown, f"run{i}", 1)
            job.report(moved(1, 0.5, validated=True))
            assert bars_of(shown).getvalue().count("epoch") == 1
            job.end("lost" if i % 2 else "found")
        assert "epoch" not in bars_of(shown).getvalue()
    assert all(f"run{i}  0 s  {'lost' if i % 2 else 'found'}" in "\n".join(plain(out)) for i in range(40))


def test_a_line_is_printed_per_epoch() -> None:
    screen, out = console(terminal=False)
    with Lines(screen) as shown:
        one = ShownJob(shown, "one", 2)
        for step in range(1, 41):
            one.report(moved(step / 20))
            if step % 20 == 0:
                one.report(moved(step / 20, 0.9, validated=True))
    lines = [line for line in plain(out) if line]
    assert [re.sub(r"^\d\d:\d\d:\d\d  ", "", line)[:14] for line in lines] == ["one  started", *(
        f"one  epoch {epoch}/2" for epoch in (1, 2)
    )]  # fmt: skip
    assert lines[-1].endswith("left 0 s")


def test_an_interruption_restores_the_terminal() -> None:
    screen, out = console(terminal=True)

    def interrupted(shown: Display) -> None:
        with shown:
            ShownJob(shown, "one", 1).report(moved(0))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted(display(screen))
    assert out.getvalue().count("\x1b[?25h") == 1  # the cursor is shown again
