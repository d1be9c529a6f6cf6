"""Pages that are made from what the code says of itself: one for each strategy, their list, the plots."""

from __future__ import annotations

import ast
import inspect
import re

from formulas import typeset

from mtlbench.cli import listing
from mtlbench.contracts.space import Space
from mtlbench.plugins.explain import cited
from mtlbench.plugins.needs import HOOKS, needs_of
from mtlbench.plugins.registry import Registry
from mtlbench.plugins.spec_text import written
from mtlbench.report.plots import OVERVIEW_PLOTS, PLOTS

HEADS = {"weighted": "w<sub>t</sub> dL<sub>t</sub>", "own": "dL<sub>t</sub>"}


def strategies_index(registry: Registry) -> str:
    """The list of all strategies, with links to their pages."""
    table = re.sub(r"^\| `([^`]+)` ", r"| [`\1`](\1.md) ", listing.markdown(registry), flags=re.MULTILINE)
    return f"""# Strategies

What each needs to see of a step decides what it costs; those that need least come first. `weighted` heads learn with
{HEADS["weighted"]} for head t, `own` ones with {HEADS["own"]}.

{table}
"""


def strategy_page(registry: Registry, name: str) -> str:
    """What a strategy computes, where it is from, what it takes and needs, and its file."""
    cls = registry.get(name)
    summary, *paragraphs = (inspect.getdoc(cls) or "").split("\n\n")
    described = "\n\n".join(_labelled(typeset(text)) for text in paragraphs if not text.startswith("Args:"))
    path = registry.source(name)
    return f"""---
hide: [toc]
---

# {name}

**{typeset(summary)}**

| source | needs | heads learn with |
| --- | --- | --- |
| {cited(inspect.getdoc(cls) or "")} | {needs_of(cls)} | {HEADS[cls.heads]} (`{cls.heads}`) |

{described}

## Hyper-parameters

{_hyper_table(registry, name)}

## Use it

```
mtlbench bench --name mine --strategies {name}
```

In [a loop of your own](../balancer.md): `Balancer("{name}", tasks=2{_given(needs_of(cls))})`.

## The file

`strategies/{path.name}`, but for the docstring, which is above:

```python
{_without_docstring(path.read_text(encoding="utf-8"), cls.__name__)}
```
"""


def plots_section() -> str:
    """Each plot of the reference bench under its title, with what the report says of it; it leads to its own file."""
    found = [("reference/plots", OVERVIEW_PLOTS), ("reference/plots/mnist", PLOTS)]
    return "\n\n".join(
        f"## {plot.title}\n\n{plot.how_to_read}\n\n[![{plot.alt}]({folder}/{file}.png)]({folder}/{file}.png)"
        for folder, plots in found
        for file, plot in plots.items()
    )


def _without_docstring(source: str, class_name: str) -> str:
    """The text of a file without the docstring of a class in it."""
    found = next(node for node in ast.parse(source).body if isinstance(node, ast.ClassDef) and node.name == class_name)
    docstring, lines = found.body[0], source.splitlines()
    assert isinstance(docstring, ast.Expr)
    del lines[docstring.lineno - 1 : (docstring.end_lineno or 0) + 1]  # and the empty line behind it
    return "\n".join(lines)


def _labelled(paragraph: str) -> str:
    """A paragraph with its label, as in `Source:`, in bold."""
    return re.sub(r"^((?:Source|Deviations?)[^:.]*:)", r"**\1**", paragraph)


def _hyper_table(registry: Registry, name: str) -> str:
    """Default, tuning space and description of each hyper-parameter; `heads` is every strategy's."""
    described, spaces = _arguments(inspect.getdoc(registry.get(name)) or ""), registry.spaces(name)
    rows = [
        f"| `{key}` | `{written(parameter.default)}` | {_in_code(spaces[key]) if key in spaces else '–'} "
        f"| {typeset(described[key])} |"
        for key, parameter in registry.parameters(name).items()
        if key != "heads"
    ]
    if not rows:
        return "None of its own. `mtlbench tune` tries learning rates of the network."
    note = "`mtlbench tune` keeps the default of what declares no space; the network's learning rate is tuned for all."
    head = ["| hyper-parameter | default | tuned over | what it is |", "| --- | --- | --- | --- |"]
    return "\n".join([*head, *rows, "", note])


def _in_code(space: Space) -> str:
    """A tuning space without the names of its fields."""
    return "`" + re.sub(r"\b[a-z]+=", "", str(space)) + "`"


def _arguments(description: str) -> dict[str, str]:
    """What a docstring says under `Args:`, by name."""
    listed = description.partition("Args:\n")[2]
    found = re.findall(r"^ {4}(\w+): (.*?)(?=^ {4}\w|\Z)", listed, re.DOTALL | re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in found}


def _given(needs: str) -> str:
    """What a `Balancer` has to be given for a strategy with these needs."""
    return "" if needs in ("losses", *HOOKS.values()) else ", shared=trunk"
