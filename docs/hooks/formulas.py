"""Formulas as browsers show them by themselves: MathML for those in TeX, and typography for those of docstrings."""

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
    """A page of HTML with what `pymdownx.arithmatex` marked as a formula turned into MathML."""

    def block(found: re.Match[str]) -> str:
        return f'<div class="formula">{convert(html.unescape(found["tex"]).strip(), display="block")}</div>'

    def inline(found: re.Match[str]) -> str:
        return convert(html.unescape(found["tex"]).strip())

    page = re.sub(r'<div class="arithmatex">\s*\\\[(?P<tex>.*?)\\\]\s*</div>', block, page, flags=re.DOTALL)
    return re.sub(r'<span class="arithmatex">\\\((?P<tex>.*?)\\\)</span>', inline, page, flags=re.DOTALL)


def typeset(text: str) -> str:
    """Plain text of a docstring as Markdown: `w_t` and `x^2` with raised and lowered signs, `<a, b>` as a product.

    What stands between backticks is left as it is.
    """
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else _typeset(part) for part in parts)


def _typeset(text: str) -> str:
    text = PRODUCT.sub(r"⟨\g<inside>⟩", text)
    for written, symbol in SYMBOLS.items():
        text = text.replace(written, symbol)
    text = html.escape(text, quote=False)
    text = POWER.sub(lambda found: f"<sup>{_plain(found['power'])}</sup>", text)
    text = INDEX.sub(lambda found: f"{_name(found['base'])}<sub>{found['index']}</sub>", text)
    return re.sub(r"([*_|\[\]])", r"\\\1", text)


def _plain(power: str) -> str:
    return power.removeprefix("(").removesuffix(")").replace("-", "−")


def _name(base: str) -> str:
    return {"sum": "∑", "prod": "∏"}.get(base, base)
