"""The report of a bench as one page of HTML that needs nothing else: what it shows, and how it is written."""

from __future__ import annotations

import base64
import hashlib
import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mtlbench.records.roles import Role
from mtlbench.report.inline_svg import Mark, dark_greys, inline, themed
from mtlbench.report.tables import Cell, Table

QUESTION = (
    "Which weighting of the losses of a multi-task network should I use, what does it buy me, and what does it cost?"
)
ROLES: dict[Role, str] = {
    "strategy": "strategies",
    "tuned": "tuned",
    "front": "fixed-weight front",
    "single": "single-task baselines",
}
SUMMARY = "summary.csv"
SIGNS: dict[str, tuple[str, str]] = {
    "better": ("▲", "better than what it is compared with: the difference is shown"),
    "worse": ("▼", "worse than what it is compared with: the difference is shown"),
    "none shown": ("○", "no difference is shown, which does not show equality"),
    "too few seeds": ("?", "too few seeds to show any difference"),
}
"""A sign for each verdict, which does not need colour, and what it means."""
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")
_MARKERS = {
    "o": "M5 8a3 3 0 1 0 6 0a3 3 0 1 0-6 0z",
    "s": "M5.2 5.2h5.6v5.6H5.2z",
    "D": "M8 4l4 4l-4 4l-4-4z",
    "d": "M8 4l2.6 4l-2.6 4l-2.6-4z",
    "^": "M8 4.4l3.6 6.4H4.4z",
    "v": "M8 11.6l3.6-6.4H4.4z",
}


@dataclass(frozen=True)
class Label:
    """What can be picked and has a row and marks: a label with its role and its look.

    `strategy` is the name of the `Strategy` that explains it.
    """

    label: str
    role: Role
    strategy: str
    colour: str
    marker: str = "o"
    dashes: tuple[float, ...] = ()

    @property
    def swatch(self) -> Markup:
        """A line with a marker, as in the figures."""
        colour = themed(self.colour) if _COLOUR.fullmatch(self.colour) else "currentColor"
        dashes = Markup(' stroke-dasharray="{}"').format(" ".join(f"{d:g}" for d in self.dashes)) if self.dashes else ""
        return Markup(
            '<svg class="swatch" viewBox="-4 0 24 16" aria-hidden="true" style="color:{}">'
            '<path d="M-4 8H20" stroke="currentColor" stroke-width="2" fill="none"{}/>'
            '<path d="{}" fill="currentColor"/></svg>'
        ).format(colour, dashes, _MARKERS.get(self.marker, _MARKERS["o"]))


@dataclass(frozen=True)
class Figure:
    """A figure: `name` is that of its file; `svg` the whole SVG file; `csv` a key of the page's files, or empty."""

    name: str
    title: str
    how_to_read: str
    alt: str
    svg: str
    marks: Mapping[str, Mark] = field(default_factory=dict[str, Mark])
    csv: str = ""


@dataclass(frozen=True)
class Setup:
    """What is shown of one setup."""

    name: str
    about: str
    table: Table
    figures: tuple[Figure, ...] = ()


@dataclass(frozen=True)
class Tuning:
    """What was chosen for a strategy on one setup, and what the choice cost."""

    setup: str
    chosen: str
    trials: int
    seconds: float
    about: str = ""


@dataclass(frozen=True)
class Strategy:
    """What a strategy is: its description keeps its line breaks; `hyper` are pairs of name and default."""

    name: str
    about: str
    description: str
    source: str
    heads: str
    hyper: tuple[tuple[str, str], ...] = ()
    tuning: tuple[Tuning, ...] = ()
    file: str = ""
    code: str = ""


@dataclass(frozen=True)
class Page:
    """All that the page shows; the first setup is the main one.

    `files` are the CSV files that can be saved from the page, by name; `summary.csv` belongs to the table, others to
    the figures that name them.
    """

    bench: str
    answer: tuple[str, ...]
    conditions: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    labels: tuple[Label, ...]
    setups: tuple[Setup, ...]
    figures: tuple[Figure, ...]
    strategies: tuple[Strategy, ...]
    verdicts: str
    environment: tuple[tuple[str, str], ...]
    commands: tuple[str, ...]
    files: Mapping[str, str] = field(default_factory=dict[str, str])
    question: str = QUESTION


@dataclass(frozen=True)
class Said:
    """A verdict as it is shown: the words, a sign that does not need colour, the class, and the explanation."""

    words: str
    sign: str
    kind: str
    title: str


def render(page: Page) -> str:
    """The page as HTML: styles, script, figures and data are inside, and nothing is fetched."""
    environment = Environment(
        loader=PackageLoader("mtlbench.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    count = itertools.count(1)
    pictures = [
        [inline(figure.svg, f"f{next(count)}-", figure.alt, figure.marks) for figure in figures]
        for figures in (*(setup.figures for setup in page.setups), page.figures)
    ]
    script, style = (_part(environment, f"report.{kind}") for kind in ("js", "css"))
    return environment.get_template("report.html.j2").render(
        page=page,
        roles=ROLES,
        present=[role for role in ROLES if any(label.role == role for label in page.labels)],
        labels={label.label: label for label in page.labels},
        explained={strategy.name: number for number, strategy in enumerate(page.strategies, 1)},
        file_numbers={name: number for number, name in enumerate(page.files, 1)},
        summary=SUMMARY,
        pictures=pictures,
        greys=dark_greys([*itertools.chain(*pictures), *(label.swatch for label in page.labels)]),
        said=said,
        style=Markup(style),  # these two are files of this package
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def said(cell: Cell) -> Said | None:
    """How the verdict of a cell is shown; None without one."""
    if not cell.verdict:
        return None
    kind = cell.verdict if cell.verdict in ("better", "worse") else "open"
    sign, title = SIGNS[cell.verdict]
    return Said(cell.verdict, sign, kind, f"{title}. {cell.about}".strip() if cell.about else title)


def _part(environment: Environment, name: str) -> str:
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]
