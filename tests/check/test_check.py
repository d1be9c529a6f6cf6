"""Checks of strategies: a plug-in that breaks a property gets one line about it, with the smallest example."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from mtlbench.check import check, subjects
from mtlbench.check.checks import PROPERTIES
from mtlbench.check.outcomes import Outcome
from mtlbench.errors import UserError

HEAD = '''
import torch
from mtlbench import Strategy, register

@register("{name}")
class Bad(Strategy):
    """Made to break one property.

    Source: an example.
    """
'''
Write = Callable[..., Path]

(DOCSTRING, STEP, BATCHED, PERMUTED, ABSENT, FINITE, NEGATIVE, STATE, IN_PLACE, META, MEMORY) = PROPERTIES


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a plug-in file with the given class body after the docstring."""

    def write_file(body: str, *, name: str = "bad", head: str = HEAD) -> Path:
        path = tmp_path / f"{name}.py"
        path.write_text(head.format(name=name) + body)
        return path

    return write_file


def outcomes(path: Path) -> dict[str, Outcome]:
    (subject,) = subjects([str(path)])
    return {outcome.title: outcome for outcome in check(subject)}


def broken(path: Path) -> dict[str, str]:
    """The details of the properties that fail, by title."""
    failed = [outcome for outcome in outcomes(path).values() if outcome.verdict == "fails"]
    assert not any("\n" in str(outcome) for outcome in failed)
    return {outcome.title: outcome.detail for outcome in failed}


KEEPS_A_GRAPH = """
    def __init__(self, shape):
        super().__init__(shape)
        self.register_buffer("total", torch.zeros(shape))

    def forward(self, step):
        self.total = self.total + step.losses.exp()
        return step.losses.sum(-1)
"""


def test_a_graph_that_is_kept_makes_memory_grow(write: Write) -> None:
    found = broken(write(KEEPS_A_GRAPH))
    assert MEMORY in found
    assert "total" in found[MEMORY]
    assert "total.copy_(" in found[IN_PLACE]


KEEPS_A_LIST = """
    def __init__(self, shape):
        super().__init__(shape)
        self.seen = []

    def forward(self, step):
        self.seen.append(step.losses.detach())
        return step.losses.sum(-1)
"""


def test_a_list_of_tensors_makes_memory_grow(write: Write) -> None:
    found = broken(write(KEEPS_A_LIST))
    assert list(found) == [MEMORY]
    before, _, after, _ = map(int, re.findall(r"\d+", found[MEMORY]))  # bytes after 20 and after 40 steps
    assert before < after


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("scale = step.losses.mean().item()", "item"),
        ("scale = 1.0 if step.losses.sum() > 0 else 2.0", "meta"),
        ("scale = step.losses.detach().numpy().mean()", "meta"),
        ("scale = torch.linalg.eigvalsh(step.gramian()).amax(-1)[:, None] + 1", "linalg_eigh"),
        ("scale = torch.linalg.inv(torch.eye(2, device=step.losses.device)).mean()", "linalg_check_errors"),
    ],
)
def test_operations_that_wait_for_the_host_are_named_with_their_line(write: Write, line: str, says: str) -> None:
    path = write(f"""
    def forward(self, step):
        {line}
        return (step.losses * scale).sum(-1)
""")
    found = broken(path)[META]
    number = 1 + path.read_text().splitlines().index(f"        {line}")
    assert found.startswith(f"bad.py:{number} `{line}`: ")
    assert says in found.rpartition("`: ")[2]


def test_mixed_replicas_are_reported_with_the_smallest_stack(write: Write) -> None:
    body = "    def forward(self, step):\n        return (step.losses / step.losses.detach().mean()).sum(-1)\n"
    found = broken(write(body))
    for part in ("step 0, replica 0 of 2: weights [", "losses [", "Gramian [["):
        assert part in found[BATCHED]


