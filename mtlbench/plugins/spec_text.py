"""The text `name:hyper=value` of a strategy: taken apart, checked against a signature, and written back."""

from __future__ import annotations

import ast
import ctypes
import inspect
import keyword
import math
import re
from collections.abc import Iterable, Mapping

from pydantic import ConfigDict, TypeAdapter, ValidationError

from mtlbench.errors import UserError

QUOTED_OR_CHARACTER = re.compile(r"""'(?:\\.?|[^'\\])*(?:'|\Z)|"(?:\\.?|[^"\\])*(?:"|\Z)|.""", re.DOTALL)


def split_specs(texts: Iterable[str]) -> list[str]:
    """Take apart the values of `--strategies`: spaces separate strategies, and so do commas before the first colon."""
    specs: list[str] = []
    for word in (word for text in texts for word in _outside_brackets(text)):
        head, colon, arguments = word.partition(":")
        *plain, last = head.split(",")
        specs += [*plain, last + colon + arguments]
    return list(filter(None, specs))


def read_arguments(text: str, arguments: str, order: list[str]) -> list[tuple[str, object]]:
    """The hyper-parameters in `arguments` by name; a bare value is for the first one of `order`.

    Unreadable ones are a UserError that quotes `text`.
    """
    if not arguments:
        return []
    try:
        call = ast.parse(f"f({arguments})", mode="eval").body
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and len(call.args) <= 1):
            raise ValueError
        pairs = [(order[0], _literal(node)) for node in call.args]
        pairs += [(keyword.arg or "**", _literal(keyword.value)) for keyword in call.keywords]
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        raise UserError(
            f"cannot read the hyper-parameters of {text!r}: write name:hyper=value,hyper=value, "
            f"as in gradnorm:alpha=0.5 or fixed:weights=[1,0.1], and separate strategies by spaces"
        ) from None
    keys = [key for key, _ in pairs]
    for key in keys:
        if keys.count(key) > 1:
            raise UserError(f"{text}: {key} must be given once; found {keys.count(key)} values")
    return pairs


class _WordsAsText(ast.NodeTransformer):
    def visit_Name(self, node: ast.Name) -> ast.Constant:
        return ast.Constant(node.id)


def _literal(node: ast.expr) -> object:
    """A Python literal, in which a bare word is a string."""
    return ast.literal_eval(_WordsAsText().visit(node))


def typed(parameter: inspect.Parameter, value: object) -> object:
    """The value converted to the parameter's annotated type, such as a list to a tuple."""
    annotation = object if parameter.annotation is parameter.empty else parameter.annotation
    return TypeAdapter(annotation, config=ConfigDict(strict=False)).validate_python(value)


def checked_value(text: str, parameter: inspect.Parameter, value: object) -> object:
    """The value as it is stored; a UserError that quotes `text` if it has another type or leaves float32's range."""
    try:
        checked = as_lists(typed(parameter, value))
    except ValidationError as error:
        expected = error.errors()[0]["msg"]
        raise UserError(f"{text}: {parameter.name} is {value!r}, but: {expected}") from None
    if not _in_float32(checked):
        raise UserError(f"{text}: {parameter.name} is {value!r}, but: float32 holds no number of that size")
    return checked


def as_lists(value: object) -> object:
    """Tuples as lists, as they are stored."""
    return [as_lists(item) for item in value] if isinstance(value, tuple | list) else value


def _in_float32(value: object) -> bool:
    """True if in float32, which is trained in, no finite number becomes infinite, and no other number zero."""
    if isinstance(value, list):
        return all(map(_in_float32, value))
    if not isinstance(value, float) or not math.isfinite(value):
        return True
    single = ctypes.c_float(value).value
    return math.isfinite(single) and bool(single) == bool(value)


def written(value: object) -> str:
    """A hyper-parameter's value as on the command line; `...` for the default of one that has none."""
    if value is inspect.Parameter.empty:
        return "..."
    if isinstance(value, tuple | list):
        return f"[{','.join(map(written, value))}]"
    if isinstance(value, str):
        plain = value.isidentifier() and value.isascii() and not keyword.iskeyword(value)
        return value if plain else repr(value)
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)


def defaults(parameters: Mapping[str, inspect.Parameter]) -> list[str]:
    """Hyper-parameters with their defaults, as on the command line."""
    return [f"{key}={written(parameter.default)}" for key, parameter in parameters.items()]


def settings_text(lr: float, hyper: Mapping[str, object]) -> str:
    """The settings of a tuning trial: the network's learning rate, and the hyper-parameters as on the command line."""
    return ", ".join([f"learning rate {lr:g}", *(f"{key}={written(value)}" for key, value in hyper.items())])


def _outside_brackets(text: str) -> list[str]:
    """Split at white space, except in brackets and in quoted text."""
    depth, words = 0, [""]
    for part in QUOTED_OR_CHARACTER.findall(text):
        depth += (part in "[(") - (part in "])")
        if part.isspace() and depth <= 0:
            words.append("")
        else:
            words[-1] += part
    return list(filter(None, words))
