"""The HTML page: texts of hostile plug-ins are harmless, plots fit together, and the page stays small."""

from __future__ import annotations

import base64
import gzip
import re
import time
from dataclasses import fields, is_dataclass, replace
from html.parser import HTMLParser
from typing import Any

import pytest

from mtlbench.report.figures.marks import Mark
from mtlbench.report.figures.style import Style
from mtlbench.report.html import VERDICTS, render, swatch
from mtlbench.report.inline_svg import DRAWN, dark_greys, inline
from mtlbench.report.model import LabelEntry
from mtlbench.report.tables import Cell, Column, Row, Table
from tests.helpers.pages import curves, make_report

HOSTILE = "</pre><script>alert('x')</script>\"><img src=x onerror=alert(1)>'&</style>{{ 7 * 7 }}"
OPTIONAL = {"area", "base", "br", "col", "hr", "img", "input", "link", "meta", "wbr"}


class Elements(HTMLParser):
    """The elements of a page, each with its attributes, and the text outside of scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in OPTIONAL:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] not in (["script"], ["style"]):
            self.text.append(data)

    def values(self, name: str) -> list[str]:
        return [value for _, attributes in self.found if (value := attributes.get(name)) is not None]


def spoiled(thing: Any, name: str = "") -> Any:
    """The same with every text followed by a hostile one; names that refer to each other still do."""
    if isinstance(thing, str):
        return thing if not thing or name in ("role", "verdict", "svg") else thing + HOSTILE
    if isinstance(thing, tuple):
        return tuple(spoiled(part) for part in thing)  # pyright: ignore[reportUnknownVariableType]
    if isinstance(thing, dict):
        known = name == "marks"  # the ids are the figure's
        return {key if known else spoiled(key): spoiled(part) for key, part in thing.items()}  # pyright: ignore[reportUnknownVariableType]
    if is_dataclass(thing) and not isinstance(thing, type):
        return replace(thing, **{f.name: spoiled(getattr(thing, f.name), f.name) for f in fields(thing)})
    return thing


def shape(text: str) -> list[tuple[str, list[str]]]:
    return [(tag, sorted(attributes)) for tag, attributes in Elements(text).found]


def test_hostile_texts_change_no_element_and_no_attribute_of_the_page() -> None:
    # `summary.csv` has a button of its own, which a file of another name lacks.
    report = replace(make_report(), csv={"curves.csv": "a,b"})
    html = render(spoiled(report))
    assert shape(html) == shape(render(report))
    assert "<script>alert" not in html
    assert html.count("<script") == 1
    assert html.count("</style>") == 1
    elements = Elements(html)
    assert "".join(elements.text).count(HOSTILE) > 100
    for name in ("title", "aria-label", "data-strategy", "data-label", "data-setup", "data-column", "value"):
        assert any(HOSTILE in value for value in elements.values(name)), name


def test_hostile_labels_in_a_drawing_stay_text() -> None:
    saved = curves((LabelEntry(HOSTILE, "strategy", "x", Style("#0173b2")),), HOSTILE)
    elements = Elements(str(inline(saved.svg, "f1-", HOSTILE, saved.marks)))
    assert {tag for tag, _ in elements.found} <= {name.lower() for name in DRAWN} | {"title"}
    assert sum(HOSTILE in text for text in elements.text) >= 2


def test_a_hostile_colour_is_not_written() -> None:
    assert "red" not in swatch(Style('red" onload="alert(1)'))


def test_ids_are_unique_and_every_reference_has_its_target() -> None:
    elements = Elements(render(make_report()))
    ids = elements.values("id")
    assert len(ids) == len(set(ids))
    wanted = {value[1:] for value in elements.values("href") if value.startswith("#")}
    for name in ("aria-labelledby", "aria-controls", "data-file"):
        wanted |= set(elements.values(name))
    drawn = " ".join(value for _, attributes in elements.found for value in attributes.values() if value)
    wanted |= set(re.findall(r"url\(#([^)]+)\)", drawn))
    assert any(name.startswith("f1-") for name in wanted)
    assert wanted <= set(ids)


def test_marks_become_strategies_with_titles() -> None:
    svg = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><g id="a"><path d="M 0 0"/></g><g id="b"/></svg>'
    found = str(inline(svg, "f1-", 'what "it" shows', {"a": Mark("x<y", "1 & 2"), "gone": Mark("z", "")}))
    assert '<g data-strategy="x&lt;y"><title>1 &amp; 2</title><path d="M 0 0" /></g><g />' in found
    assert 'role="img" aria-label="what &quot;it&quot; shows"' in found
    saved = make_report().setups[0].plots[0]
    marked = Elements(str(inline(saved.svg, "f1-", "", saved.marks))).values("data-strategy")
    assert sorted(marked) == sorted(mark.strategy for mark in saved.marks.values())


def test_only_what_is_drawn_is_kept_of_a_figure() -> None:
    svg = """<?xml version="1.0"?><!DOCTYPE svg><svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 648 9" onload="a()"
      xmlns:xlink="http://www.w3.org/1999/xlink" width="648pt" height="9pt"><metadata>m</metadata><style>* {}</style>
      <script>alert(1)</script><defs><clipPath id="c"><path d="M 0.123456 1"/></clipPath><path id="p"/></defs>
      <a href="javascript:alert(1)"><path/></a><foreignObject><p/></foreignObject><image href="http://x.org/a.png"/>
      <g id="unused" clip-path="url(#c)"><use xlink:href="#p" onclick="a()" style="fill: url(http://x.org/b)"/></g>
      <text style="font-size: 9px; font-family: 'DejaVu Sans', serif; fill: #333333">&lt;b&gt;</text></svg>"""
    assert str(inline(svg, "f7-", "", {})) == (
        '<svg viewBox="0 0 648 9" role="img" aria-label="" font-family="\'DejaVu Sans\', Verdana, Arial, sans-serif" '
        'stroke-linejoin="round" style="fill: var(--grey-00, #000000); max-width: 864px">'
        '<defs><clipPath id="f7-c"><path d="M 0.12 1" /></clipPath><path id="f7-p" /></defs><image />'
        '<g clip-path="url(#f7-c)"><use href="#f7-p" /></g>'
        '<text style="font-size:9px;fill:var(--grey-33, #333333)">&lt;b&gt;</text></svg>'
    )


def test_greys_turn_and_colours_stay() -> None:
    report = make_report()
    drawn = str(inline(report.setups[0].plots[0].svg, "f1-", "", {}))
    assert "#0173b2" in drawn
    assert not re.search(r"(?<!, )#([0-9a-f]{2})\1\1\b", drawn)
    greys = dark_greys([drawn])
    light = [int(value[1:3], 16) for _, value in sorted(greys.items())]
    assert {"33", "ff"} <= set(greys) and light == sorted(light, reverse=True)
    assert f"--grey-33: {greys['33']}" in render(report)


@pytest.mark.parametrize("verdict", VERDICTS)
def test_a_verdict_has_a_sign_words_and_an_explanation(verdict: str) -> None:
    report = make_report()
    table = Table((Column("difference"),), (Row("famo", (Cell("+1.25", verdict=verdict),)),))
    html = render(replace(report, setups=(replace(report.setups[0], table=table, plots=()),)))
    sign, kind, title = VERDICTS[verdict]
    (cell,) = re.findall(r"<td[^>]*>(?:(?!</td>).)*\+1\.25", html)
    assert f'class="{kind}" title="{title}"' in cell
    assert f">{sign}</span>" in cell
    assert f">{verdict}</span>" in cell


def test_a_cell_without_a_verdict_has_no_sign() -> None:
    report = make_report()
    table = Table((Column("score"),), (Row("famo", (Cell("97.25"),)),))
    html = render(replace(report, setups=(replace(report.setups[0], table=table, plots=()),)))
    assert '<td><span class="value">97.25</span></td>' in html


def test_the_csv_files_in_the_page_are_exact() -> None:
    report = replace(make_report(), csv={"summary.csv": "a,b\n1,é\n", "runs.csv": "x" * 100_000})
    packed = re.findall(r'<pre hidden id="file-\d">([^<]*)</pre>', render(report))
    unpacked = [gzip.decompress(base64.b64decode(text)).decode() for text in packed]
    assert unpacked == list(report.csv.values())


def test_plots_that_do_not_fit_are_left_out_those_of_the_main_setup_last(monkeypatch: pytest.MonkeyPatch) -> None:
    report = make_report()
    kept = [len(render(report))]
    for room in (800_000, 740_000, 700_000):
        monkeypatch.setattr("mtlbench.report.html.ROOM", room)
        kept.append(len(render(report)))
    assert kept == sorted(kept, reverse=True)
    assert "<svg viewBox" not in render(report)


def test_columns_that_belong_together_stand_under_one_name() -> None:
    columns = (Column("a", "one"), Column("b", "one"), Column("c"))
    assert Table(columns, ()).groups == [("one", 2), ("", 1)]
    assert Table((Column("c"),), ()).groups == []


def test_a_report_of_one_setup_without_plots_notes_or_files_has_no_empty_parts() -> None:
    report = make_report()
    bare = replace(report, setups=(replace(report.setups[0], plots=()),), plots=(), notes=(), strategies=(), csv={})
    html = render(bare)
    for text in ('id="setup"', 'id="notes"', 'class="quiet save"', "<figure", 'id="across"'):
        assert text not in html


def test_a_large_page_is_small_and_quickly_rendered() -> None:
    report = make_report(tuple(f"method-{i}" for i in range(27)), ("mnist",), 30, 2)
    section = report.setups[0]
    nine = tuple(
        replace(section, name=f"setup-{i}", plots=tuple(replace(saved) for saved in section.plots)) for i in range(9)
    )
    begun = time.process_time()
    html = render(replace(report, setups=nine))
    assert time.process_time() - begun < 5
    assert len(html.encode()) < 4_000_000
    ids = re.findall(r' id="(f\d+-[^"]+)"', html)
    assert len(ids) == len(set(ids)) >= 28
