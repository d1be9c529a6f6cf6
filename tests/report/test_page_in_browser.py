"""The page in a browser, opened from disk: it asks for nothing, and its controls do what they say."""

from __future__ import annotations

import json
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from mtlbench.report.html import render
from tests.helpers import browser
from tests.helpers.pages import FRONT, make_report

SWITCHES = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --force-color-profile=srgb"
)
ROWS = """return [...document.querySelectorAll('.setup:not(.off) tbody tr')]
    .filter((row) => row.offsetHeight > 0).map((row) => row.dataset.label)"""
MARKS = """return [...new Set([...document.querySelectorAll('.setup:not(.off) .drawing [data-strategy]')]
    .filter((mark) => mark.getClientRects().length > 0).map((mark) => mark.dataset.strategy))]"""


class Opened:
    """A browser that shows the page."""

    def __init__(self, driver: Any, url: str) -> None:
        self.driver, self.url = driver, url

    def open(self, fragment: str = "") -> None:
        self.driver.get("about:blank")  # so that another fragment is another visit
        self.driver.get(f"{self.url}#{fragment}" if fragment else self.url)

    def run(self, script: str) -> Any:
        return self.driver.execute_script(script)

    def one(self, selector: str) -> Any:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def pick(self, label: str) -> None:
        self.one(f'.pick input[value="{label}"]').click()

    def head(self, column: str) -> Any:
        return self.one(f'.setup:not(.off) th[data-column="{column}"]')

    @property
    def rows(self) -> list[str]:
        return self.run(ROWS)

    @property
    def marks(self) -> list[str]:
        return self.run(MARKS)

    @property
    def fragment(self) -> str:
        return self.run("return location.hash.slice(1)")

    def size(self, width: int, height: int, *, mobile: bool = False) -> None:
        wanted = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", wanted)

    def media(self, scheme: str = "light", kind: str = "screen") -> None:
        wanted = {"media": kind, "features": [{"name": "prefers-color-scheme", "value": scheme}]}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", wanted)

    def complaints(self) -> list[str]:
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """Addresses asked for since the last call, other than of the empty page."""
        events = (json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance"))
        sent = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
        return [url for url in sent if url != "about:blank"]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Generator[Opened]:
    chromium, chromedriver = browser.find("chromium"), browser.find("chromedriver")
    folder: Path = tmp_path_factory.mktemp("page")
    path = folder / "report.html"
    path.write_text(render(make_report()), encoding="utf-8")
    options = Options()
    options.binary_location = chromium
    for switch in (*SWITCHES.split(), f"--user-data-dir={folder / 'browser'}"):
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    options.add_experimental_option(
        "prefs", {"download.default_directory": str(folder), "download.prompt_for_download": False}
    )
    driver = webdriver.Chrome(options=options, service=Service(chromedriver))
    try:
        yield Opened(driver, path.as_uri())
    finally:
        driver.quit()


@pytest.fixture
def page(opened: Opened) -> Generator[Opened]:
    """The page as at a first visit on a wide screen; afterwards nothing was complained about or asked for."""
    opened.size(1280, 900)
    opened.media()
    for log in (opened.complaints, opened.requests):
        log()  # what stands in a log is then gone from it
    opened.open()
    yield opened
    opened.run("localStorage.clear()")
    assert opened.complaints() == []
    asked = {url.partition("#")[0] for url in opened.requests()}
    assert {url for url in asked if not url.startswith(("data:", "blob:"))} == {opened.url}


def test_it_opens_with_the_main_setup_and_without_the_front(page: Opened) -> None:
    assert page.one("h1").is_displayed()
    assert page.one(".setup:not(.off) h2").text == "mnist"
    assert len(page.rows) == 10
    assert not set(FRONT) & set(page.rows)
    assert set(page.marks) == {"fixed", "famo", "gradnorm", "uncertainty", "single:digit", "single:above_five"}
    assert page.fragment == ""


def test_a_click_on_a_header_sorts_the_rows_best_first_then_turns_and_undoes(page: Opened) -> None:
    before = page.rows
    head, index = page.head("digit accuracy, %"), 1
    button = head.find_element(By.TAG_NAME, "button")

    def values() -> list[float]:
        script = f"""return [...document.querySelectorAll('.setup:not(.off) tbody tr:not(.off)')]
            .map((row) => row.cells[{index}]?.dataset.key).map((key) => key === undefined ? null : Number(key))"""
        found = page.run(script)
        known = [value for value in found if value is not None]
        assert found == known + [None] * (len(found) - len(known))  # what has no number stands last
        return known

    assert head.get_attribute("aria-sort") == "none"
    button.click()
    assert head.get_attribute("aria-sort") == "descending"
    assert values() == sorted(values(), reverse=True)
    button.click()
    assert head.get_attribute("aria-sort") == "ascending"
    assert values() == sorted(values())
    assert page.rows != before
    button.click()
    assert head.get_attribute("aria-sort") == "none"
    assert page.rows == before


def test_the_keyboard_sorts_and_keeps_its_place(page: Opened) -> None:
    page.head("digit accuracy, %").find_element(By.TAG_NAME, "button").send_keys(Keys.ENTER)
    assert page.head("digit accuracy, %").get_attribute("aria-sort") == "descending"
    active = page.driver.switch_to.active_element
    assert active.text.startswith("accuracy")
    active.send_keys(Keys.TAB)
    page.driver.switch_to.active_element.send_keys(Keys.SPACE)
    assert page.head("digit difference, points").get_attribute("aria-sort") == "descending"
    outline = "return getComputedStyle(document.activeElement).outlineStyle"
    assert page.run(outline) == "solid"


def test_the_first_stop_of_the_keyboard_skips_to_the_results(page: Opened) -> None:
    page.one("body").send_keys(Keys.TAB)
    skip = page.driver.switch_to.active_element
    assert skip.text == "Skip to the results"
    assert skip.rect["x"] >= 0
    skip.send_keys(Keys.ENTER)
    assert page.run("return document.activeElement.id") == "results"
    assert page.fragment == ""


def test_rows_are_filtered_by_text_and_by_role(page: Opened) -> None:
    page.one(".setup:not(.off) .filter").send_keys("famo")
    assert page.rows == ["famo", "tuned:famo"]
    assert page.one(".setup:not(.off) .rows-shown").text == "2 of 14 rows"
    page.one('.setup:not(.off) .role[value="tuned"]').click()
    assert page.rows == ["famo"]
    page.one(".setup:not(.off) .filter").send_keys("xyz")
    assert page.rows == []
    assert page.one(".setup:not(.off) .empty").is_displayed()
    page.open()
    page.one('.setup:not(.off) .role[value="front"]').click()
    assert set(FRONT) <= set(page.rows)


def test_picking_strategies_hides_rows_and_what_is_drawn_of_them(page: Opened) -> None:
    page.pick("famo")
    assert "famo" not in page.rows
    assert "famo" not in page.marks
    assert "tuned:famo" in page.rows
    page.one("#none").click()
    assert (page.rows, page.marks) == ([], [])
    page.pick("gradnorm")
    assert (page.rows, page.marks) == (["gradnorm"], ["gradnorm"])
    assert page.one("#picked").text == "1 of 14"
    page.one("#seek").send_keys("tuned")
    page.one("#all").click()  # of those that are listed
    assert set(page.rows) == {"gradnorm", *(f"tuned:{name}" for name in ("fixed", "famo", "gradnorm", "uncertainty"))}


def test_the_address_keeps_the_state(page: Opened) -> None:
    page.one('#setup option[value="mnist-aux-noise"]').click()
    assert page.one(".setup:not(.off) h2").text == "mnist-aux-noise"
    page.pick("famo")
    page.one('.setup:not(.off) .role[value="front"]').click()
    page.head("above_five error, %").find_element(By.TAG_NAME, "button").click()
    rows, marks, fragment = page.rows, page.marks, page.fragment
    page.open(fragment)
    assert (page.rows, page.marks, page.fragment) == (rows, marks, fragment)
    assert page.one("#setup").get_attribute("value") == "mnist-aux-noise"
    assert page.head("above_five error, %").get_attribute("aria-sort") == "ascending"
    assert not page.one('.pick input[value="famo"]').is_selected()
    page.one("#none").click()
    page.open(page.fragment)
    assert page.rows == []


def test_an_address_with_unknown_names_is_no_error(page: Opened) -> None:
    page.open("setup=nowhere&hide=nobody&sort=nothing&rows=strategy")
    assert page.rows == ["fixed", "famo", "gradnorm", "uncertainty"]


def test_a_row_leads_to_what_explains_its_strategy(page: Opened) -> None:
    page.one('.setup:not(.off) tr[data-label="tuned:famo"] a').click()
    details = page.one('details[data-name="famo"]')
    assert details.get_attribute("open")
    assert "\n\nWith z = softmax(xi)" in details.find_element(By.CSS_SELECTOR, ".description").text


def test_a_mark_tells_what_it_is(page: Opened) -> None:
    # Scrolling hides what is told, a frame after it was asked for.
    page.driver.execute_async_script("""const done = arguments[0];
        document.querySelector('.drawing').scrollIntoView({block: 'center'});
        requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done)))""")
    x, y = page.run("""const mark = document.querySelector('.drawing [data-strategy="famo"]:has(use)');
        const box = mark.querySelector('use').getBoundingClientRect();
        return [box.x + box.width / 2, box.y + box.height / 2]""")
    moved = {"type": "mouseMoved", "x": x, "y": y}
    page.driver.execute_cdp_cmd("Input.dispatchMouseEvent", moved)
    tip = page.one("#tip")
    assert tip.text.startswith("famo: ")
    assert tip.text.endswith(" %, 10 seeds")
    page.driver.execute_cdp_cmd("Input.dispatchMouseEvent", moved | {"x": 2, "y": 2})
    assert not tip.is_displayed()


def test_what_is_saved_is_the_data_and_a_figure_for_itself(page: Opened) -> None:
    page.run("""window.saved = []; const make = URL.createObjectURL;
        URL.createObjectURL = (blob) => { blob.text().then((text) => saved.push(text)); return make(blob); };
        HTMLAnchorElement.prototype.click = function () {};""")
    page.pick("famo")
    page.one(".setup:not(.off) .save").click()
    page.one(".setup:not(.off) .save-svg").click()
    script = """const done = arguments[0];
        const wait = () => saved.length < 2 ? setTimeout(wait, 20) : done(saved.toSorted()); wait();"""
    drawing, data = page.driver.execute_async_script(script)  # "<" comes before letters
    assert data == "strategy,setup,digit_accuracy\nfixed,mnist,0.9801\n"
    assert 'xmlns="http://www.w3.org/2000/svg"' in drawing
    assert "var(" not in drawing
    assert 'data-strategy="gradnorm"' in drawing
    assert 'data-strategy="famo"' not in drawing


@pytest.mark.parametrize("width", [390, 768, 1280])
def test_nothing_reaches_over_the_edge(page: Opened, width: int) -> None:
    page.size(width, 844, mobile=width < 500)
    page.run("for (const each of document.querySelectorAll('details')) each.open = true")
    assert page.run("return document.documentElement.scrollWidth") <= width
    if width == 390:
        assert not page.one("#picking").is_displayed()
        page.one("#unfold").click()
        assert page.one("#picking").is_displayed()
        assert page.run("return document.documentElement.scrollWidth") <= width


def test_the_dark_theme_follows_the_system_or_the_reader(page: Opened) -> None:
    ground = "return getComputedStyle(document.body).backgroundColor"
    ink = "return getComputedStyle(document.querySelector('.drawing text')).fill"
    light = page.run(ground), page.run(ink)
    page.media("dark")
    dark = page.run(ground), page.run(ink)
    assert dark[0] != light[0]
    assert dark[1] != light[1]
    page.one('#theme option[value="light"]').click()
    assert (page.run(ground), page.run(ink)) == light
    page.media("light")
    page.one('#theme option[value="dark"]').click()
    assert (page.run(ground), page.run(ink)) == dark
    page.open()
    assert page.run(ground) == dark[0]  # it is remembered


def test_print_has_no_controls_and_dark_ink(page: Opened) -> None:
    page.media("dark", "print")
    assert not page.one(".panel").is_displayed()
    assert not page.one(".setup:not(.off) .filters").is_displayed()
    assert page.one(".setup:not(.off) table").is_displayed()
    assert page.run("return getComputedStyle(document.querySelector('.drawing text')).fill") == "rgb(51, 51, 51)"
