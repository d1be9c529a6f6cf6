"""Formulas that browsers render without a script: MathML for TeX, typographic HTML for docstrings."""

from __future__ import annotations

import html
import re

from latex2mathml.converter import convert

SYMBOLS = {"<=": "≤", ">=": "≥", "<-": "←", "...": "…"}
INDEX = re.compile(
    r"(?<![\w.])(?P<base>[A-Za-z]|sum|prod|min|max|mean|sigma|lambda|delta)_(?P<index>[A-Za-z0-9]{1,2})(?!\w)"
)
POWER = re.compile(r"\^(?P<power>-?\w+(?:/\w+)?|\([^()]*\))")
PRODUCT = re.compile(r"<(?P<inside>[^<>\s][^<>]*,[^<>]*?)>")


def to_mathml(page: str) -> str:
    """Return the page with MathML in place of the formulas that `pymdownx.arithmatex` marked."""

    def block(formula: re.Match[str]) -> str:
        return f'<div class="formula">{convert(html.unescape(formula["tex"]).strip(), display="block")}</div>'

    def inline(formula: re.Match[str]) -> str:
        return convert(html.unescape(formula["tex"]).strip())

    page = re.sub(r'<div class="arithmatex">\s*\\\[(?P<tex>.*?)\\\]\s*</div>', block, page, flags=re.DOTALL)
    return re.sub(r'<span class="arithmatex">\\\((?P<tex>.*?)\\\)</span>', inline, page, flags=re.DOTALL)


def typeset(text: str) -> str:
    """Convert the plain text of a docstring to Markdown.

    `w_t` gets a subscript, `x^2` a superscript, and `<a, b>` becomes an inner product. Text in backticks is unchanged.
    """
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else _typeset(part) for part in parts)


def _typeset(text: str) -> str:
    text = PRODUCT.sub(r"⟨\g<inside>⟩", text)
    for ascii_symbol, symbol in SYMBOLS.items():
        text = text.replace(ascii_symbol, symbol)
    text = html.escape(text, quote=False)
    text = POWER.sub(lambda match: f"<sup>{_plain(match['power'])}</sup>", text)
    text = INDEX.sub(lambda match: f"{_name(match['base'])}<sub>{match['index']}</sub>", text)
    return re.sub(r"([*_|\[\]])", r"\\\1", text)


def _plain(power: str) -> str:
    return power.removeprefix("(").removesuffix(")").replace("-", "−")


def _name(base: str) -> str:
    return {"sum": "∑", "prod": "∏"}.get(base, base)
