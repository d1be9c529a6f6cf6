"""Jinja environments for the templates of the package."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined


def environment(package: str, *, autoescape: bool) -> Environment:
    """Environment for the folder `templates` of a package; an undefined name is an error, and blocks leave no lines."""
    return Environment(
        loader=PackageLoader(package),
        undefined=StrictUndefined,
        autoescape=autoescape,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