MIXES_AFTER_THE_EPOCH = """
    def __init__(self, shape):
        super().__init__(shape)
        self.register_buffer("means", torch.ones(shape))

    def forward(self, step):
        return (self.means * step.losses).sum(-1)

    def epoch_end(self, mean_losses):
        self.means.copy_(mean_losses.mean(0, keepdim=True).expand_as(mean_losses))
"""


def test_replicas_mixed_in_a_hook_are_reported(write: Write) -> None:
    found = broken(write(MIXES_AFTER_THE_EPOCH))
    assert list(found) == [BATCHED]
    assert found[BATCHED].startswith("step 1, replica 0 of 2")


DEPENDS_ON_T = """
    def __init__(self, shape):
        super().__init__(shape)
        self.register_buffer("weights", torch.full(shape, 1 / shape[1]))

    def forward(self, step):
        return (self.weights * step.losses).sum(-1)
"""
OTHERS_LEARN = """
    def __init__(self, shape):
        super().__init__(shape)
        self.known = shape[1]

    def forward(self, step):
        return (torch.ones(self.known) * step.losses).sum(-1)
"""


@pytest.mark.parametrize(("body", "says"), [(DEPENDS_ON_T, "[0.25, 0.25, 0.25]"), (OTHERS_LEARN, "size of tensor")])
def test_strategies_that_do_not_divide_by_task_are_reported(write: Write, body: str, says: str) -> None:
    path = write(body)
    assert list(broken(path)) == [ABSENT]
    assert says in broken(path)[ABSENT]
    path.write_text(path.read_text().replace("def __init__", "divisible = False\n\n    def __init__"))
    assert outcomes(path)[ABSENT].verdict == "declared"


def test_random_numbers_of_torch_differ_in_a_stack(write: Write) -> None:
    body = "    def forward(self, step):\n        return (torch.rand_like(step.losses) * step.losses).sum(-1)\n"
    assert BATCHED in broken(write(body))


PLACES = "    def forward(self, step):\n        return step.losses[:, 0] + 0.5 * step.losses[:, 1:].sum(-1)\n"


def test_tasks_distinguished_by_position_are_reported_with_the_smallest_order(write: Write) -> None:
    found = broken(write(PLACES))
    assert list(found) == [PERMUTED]
    for part in ("step 0", "order 1, 0", "weights [1, 0.5]", "[0.5, 1]", "losses ["):
        assert part in found[PERMUTED]


@pytest.mark.parametrize("size", ["2", "3", "step.losses.shape[1]"])
def test_random_numbers_may_be_drawn_per_task_or_not(write: Write, size: str) -> None:
    drawn = f"step.rand({size})" if "shape" in size else f"step.rand({size}).sum(-1, keepdim=True)"
    body = f"    def forward(self, step):\n        return ({drawn} * step.losses).sum(-1)\n"
    assert {outcome.verdict for outcome in outcomes(write(body)).values()} == {"holds"}


def test_random_numbers_taken_by_position_are_reported(write: Write) -> None:
    body = (
        "    def forward(self, step):\n        return (step.rand(9)[:, :step.losses.shape[1]] * step.losses).sum(-1)\n"
    )
    assert list(broken(write(body))) == [PERMUTED]


COUNTS_TO_INFINITY = """
    def __init__(self, shape):
        super().__init__(shape)
        self.register_buffer("largest", torch.zeros(()))

    def forward(self, step):
        self.largest.copy_(1 / step.losses.detach().amin())
        return step.losses.sum(-1)
"""


def test_infinite_state_is_named(write: Write) -> None:
    found = broken(write(COUNTS_TO_INFINITY))
    assert list(found) == [FINITE]
    assert found[FINITE].startswith("step 0, torch.float32: largest inf; losses [0, 0], ")


def test_asymmetry_can_be_declared(write: Write) -> None:
    result = outcomes(write("    symmetric = False\n\n" + PLACES))
    assert result[PERMUTED].verdict == "declared"
    assert {outcome.verdict for title, outcome in result.items() if title != PERMUTED} == {"holds"}


ROOTS = """
    def forward(self, step):
        return (step.losses + 1).sqrt().sum(-1)
"""


