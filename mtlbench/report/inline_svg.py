"""Turns an SVG file of matplotlib into part of an HTML page: harmless, small, following its theme, with its marks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from xml.etree import ElementTree

from markupsafe import Markup

from mtlbench.report.figures.marks import Mark

LIGHT_INK, PAPER = 0xE6, 0x1C
"""Grey levels of black and white in the dark theme; those in between are interpolated."""
XLINK = "{http://www.w3.org/1999/xlink}href"
# fmt: off
DRAWN = frozenset({
    "svg", "g", "defs", "path", "rect", "circle", "ellipse", "line", "polyline", "polygon", "text", "tspan", "use",
    "clipPath", "image", "linearGradient", "radialGradient", "stop", "pattern", "marker", "mask",
})
"""Elements that are kept; scripts, links, foreign objects, metadata and style sheets (they would affect the whole page)
are removed."""
_GEOMETRY = frozenset({
    "d", "points", "x", "y", "x1", "y1", "x2", "y2", "cx", "cy", "r", "rx", "ry", "width", "height", "transform",
})
# fmt: on

_GREY = re.compile(r"#([0-9a-f]{2})\1\1(?![0-9a-f])", re.IGNORECASE)
_LONG = re.compile(r"(-?\d+\.\d\d)\d+")
_URL = re.compile(r"url\(\s*(['\"]?)(.*?)\1\s*\)")
_FONT = re.compile(r"font-family: 'DejaVu Sans'[^;]*;?\s*")
FONT = "'DejaVu Sans', Verdana, Arial, sans-serif"


def inline(svg: str, prefix: str, alt: str, marks: Mapping[str, Mark]) -> Markup:
    """The SVG as an element of an HTML page.

    Only drawn elements are kept. Ids that something refers to get the `prefix` (unique within the page), all others are
    removed. Greys become variables of the page, `var(--grey-33, #333333)`, so that a dark theme can change them. The
    group of a mark (`marks` are by its id) gets `data-strategy` and a `<title>`; ids that the SVG lacks (an empty line
    is not drawn) are ignored. `alt` describes the plot to readers who cannot see it.

    Raises:
        xml.etree.ElementTree.ParseError: the text is not XML.
    """
    root = ElementTree.fromstring(svg)
    _keep_drawn(root)
    size = root.get("viewBox", "0 0 648 360").split()
    for element in root.iter():
        element.tag = _local(element.tag)
        if element.tag == "g" and (mark := marks.get(element.get("id", ""))) is not None:
            title = ElementTree.Element("title")
            title.text = mark.tooltip
            element.insert(0, title)
            element.set("data-strategy", mark.strategy)
    used = {target for element in root.iter() for target in _targets(element)}
    for element in root.iter():
        element.attrib = {name: value for key in element.attrib for name, value in _attribute(element, key, prefix)}
        if (name := element.get("id")) is not None:
            if name in used:
                element.set("id", prefix + name)
            else:
                del element.attrib["id"]
        element.tail = None  # indentation
        if element.tag not in ("text", "tspan", "title"):
            element.text = None
    root.attrib = {
        "viewBox": " ".join(size),
        "role": "img",
        "aria-label": alt,
        "font-family": FONT,
        "stroke-linejoin": "round",  # what matplotlib's own style sheet says
        "style": f"fill: var(--grey-00, #000000); max-width: {float(size[2]) * 4 / 3:.0f}px",
    }
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def dark_greys(drawings: Iterable[str]) -> dict[str, str]:
    """Colour in the dark theme of each grey that the drawings use, by its two hexadecimal digits."""
    used = {level for drawing in drawings for level in re.findall(r"var\(--grey-([0-9a-f]{2}),", drawing)}
    dark = {level: round(LIGHT_INK + (PAPER - LIGHT_INK) * int(level, 16) / 255) for level in sorted(used)}
    return {level: f"#{grey:02x}{grey:02x}{min(255, grey + 3):02x}" for level, grey in dark.items()}


def themed(text: str) -> str:
    """Greys as variables of the page that default to the grey itself."""
    return _GREY.sub(lambda grey: f"var(--grey-{grey[1].lower()}, {grey[0].lower()})", text)


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]


def _keep_drawn(element: ElementTree.Element) -> None:
    for child in list(element):
        if _local(child.tag) in DRAWN:
            _keep_drawn(child)
        else:
            element.remove(child)


def _targets(element: ElementTree.Element) -> list[str]:
    hrefs = [value[1:] for key in (XLINK, "href") if (value := element.get(key, "")).startswith("#")]
    return hrefs + [url[2].removeprefix("#") for value in element.attrib.values() for url in _URL.finditer(value)]


def _attribute(element: ElementTree.Element, key: str, prefix: str) -> list[tuple[str, str]]:
    """The attribute as it is in the page; none if it could run or load something, or is not needed."""
    value = element.attrib[key]
    if key in (XLINK, "href"):
        if value.startswith("#"):
            return [("href", f"#{prefix}{value[1:]}")]
        picture = element.tag == "image" and value.startswith("data:image/png;base64,")
        return [("href", value)] if picture else []
    elsewhere = any(not match[2].startswith("#") for match in _URL.finditer(value))
    if "}" in key or key.startswith("on") or key == "class" or (elsewhere and key != "data-strategy"):
        return []
    if key in _GEOMETRY:
        value = _LONG.sub(r"\1", " ".join(value.split()))
    elif key == "style":
        value = themed(_FONT.sub("", value)).replace(": ", ":").replace("; ", ";")
    if key not in ("id", "data-strategy"):
        value = _URL.sub(lambda match: f"url(#{prefix}{match[2][1:]})", value)
    return [(key, value)]
