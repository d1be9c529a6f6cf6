"""The code and commands in README, CONTRIBUTING and docs/ work as they are written."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
import typer.main

from mtlbench.bench import planning, tune
from mtlbench.cli import app, scaffold
from mtlbench.contracts.collection import Collection, collecting
from mtlbench.errors import UserError
from mtlbench.plugins import discovery

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]
NOT_RUN = "Not run by the tests: it needs "
GIVEN = {
    "README.md": """
import torch
from torch import Tensor, nn
from mtlbench import Setup, Step, Strategy, classification, register, register_setup, regression
samples = held_out = lambda: None
model = nn.Sequential()
model.trunk = nn.Linear(3, 3)
losses = list(model.trunk(torch.randn(4, 3)).square().mean(0)[:2])
"""
}
"""Code that runs before the blocks of a page, which take its names as defined."""


def blocks_of(page: Path) -> list[str]:
    """The Python blocks of a page, except those whose title says why they are not run."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r'^```python(?: title="([^"\n]*)")?\n(.*?)^```$', text, re.DOTALL | re.MULTILINE)
    assert len(blocks) == len(re.findall(r"^```py", text, re.MULTILINE)), f"{page.name} has a block of another form"
    assert all(not title or re.fullmatch(f"{NOT_RUN}.+", title) for title, _ in blocks)
    return [code for title, code in blocks if not title]


@pytest.fixture
def registered() -> Generator[None]:
    """What a page registers is forgotten after it."""
    with collecting(Collection()):
        yield


@pytest.mark.parametrize("page", [page for page in PAGES if blocks_of(page)], ids=lambda page: page.stem)
@pytest.mark.usefixtures("registered")
def test_code_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "shown"}
    for block in (GIVEN.get(page.name, ""), *blocks_of(page)):
        exec(compile(block, page.name, "exec", dont_inherit=True), namespace)


def test_each_guide_has_code_that_runs() -> None:
    counts = {page.name: len(blocks_of(page)) for page in PAGES}
    assert counts["balancer.md"] == 6
    assert min(counts[name] for name in ("README.md", "strategy.md", "setup.md", "engine.md")) >= 2
    assert counts["verdicts.md"] >= 5


def commands(program: str) -> list[list[str]]:
    """The words of each distinct command of `program` in blocks without a language."""
    lines = [
        shlex.split(line, comments=True)
        for page in PAGES
        for language, block in re.findall(
            r"^```(.*?)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
        )
        for line in block.splitlines()
        if not language and line.startswith(f"{program} ")
    ]
    return [list(words) for words in dict.fromkeys(map(tuple, lines))]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Run a command; `bench` and `tune` end with `UserError("planned")` once their plan is made."""

    def ends(plan: Callable[..., object]) -> Callable[..., object]:
        def planned(*arguments: object) -> object:
            plan(*arguments)
            raise UserError("planned")

        return planned

    monkeypatch.setattr(planning, "plan", ends(planning.plan))
    monkeypatch.setattr(tune, "plan_tuning", ends(tune.plan_tuning))

    def run(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", list(words))
        with pytest.raises(SystemExit) as ended:
            app.main()
        return int(ended.value.code or 0), capsys.readouterr().err

    return run


@pytest.mark.usefixtures("registered")
def test_documented_commands_work(
    call: Callable[..., tuple[int, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "strategies", "strategies")
    Path("tests").mkdir()
    Path("setups").mkdir()
    monkeypatch.setattr(discovery, "strategies_folder", lambda: tmp_path / "strategies")
    monkeypatch.setattr(discovery, "setups_folder", lambda: tmp_path / "setups")
    scaffold.write("strategy", "mine", tmp_path)
    documented = commands("mtlbench")
    assert {words[1] for words in documented} >= {"bench", "tune", "list", "new", "check", "report"}
    # Those that write new files come first, because other commands use what they write.
    for words in sorted(documented, key=lambda words: not words[1].startswith("new")):
        if words[1] in ("new", "new-setup", "list", "check", "check-setup"):
            assert call(*words)[0] == 0, words
        elif words[1] in ("bench", "tune"):
            code, message = call(*words)
            assert code == 2, words
            assert "planned" in message or "mtlbench tune" in message, (words, message)
        else:
            program = typer.main.get_command(app.app)
            with program.make_context("mtlbench", words[1:]) as context:
                name, command, rest = program.resolve_command(context, words[1:])  # pyright: ignore
                command.make_context(name, rest, parent=context)


def test_make_clean_keeps_the_benches_that_are_kept_in_git() -> None:
    (line,) = re.findall(r"^\tfind results .*$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    kept = re.findall(r"^!results/(.*)/$", (ROOT / ".gitignore").read_text(encoding="utf-8"), re.MULTILINE)
    assert kept
    assert re.findall(r"! -name (\S+)", line) == kept


def test_documented_targets_of_make_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    named = {words[1] for words in commands("make")} | set(re.findall(r"`make ([a-z-]+)", text))
    assert {"bench", "test", "docs"} <= named <= targets