def test_infinite_weights_for_negative_losses_are_reported(write: Write) -> None:
    found = broken(write(ROOTS))
    assert list(found) == [NEGATIVE]
    for part in ("step 0", "weights [", "nan", "losses [-1, -2]"):
        assert part in found[NEGATIVE]


def test_positive_losses_can_be_declared(write: Write) -> None:
    result = outcomes(write('    losses = "positive"\n' + ROOTS))
    assert result[NEGATIVE].verdict == "declared"
    assert {outcome.verdict for title, outcome in result.items() if title != NEGATIVE} == {"holds"}


def test_an_unknown_declaration_of_losses_is_reported(write: Write) -> None:
    found = broken(write("    losses = 0\n\n    def forward(self, step):\n        return step.losses.sum(-1)\n"))
    assert "any, positive" in found[NEGATIVE]


def test_waiting_can_be_declared(write: Write) -> None:
    body = "    waits = True\n\n    def forward(self, step):\n"
    body += "        float(step.losses.detach().sum())\n        return step.losses.sum(-1)\n"
    assert outcomes(write(body))[META].verdict == "declared"


def test_infinite_weights_are_reported_with_the_first_degenerate_case(write: Write) -> None:
    body = '    losses = "positive"\n\n    def forward(self, step):\n        return step.losses.log().sum(-1)\n'
    found = broken(write(body))
    assert list(found) == [FINITE]
    expected = "step 0, torch.float32: weights [inf, inf]; losses [0, 0], Gramian [[1, 0], [0, 1]]"
    assert found[FINITE].startswith(expected)


@pytest.mark.parametrize(
    ("returned", "rule", "found"),
    [
        ("step.losses.sum()", "torch.float64 of shape [1]", "torch.float64 of shape []"),
        ("step.losses", "torch.float64 of shape [1]", "torch.float64 of shape [1, 2]"),
        ("step.losses.sum(-1).to(torch.float16)", "torch.float64", "torch.float16"),
        ("step.losses.detach().sum(-1)", "step.losses", "does not"),
        ("0.0", "forward(step)", "float"),
        ("None", "forward(step)", "NoneType"),
        ("step.losses.sum(-1) * float('nan')", "weights [nan, nan]", "losses ["),
        ("1 / 0", "bad.py:12 `return 1 / 0`", "ZeroDivisionError"),
        ("exit(3)", "bad.py:12 `return exit(3)`", "SystemExit: 3"),
        ("step.no_such_signal()", "AttributeError", "no_such_signal"),
        ("step.losses.detach().mul_(2).sum(-1) + step.losses.sum(-1)", "step.losses.clone()", "forward(step)"),
        ("step.losses.sum(-1) + step.index.add_(1)", "step.index.clone()", "forward(step)"),
        ("(step.descend(step.jacobian()), step.losses.sum(-1))[1]", "(1, 7)", "(1, 2, 7)"),
    ],
)
def test_if_a_step_fails_properties_that_need_steps_are_not_tried(
    write: Write, returned: str, rule: str, found: str
) -> None:
    result = outcomes(write(f"    def forward(self, step):\n        return {returned}\n"))
    assert result[STEP].verdict == "fails"
    assert rule in result[STEP].detail
    assert found in result[STEP].detail.replace(rule, "", 1)
    assert result[DOCSTRING].verdict == "holds"
    assert {outcome.verdict for title, outcome in result.items() if title not in (STEP, DOCSTRING)} == {"untried"}


@pytest.mark.parametrize(
    "method", ["project(self)", "after_update(self, x)", "epoch_end(self, x)", "allocate(self, x)"]
)
def test_a_hook_that_raises_is_reported_in_one_line(write: Write, method: str) -> None:
    body = "    def forward(self, step):\n        return step.losses.sum(-1)\n\n"
    found = broken(write(body + f"    def {method}:\n        raise KeyError('no\\nluck')\n"))
    assert "bad.py:15 `raise KeyError('no\\nluck')`: KeyError" in found[STEP]


