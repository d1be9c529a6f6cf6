"""The site builds without warnings, has the pages generated from the code, and needs no network."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from mtlbench.plugins.registry import Registry
from mtlbench.report.plots import OVERVIEW_PLOTS, PLOTS
from tests.helpers import browser

ROOT = Path(__file__).parents[2]


class Sources(HTMLParser):
    """The scripts, pictures and style sheets that a page loads."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag in ("script", "img", "iframe", "source", "video"):
            self.addresses.append(values.get("src") or "")
        elif tag == "link" and values.get("rel") != "canonical":
            self.addresses.append(values.get("href") or "")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as `make docs` builds it."""
    folder = tmp_path_factory.mktemp("docs") / "site"
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_site_needs_no_network(site: Path) -> None:
    for page in site.rglob("*.html"):
        if page.name == "404.html":
            continue  # its links start at the root of a server
        for source in filter(None, Sources(page).addresses):
            assert ":" not in source.removeprefix("data:"), (page, source)
            assert source.startswith("data:") or (page.parent / source.partition("?")[0]).is_file(), (page, source)
    for sheet in site.rglob("*.css"):
        assert not re.search(r"@import|url\(['\"]?(https?:|//)", sheet.read_text(encoding="utf-8"))


def test_each_strategy_has_its_page(site: Path, registry: Registry) -> None:
    for name in registry.strategies:
        page = (site / "strategies" / f"{name}.html").read_text(encoding="utf-8")
        assert "Source:" in page
        assert f"strategies/{registry.source(name).name}" in page
        assert all(f"<code>{key}</code>" in page for key in registry.parameters(name) if key != "heads")


def test_plots_are_explained_as_in_the_report(site: Path) -> None:
    page = (site / "plots.html").read_text(encoding="utf-8")
    for plot in [*PLOTS.values(), *OVERVIEW_PLOTS.values()]:
        assert plot.how_to_read.replace("'", "&#39;") in page or plot.how_to_read in page
        assert f'alt="{plot.alt}"' in page


def test_formulas_are_mathml(site: Path) -> None:
    pages = {path.name: path.read_text(encoding="utf-8") for path in site.glob("*.html")}
    assert pages["engine.html"].count('display="block"') >= 8
    assert not any("arithmatex" in text or "$$" in text for text in pages.values())


def test_the_search_works_on_pages_opened_from_a_folder(site: Path, tmp_path: Path) -> None:
    chromium = browser.find("chromium")
    switches = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=20000", "--dump-dom"]
    address = f"{(site / 'changelog.html').as_uri()}?q=gramian"
    shown = subprocess.run(
        [chromium, *switches, f"--user-data-dir={tmp_path}", address],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    ).stdout
    links = re.findall(r'<a href="([^"]*)" class="md-search-result__link"', shown)
    assert any("engine.html" in link for link in links)
    assert any("strategies/pcgrad.html" in link for link in links)


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("w_t L_t", "w<sub>t</sub> L<sub>t</sub>"),
        ("|d|^2 and k^-s", r"\|d\|<sup>2</sup> and k<sup>−s</sup>"),
        ("sum_t <d, g_t>^(1 - alpha)", "∑<sub>t</sub> ⟨d, g<sub>t</sub>⟩<sup>1 − alpha</sup>"),
        ("p <- q, q < 0, v >= 1", "p ← q, q &lt; 0, v ≥ 1"),
        ("`norm_eps=0` of warm_up", r"`norm_eps=0` of warm\_up"),
    ],
)
def test_docstrings_are_typeset(written: str, shown: str) -> None:
    typeset = runpy.run_path(str(ROOT / "docs" / "hooks" / "formulas.py"))["typeset"]
    assert typeset(written) == shown
