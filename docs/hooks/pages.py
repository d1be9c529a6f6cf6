"""Pages generated from the code: one for each strategy, the list of strategies, the plots."""

from __future__ import annotations

import ast
import inspect
import re

from formulas import typeset

from mtlbench.cli import listing
from mtlbench.contracts.space import Space
from mtlbench.plugins.needs import HOOKS
from mtlbench.plugins.registry import Registry
from mtlbench.plugins.spec_text import written
from mtlbench.report.plots import OVERVIEW_PLOTS, PLOTS

HEADS = {"weighted": "w<sub>t</sub> dL<sub>t</sub>", "own": "dL<sub>t</sub>"}


def strategies_index(registry: Registry) -> str:
    """The page that lists all strategies, with links to their pages."""
    table = re.sub(r"^\| `([^`]+)` ", r"| [`\1`](\1.md) ", listing.markdown(registry), flags=re.MULTILINE)
    return f"""# Strategies

Strategies are grouped by family. The cost of a strategy depends on what it needs to know about a step; those that need
least come first. A strategy for `positive` losses computes logarithms or ratios of them. Head t of a `weighted`
strategy learns from {HEADS["weighted"]}, and that of an `own` strategy from {HEADS["own"]}.

{table}
"""


def strategy_page(registry: Registry, name: str) -> str:
    """The page of a strategy: formula, source, needs, hyper-parameters, use and file."""
    cls = registry.get(name)
    summary, *paragraphs = (inspect.getdoc(cls) or "").split("\n\n")
    described = "\n\n".join(_labelled(typeset(text)) for text in paragraphs if not text.startswith("Args:"))
    path, row = registry.source(name), listing.entry_of(cls, registry)
    return f"""---
hide: [toc]
---

# {name}

**{typeset(summary)}**

| family | source | needs | losses | heads learn from |
| --- | --- | --- | --- | --- |
| {row.family} | {row.source} | {row.needs} | {row.losses} | {HEADS[row.heads]} (`{row.heads}`) |

{described}

## Hyper-parameters

{_hyper_table(registry, name)}

## Use it

```
mtlbench bench --name mine --strategies {name}
```

In [a loop of your own](../balancer.md): `Balancer("{name}", tasks=2{_further_arguments(row.needs)})`.

## The file

`strategies/{path.name}`, without the docstring, which is shown above:

```python
{_without_docstring(path.read_text(encoding="utf-8"), cls.__name__)}
```
"""


def plots_section() -> str:
    """Each plot of the reference bench with its title and explanation, as a link to its file."""
    plots_by_folder = [("reference/plots", OVERVIEW_PLOTS), ("reference/plots/mnist", PLOTS)]
    return "\n\n".join(
        f"## {plot.title}\n\n{plot.how_to_read}\n\n[![{plot.alt}]({folder}/{file}.png)]({folder}/{file}.png)"
        for folder, plots in plots_by_folder
        for file, plot in plots.items()
    )


def _without_docstring(source: str, class_name: str) -> str:
    """The source of a file without the docstring of one of its classes."""
    classes = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]
    docstring, lines = next(node for node in classes if node.name == class_name).body[0], source.splitlines()
    assert isinstance(docstring, ast.Expr)
    del lines[docstring.lineno - 1 : (docstring.end_lineno or 0) + 1]  # and the empty line after it
    return "\n".join(lines)


def _labelled(paragraph: str) -> str:
    """The paragraph with its label, such as `Source:`, in bold."""
    return re.sub(r"^((?:Source|Deviations?)[^:.]*:)", r"**\1**", paragraph)


def _hyper_table(registry: Registry, name: str) -> str:
    """Table of the hyper-parameters; `heads`, which every strategy has, is left out."""
    described, spaces = _arguments(inspect.getdoc(registry.get(name)) or ""), registry.spaces(name)
    rows = [
        f"| `{key}` | `{written(parameter.default)}` | {_in_code(spaces[key]) if key in spaces else '–'} "
        f"| {typeset(described[key])} |"
        for key, parameter in registry.parameters(name).items()
        if key != "heads"
    ]
    if not rows:
        return "None. `mtlbench tune` only tunes the learning rate of the network."
    note = "`mtlbench tune` keeps the default of a hyper-parameter without a space, and always tunes the learning rate."
    head = ["| hyper-parameter | default | tuned over | description |", "| --- | --- | --- | --- |"]
    return "\n".join([*head, *rows, "", note])


def _in_code(space: Space) -> str:
    """A tuning space as code, without the names of its fields."""
    return "`" + re.sub(r"\b[a-z]+=", "", str(space)) + "`"


def _arguments(description: str) -> dict[str, str]:
    """The descriptions under `Args:` of a docstring, by argument."""
    section = description.partition("Args:\n")[2]
    arguments = re.findall(r"^ {4}(\w+): (.*?)(?=^ {4}\w|\Z)", section, re.DOTALL | re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in arguments}


def _further_arguments(needs: str) -> str:
    """Further arguments of a `Balancer` for a strategy with these needs."""
    return "" if needs in ("losses", *HOOKS.values()) else ", shared=trunk"
