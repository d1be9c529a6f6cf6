"""The README of a bench, in Markdown."""

from __future__ import annotations

from mtlbench.report.model import Report
from mtlbench.templating import environment


def render(report: Report) -> str:
    """The README as text; texts of plug-ins cannot break its tables or insert HTML."""
    templates = environment("mtlbench.report", autoescape=False)
    templates.filters["md"] = _markdown
    return templates.get_template("bench.md.j2").render(report=report)


def _markdown(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|").replace("\n", " ")
