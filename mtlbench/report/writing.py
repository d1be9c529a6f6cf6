"""Writes the report of a bench from its stored runs: CSV files, plots, README and HTML page."""

from __future__ import annotations

from mtlbench.records.store import Store
from mtlbench.report import html, plots, readme
from mtlbench.report.contents import assemble
from mtlbench.report.model import Report
from mtlbench.stats.findings import read


def write_report(store: Store) -> Report:
    """Write the CSV files, `plots/`, `README.md` and `report.html` of a bench.

    Raises:
        UserError: there is no such bench, it has no runs yet, a stored file cannot be read, or its folder cannot be
            written.
    """
    findings = read(store)
    store.prepare()
    report = assemble(findings, store.folder, plots.draw_all(findings, store.folder / "plots"))
    texts = {**report.csv, "README.md": readme.render(report), "report.html": html.render(report)}
    for name, text in texts.items():
        store.write(name, text)
    return report
