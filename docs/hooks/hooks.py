"""Hooks of mkdocs: pages from outside docs/, pages generated from the registry, links and formulas."""

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
"""The benches kept in git. Each becomes a page, and a folder of the same name with its plots and its report."""
ELSEWHERE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    **{f"{bench}/README.md": f"{page}.md" for bench, page in BENCHES.items()},
}
"""Pages whose source is outside docs/, by the path of the source."""
STRATEGIES = "strategies/"
PLOTS_MARK = "<!-- plots -->"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Replace `strategies/` in the navigation by a line for each strategy."""
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
    """Add the files that are not in docs/: pages of the repository, pages of strategies, plots of the kept benches."""
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
        path_in_site = _in_site(path.relative_to(ROOT).as_posix())
        files.append(File.generated(config, path_in_site, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Insert the plots, and translate links between files of the repository into links within the site."""
    text = markdown.replace(PLOTS_MARK, plots_section())
    source = next((source for source, target in ELSEWHERE.items() if target == page.file.src_uri), None)
    folder = posixpath.dirname(source or f"docs/{page.file.src_uri}")
    depth = page.file.src_uri.count("/")

    def translated(link: re.Match[str]) -> str:
        target, anchor = link["target"], link["anchor"] or ""
        if not target or re.match(r"[a-z]+:", target):
            return link[0]
        path = posixpath.normpath(posixpath.join(folder, target))
        return f"]({'../' * depth}{_in_site(path)}{anchor})"

    # The odd parts are code blocks.
    parts = re.split(r"(^```.*?^```$)", text, flags=re.DOTALL | re.MULTILINE)
    parts[::2] = [re.sub(r"\]\((?P<target>[^()\s#]*)(?P<anchor>#[^()\s]*)?\)", translated, part) for part in parts[::2]]
    return "".join(parts)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Convert formulas to MathML, which browsers render without a script, and put SVG images into the page.

    Within the page, an image has the colours of the theme.
    """
    folder = Path(page.file.abs_src_path or "").parent
    html = re.sub(r'<img [^>]*src="([^":]+\.svg)"[^>]*>', lambda image: (folder / image[1]).read_text("utf-8"), html)
    return to_mathml(html)


def on_post_build(config: MkDocsConfig) -> None:
    """Also write the search index as a script: pages that are opened from a folder may not fetch files."""
    folder = Path(config.site_dir, "search")
    index = (folder / "search_index.json").read_text(encoding="utf-8")
    (folder / "search_index.js").write_text(f"var __index = {index}", encoding="utf-8")


def _in_site(path: str) -> str:
    """Path in the site of a file of the repository; mkdocs reports the paths that do not exist."""
    if path in ELSEWHERE:
        return ELSEWHERE[path]
    for folder, folder_in_site in [*((f"{bench}/", f"{page}/") for bench, page in BENCHES.items()), ("docs/", "")]:
        if path.startswith(folder):
            return folder_in_site + path.removeprefix(folder)
    return path
