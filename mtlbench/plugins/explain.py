"""What a strategy is, read off the source that was stored with its run: nothing of it is executed."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

OWN, WEIGHTED = "own", "weighted"


@dataclass(frozen=True)
class Explanation:
    """A strategy's first line and whole description, what its heads learn with, and its hyper-parameters."""

    about: str = ""
    description: str = ""
    heads: str = WEIGHTED
    hyper: tuple[tuple[str, str], ...] = ()


def explain(source: str, name: str) -> Explanation:
    """Find the class that is registered under a name; a source that has none, or is no Python, explains nothing."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return Explanation()
    found = next((node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and _is(node, name)), None)
    if found is None:
        return Explanation()
    description = ast.get_docstring(found) or ""
    heads = next((value for key, value in _assigned(found) if key == "heads"), WEIGHTED)
    return Explanation(description.partition("\n")[0], description, heads, tuple(_hyper(found)))


def _is(node: ast.ClassDef, name: str) -> bool:
    return any(
        isinstance(call, ast.Call)
        and any(isinstance(given, ast.Constant) and given.value == name for given in call.args)
        for call in node.decorator_list
    )


def _assigned(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for statement in node.body:
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant):
            for target in statement.targets:
                if isinstance(target, ast.Name):
                    yield target.id, str(statement.value.value)


def _hyper(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for function in node.body:
        if isinstance(function, ast.FunctionDef) and function.name == "__init__":
            for argument, default in zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True):
                yield argument.arg, "" if default is None else ast.unparse(default)


def cited(description: str) -> str:
    """The first paper that a strategy's description names behind `Source:`, as first author and year; else empty.

    It is written as authors, "title", venue year; anything else is taken as it stands, up to the first year.
    """
    found = re.search(r"^Source:\s*(.*?\b(?:19|20)\d\d)\b", description, re.DOTALL | re.MULTILINE)
    text = " ".join(found[1].split()) if found else ""
    paper = re.fullmatch(r'(?P<authors>[^"]+), "[^"]+", (?P<venue>[^"]+)', text)
    if paper is None:
        return text
    authors = re.split(r", | & ", paper["authors"])
    names = f"{authors[0]} et al." if len(authors) > 2 else " & ".join(authors)
    return f"{names}, {paper['venue']}"
