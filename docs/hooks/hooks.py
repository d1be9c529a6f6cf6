"""Hooks of mkdocs: pages that stand elsewhere in the repository, pages made from the registry, links and formulas."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from formulas import to_mathml
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from pages import plots_section, strategies_index, strategy_page

from mtlbench.plugins.registry import Registry

ROOT = Path(__file__).parents[2]
BENCHES = {"results/reference": "reference", "results/multimnist": "multimnist-bench"}
"""The benches that are kept, each a page, and a folder of that name with its plots and its report."""
ELSEWHERE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    **{f"{bench}/README.md": f"{page}.md" for bench, page in BENCHES.items()},
}
"""Pages whose text stands outside docs/, by where it stands."""
STRATEGIES = "strategies/"
PLOTS_MARK = "<!-- plots -->"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put a line for each strategy in the place of `strategies/` in the navigation."""
    pages = [
        f"{STRATEGIES}index.md",
        *({name: f"{STRATEGIES}{name}.md"} for name in sorted(Registry.load().strategies)),
    ]
    config.nav = [
        {title: pages if entry == STRATEGIES else entry for title, entry in section.items()}
        for section in config.nav or []
    ]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what does not stand under docs/: the repository's own pages, the strategies', the reference's plots."""
    for source, page in ELSEWHERE.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    registry = Registry.load()
    files.append(File.generated(config, f"{STRATEGIES}index.md", content=strategies_index(registry)))
    for name in registry.strategies:
        files.append(File.generated(config, f"{STRATEGIES}{name}.md", content=strategy_page(registry, name)))
    kept = [ROOT / "CITATION.cff", *(ROOT / "setups").glob("*.py")]
    for bench in BENCHES:
        kept += [*(ROOT / bench).glob("plots/**/*.png"), ROOT / bench / "report.html"]
    for path in sorted(kept):
        where = _in_site(path.relative_to(ROOT).as_posix())
        files.append(File.generated(config, where, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Fill in the plots, and lead links to where their targets stand in the site."""
    text = markdown.replace(PLOTS_MARK, plots_section())
    source = next((source for source, made in ELSEWHERE.items() if made == page.file.src_uri), None)
    folder = posixpath.dirname(source or f"docs/{page.file.src_uri}")
    depth = page.file.src_uri.count("/")

    def moved(link: re.Match[str]) -> str:
        target, anchor = link["target"], link["anchor"] or ""
        if not target or re.match(r"[a-z]+:", target):
            return link[0]
        inside = posixpath.normpath(posixpath.join(folder, target))
        return f"]({'../' * depth}{_in_site(inside)}{anchor})"

    # The odd parts are blocks of code.
    parts = re.split(r"(^```.*?^```$)", text, flags=re.DOTALL | re.MULTILINE)
    parts[::2] = [re.sub(r"\]\((?P<target>[^()\s#]*)(?P<anchor>#[^()\s]*)?\)", moved, part) for part in parts[::2]]
    return "".join(parts)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn formulas into MathML, which browsers show by themselves."""
    return to_mathml(html)


def on_post_build(config: MkDocsConfig) -> None:
    """Leave the search's index as a script too: pages opened from a folder may not fetch files."""
    folder = Path(config.site_dir, "search")
    index = (folder / "search_index.json").read_text(encoding="utf-8")
    (folder / "search_index.js").write_text(f"var __index = {index}", encoding="utf-8")


def _in_site(path: str) -> str:
    """Where a file of the repository stands in the site; one that is not there is left for mkdocs to complain about."""
    if path in ELSEWHERE:
        return ELSEWHERE[path]
    for inside, outside in [*((f"{bench}/", f"{page}/") for bench, page in BENCHES.items()), ("docs/", "")]:
        if path.startswith(inside):
            return outside + path.removeprefix(inside)
    return path