HIDDEN = """
    count = 0

    def forward(self, step):
        self.count += 1
        return self.count * step.losses.sum(-1)
"""
NOT_SAVED = """
    def __init__(self, shape):
        super().__init__(shape)
        self.register_buffer("steps", torch.zeros(()), persistent=False)

    def forward(self, step):
        self.steps += 1
        return self.steps * step.losses.sum(-1)
"""


@pytest.mark.parametrize("body", [HIDDEN, NOT_SAVED], ids=["attribute", "buffer"])
def test_state_that_is_not_saved_is_reported(write: Write, body: str) -> None:
    found = broken(write(body))
    assert list(found) == [STATE]
    for part in ("step 3", "state of step 2", "weights [1, 1]", "[4, 4]"):
        assert part in found[STATE]


@pytest.mark.parametrize("kept", ["Bad.steps", "everywhere"])
def test_state_kept_in_a_class_or_module_is_reported(write: Write, kept: str) -> None:
    body = f"""
    steps = [0]

    def forward(self, step):
        {kept}[0] += 1
        return step.losses.sum(-1) * (1 + {kept}[0] % 5)

everywhere = [0]
"""
    assert STATE in broken(write(body))
    body = f"""
    steps = [None]

    def forward(self, step):
        before, {kept}[0] = {kept}[0], step.losses.detach()
        known = before is not None and before.shape == step.losses.shape
        return (step.losses * before if known else step.losses).sum(-1)

everywhere = [None]
"""
    assert STATE in broken(write(body, name="worse"))


def test_state_that_is_created_in_a_step_is_reported(write: Write) -> None:
    body = "    def forward(self, step):\n        self.register_buffer('late', step.losses.detach())\n"
    found = broken(write(body + "        return step.losses.sum(-1)\n"))
    assert found[IN_PLACE].startswith("late ")
    assert "allocate" in found[IN_PLACE]


SUM = "    def forward(self, step):\n        return step.losses.sum(-1)\n"
BARE = "from mtlbench import Strategy, register\n\n@register('{name}')\nclass Bad(Strategy):\n"
HYPER = "    def __init__(self, shape, *, alpha=1.0):\n        super().__init__(shape)\n\n"


@pytest.mark.parametrize(
    ("head", "body", "says"),
    [
        (BARE, SUM, "docstring"),
        (BARE + '    """Sums."""\n', SUM, "Source: "),
        (BARE + '    """Sums.\n\n    Source:\n    """\n', SUM, "Source: "),
        (HEAD, HYPER + SUM, "alpha"),
    ],
)
def test_a_docstring_without_source_or_hyper_parameters_is_reported(
    write: Write, head: str, body: str, says: str
) -> None:
    found = broken(write(body, head=head))
    assert list(found) == [DOCSTRING]
    assert says in found[DOCSTRING]


def test_weights_per_task_are_permuted_with_their_tasks() -> None:
    (subject,) = subjects(["fixed:weights=[1,0.1]"])
    assert {outcome.verdict for outcome in check(subject)} == {"holds"}


def test_every_strategy_of_a_file_is_checked(write: Write) -> None:
    two = HEAD.format(name="second").replace("class Bad", "class Second") + SUM
    assert [subject.spec.label for subject in subjects([str(write(SUM + two))])] == ["bad", "second"]


def test_a_shipped_file_stands_for_its_strategy() -> None:
    path = Path(__file__).parents[2] / "strategies" / "gradnorm.py"
    assert [subject.spec.label for subject in subjects([str(path), "gradnorm"])] == ["gradnorm"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("import not_there\n", "No module named 'not_there'"),
        ("def (\n", "SyntaxError"),
        ("x = 1\n", "strategy"),
        (BARE.format(name="gradnorm") + SUM, "gradnorm"),
    ],
)
def test_a_file_that_cannot_be_checked_is_refused(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "file.py"
    path.write_text(text)
    with pytest.raises(UserError) as refused:
        subjects([str(path)])
    assert str(path) in str(refused.value)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)
