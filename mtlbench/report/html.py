"""The HTML page of a report: one file that fetches nothing, with styles, script, plots and data inside."""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
from importlib import resources
from itertools import chain, count, zip_longest

from markupsafe import Markup

from mtlbench.records.roles import Role
from mtlbench.report.figures.style import Style
from mtlbench.report.inline_svg import dark_greys, inline, themed
from mtlbench.report.model import Report
from mtlbench.report.plots import SavedPlot
from mtlbench.templating import environment

ROOM, TABLES_AND_TEXT = 3_900_000, 700_000
"""Most bytes of a page, and how many are reserved for all but plots and data. Data come first; a plot that does not fit
any more is left out of the page and remains in `plots/` beside it."""
ROLES: dict[Role, str] = {
    "strategy": "strategies",
    "tuned": "tuned",
    "front": "fixed-weight front",
    "single": "single-task baselines",
}
"""Headings of the groups of labels."""
VERDICTS: dict[str, tuple[str, str, str]] = {
    "better": ("▲", "better", "significantly better than its reference"),
    "worse": ("▼", "worse", "significantly worse than its reference"),
    "none shown": ("○", "open", "not significant; this does not prove equality"),
    "too few seeds": ("?", "open", "too few seeds for any difference to be significant"),
}
"""For each verdict a sign that does not rely on colour, its CSS class, and its explanation."""
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")
_MARKERS = {
    "o": "M5 8a3 3 0 1 0 6 0a3 3 0 1 0-6 0z",
    "s": "M5.2 5.2h5.6v5.6H5.2z",
    "D": "M8 4l4 4l-4 4l-4-4z",
    "d": "M8 4l2.6 4l-2.6 4l-2.6-4z",
    "^": "M8 4.4l3.6 6.4H4.4z",
    "v": "M8 11.6l3.6-6.4H4.4z",
}


def render(report: Report) -> str:
    """The page as text. Texts of plug-ins are escaped; the security policy allows no script but the page's own."""
    templates = environment("mtlbench.report", autoescape=True)
    csv = {name: base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode() for name, text in report.csv.items()}
    drawings = _drawings(report, ROOM - TABLES_AND_TEXT - sum(map(len, csv.values())))
    swatches = {entry.label: swatch(entry.style) for entry in report.labels}
    folder = resources.files("mtlbench.report") / "templates"
    script, style = ((folder / name).read_text(encoding="utf-8") for name in ("report.js", "report.css"))
    return templates.get_template("report.html.j2").render(
        report=report,
        roles=ROLES,
        present=[role for role in ROLES if any(entry.role == role for entry in report.labels)],
        entries={entry.label: entry for entry in report.labels},
        swatches=swatches,
        explained={strategy.name: number for number, strategy in enumerate(report.strategies, 1)},
        csv=csv,
        csv_numbers={name: number for number, name in enumerate(csv, 1)},
        drawings=drawings,
        greys=dark_greys([*drawings.values(), *swatches.values()]),
        verdicts=VERDICTS,
        style=Markup(style),  # these two are files of this package
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _drawings(report: Report, room: int) -> dict[SavedPlot, Markup]:
    """The plots that fit into the page: first those of the main setup and across setups, then the others in turn."""
    main, *others = (section.plots for section in report.setups)
    in_turn = [plot for plots in zip_longest(*others) for plot in plots if plot is not None]
    number, drawings = count(1), dict[SavedPlot, Markup]()
    for plot in chain(main, report.plots, in_turn):
        drawing = inline(plot.svg, f"f{next(number)}-", plot.plot.alt, plot.marks)
        if len(drawing) <= room:
            room -= len(drawing)
            drawings[plot] = drawing
    return drawings


def swatch(style: Style) -> Markup:
    """A line with a marker, as in the plots."""
    colour = themed(style.colour) if _COLOUR.fullmatch(style.colour) else "currentColor"
    dashes = Markup(' stroke-dasharray="{}"').format(" ".join(f"{d:g}" for d in style.dashes)) if style.dashes else ""
    return Markup(
        '<svg class="swatch" viewBox="-4 0 24 16" aria-hidden="true" style="color:{}">'
        '<path d="M-4 8H20" stroke="currentColor" stroke-width="2" fill="none"{}/>'
        '<path d="{}" fill="currentColor"/></svg>'
    ).format(colour, dashes, _MARKERS.get(style.marker, _MARKERS["o"]))
