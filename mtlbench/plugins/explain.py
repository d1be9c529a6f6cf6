"""A strategy's description, read from the source that was stored with its run without executing it."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass

WEIGHTED = "weighted"


@dataclass(frozen=True)
class Explanation:
    """A strategy's docstring, first line and whole, its `heads`, and its hyper-parameters with their defaults."""

    about: str = ""
    description: str = ""
    heads: str = WEIGHTED
    hyper: tuple[tuple[str, str], ...] = ()


def explain(source: str, name: str) -> Explanation:
    """Find the class that a source registers under a name; empty if there is none, or the source is not Python."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return Explanation()
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and _is_registered_as(node, name):
            description = ast.get_docstring(node) or ""
            return Explanation(description.partition("\n")[0], description, _heads(node), tuple(_hyper(node)))
    return Explanation()


def _is_registered_as(node: ast.ClassDef, name: str) -> bool:
    calls = [decorator for decorator in node.decorator_list if isinstance(decorator, ast.Call)]
    return any(isinstance(value, ast.Constant) and value.value == name for call in calls for value in call.args)


def _heads(node: ast.ClassDef) -> str:
    values = (
        str(statement.value.value)
        for statement in node.body
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant)
        if any(isinstance(target, ast.Name) and target.id == "heads" for target in statement.targets)
    )
    return next(values, WEIGHTED)


def _hyper(node: ast.ClassDef) -> list[tuple[str, str]]:
    return [
        (argument.arg, "" if default is None else ast.unparse(default))
        for function in node.body
        if isinstance(function, ast.FunctionDef) and function.name == "__init__"
        for argument, default in zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True)
    ]


def cited(description: str) -> str:
    """The first paper after `Source:` in a strategy's description, as first author, venue and year; empty if none.

    It is expected as authors, "title", venue year; any other text is kept up to the first year.
    """
    source = re.search(r"^Source:\s*(.*?\b(?:19|20)\d\d)\b", description, re.DOTALL | re.MULTILINE)
    text = " ".join(source[1].split()) if source else ""
    paper = re.fullmatch(r'(?P<authors>[^"]+), "[^"]+", (?P<venue>[^"]+)', text)
    if paper is None:
        return text
    authors = re.split(r", | & ", paper["authors"])
    names = f"{authors[0]} et al." if len(authors) > 2 else " & ".join(authors)
    return f"{names}, {paper['venue']}"
