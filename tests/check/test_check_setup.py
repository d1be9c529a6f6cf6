"""Checks of setups: a setup that breaks a property gets one line about it, with an example."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import typer

from mtlbench.check import check_setup, setup_failures, setup_subjects
from mtlbench.check.checks import SETUP_PROPERTIES
from mtlbench.cli import plugins
from mtlbench.errors import ContractError, UserError
from mtlbench.plugins.registry import Registry
from mtlbench.setups import splits
from tests.helpers.own_setup import TASKS, write_setup

(ABOUT, READ, INPUTS, TARGETS, SIZE, APART, MEANS, GRADIENT, BETTER, META, LEARNS) = SETUP_PROPERTIES
OWN_TASK = """
def first(outputs, targets):
    return (outputs[..., 0] - targets).square().mean(-1)


def second(outputs, targets):
    {body}


"""


def scaled(factor: str) -> str:
    """The tasks of the setup, with the loss of the last one multiplied."""
    return TASKS.replace('regression("sum")', f'scaled(regression("sum"), {factor})')


def broken(path: Path) -> dict[str, str]:
    """The details of the properties that fail, by title."""
    (subject,) = setup_subjects([str(path)])
    failed = [outcome for outcome in check_setup(subject) if outcome.verdict == "fails"]
    assert not any("\n" in str(outcome) for outcome in failed)
    return {outcome.title: outcome.detail for outcome in failed}


def with_task(path: Path, task: str, body: str = "return first(outputs, targets)") -> Path:
    """The setup with another last task; its functions are `first`, a squared error, and `second`, with this body."""
    write_setup(path, tasks=f'classification("largest", 3), binary("positive"), {task}')
    path.write_text(path.read_text().replace("\n\ndef drawn(", "\n" + OWN_TASK.format(body=body) + "def drawn(", 1))
    return path


def test_shipped_setups_and_every_kind_of_task_pass(tmp_path: Path) -> None:
    own = with_task(
        tmp_path / "own.py",
        'Task("sum", 1, "negative error", "higher", first, second)',
        "return -first(outputs, targets)",
    )
    for subject in setup_subjects([str(own), "toy-regression"]):
        assert setup_failures(subject) == []


@pytest.mark.parametrize(
    ("changes", "title", "parts"),
    [
        ({"about": " "}, ABOUT, ["about"]),
        ({"spoil": "training.inputs[3] = torch.rand(3)"}, READ, ["training"]),
        ({"spoil_test": "raise OSError('no such file: x.csv')"}, READ,
         ["`raise OSError('no such file: x.csv')`: OSError: no such file: x.csv"]),
        ({"widths": "(2, 8)"}, INPUTS, ["[N, 2]", "[120, 3]"]),
        ({"spoil": "training.inputs[4, 0] = torch.nan"}, INPUTS, ["sample 4"]),
        ({"spoil_test": "split.targets[2, 0] = 3"}, TARGETS,
         ["own, test", "largest", "[0, 3)"]),
        ({"size": 121}, SIZE, ["training_size", "121", "120"]),
        ({"spoil": "validation.inputs[9:] = training.inputs[:51]"}, APART,
         ["51 of 60 validation samples", "validation sample 9", "training sample 0"]),
        ({"spoil_test": "split = training"}, APART, ["120 of 120 test samples", "training"]),
        ({"spoil": "training.targets[:, 2] *= 1e30"}, MEANS, ["loss of sum", "[inf, inf, inf]"]),
        ({"tasks": scaled("0")}, GRADIENT, ["loss of sum", "[0, 0, 0]"]),
        ({"tasks": scaled("-1")}, BETTER, ["loss of sum", "-0"]),
    ],
)  # fmt: skip
def test_a_broken_setup_is_reported_with_an_example(
    tmp_path: Path, changes: dict[str, str], title: str, parts: list[str]
) -> None:
    path = write_setup(tmp_path / "own.py", **changes)  # pyright: ignore[reportArgumentType]
    detail = broken(path)[title]
    assert all(part in detail for part in parts), detail


@pytest.mark.parametrize(
    ("task", "body", "title", "parts"),
    [
        ('Task("sum", 1, "squared error", "lower", first, second)', "return first(outputs, targets).mean()", MEANS,
         ["score of sum", "torch.float32 of shape [3]", "torch.float32 of shape []"]),
        ('Task("sum", 1, "squared error", "lower", second, first)', "return first(outputs, targets).double()", MEANS,
         ["torch.float64 of shape [3]"]),
        ('Task("sum", 1, "squared error", "lower", second, first)', "return first(outputs - outputs.mean(0), targets)",
         MEANS, ["loss of sum", "one by one"]),
        ('Task("sum", 1, "squared error", "lower", second, first)', "return (outputs[..., 0] - targets).abs().sum(-1)",
         MEANS, ["loss of sum", "halves"]),
        ('Task("sum", 1, "squared error", "lower", second, first)', "return 0 * targets.mean(-1) + 1", GRADIENT,
         ["loss of sum", "outputs"]),
        ('Task("sum", 1, "fit", "higher", first, second)', "return first(outputs, targets)", BETTER,
         ["score of sum", "0 for perfect outputs"]),
        ('Task("sum", 1, "error", "lower", first, second)', "return first(outputs, targets)", BETTER,
         ["error of sum", "[0, 1]"]),
        ('Task("sum", 1, "squared error", "lower", second, first)',
         "return first(outputs, targets) * float(targets.max() > -1e9)", META, ["own.py:"]),
        ('Task("sum", 1, "squared error", "lower", second, first)',
         "loss = 100 * first(outputs, targets); return 2 * loss.detach() - loss", LEARNS,
         ["100 steps", "0.001", "64", "largest, positive, sum"]),
    ],
)  # fmt: skip
def test_a_broken_task_is_reported_with_its_numbers(
    tmp_path: Path, task: str, body: str, title: str, parts: list[str]
) -> None:
    detail = broken(with_task(tmp_path / "own.py", task, body))[title]
    assert all(part in detail for part in parts), detail


def test_properties_that_need_splits_are_not_tried_if_splits_do_not_fit(tmp_path: Path) -> None:
    (subject,) = setup_subjects([str(write_setup(tmp_path / "own.py", widths="(4, 8)"))])
    verdicts = [outcome.verdict for outcome in check_setup(subject)]
    assert verdicts == ["holds", "holds", "fails", *["untried"] * (len(SETUP_PROPERTIES) - 3)]


def test_a_few_true_duplicates_are_a_remark_not_a_failure(tmp_path: Path) -> None:
    spoil = "training.inputs[:40] = training.inputs[40:80]; validation.inputs[0] = training.inputs[0]"
    (subject,) = setup_subjects([str(write_setup(tmp_path / "own.py", spoil=spoil))])
    (remark,) = [outcome for outcome in check_setup(subject) if outcome.title == APART]
    assert remark.verdict == "declared"
    assert "1 of 60 validation samples" in remark.detail


@pytest.mark.parametrize(
    ("task", "body"),
    [
        ('Task("sum", 2, "squared error", "lower", first, first)', "return first(outputs, targets)"),
        ('Task("sum", 1, "absolute error", "lower", second, second)', "return first(outputs, (targets - 250) / 60)"),
    ],
)
def test_tasks_with_unknown_perfect_outputs_are_named(tmp_path: Path, task: str, body: str) -> None:
    path = with_task(tmp_path / "own.py", task, body)
    (subject,) = setup_subjects([str(path)])
    (remark,) = [outcome for outcome in check_setup(subject) if outcome.title == BETTER]
    assert (remark.verdict, remark.detail.rpartition(": ")[2]) == ("declared", "sum")


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (["toy-regresion"], "toy-regression"),
        (["absent.py"], r"absent\.py"),
        (["broken.py"], r"broken\.py.*ModuleNotFoundError"),
        (["empty.py"], r"empty\.py.*register_setup"),
        ([], "setup"),
    ],
)
def test_targets_that_cannot_be_checked_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, targets: Sequence[str], message: str
) -> None:
    (tmp_path / "broken.py").write_text("import not_there\n")
    (tmp_path / "empty.py").write_text("")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        setup_subjects(targets)


def test_the_command_prints_a_line_per_property_and_exits_with_1_if_one_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plugins.run_check_setup([str(write_setup(tmp_path / "own.py"))])
    out, _ = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines()[1:]] == ["holds"] * len(SETUP_PROPERTIES)
    with pytest.raises(typer.Exit) as ended:
        plugins.run_check_setup([str(write_setup(tmp_path / "own.py", size=7))])
    assert ended.value.exit_code == 1
    assert f"fails    {SIZE}: own: " in capsys.readouterr().out


def test_a_new_setup_is_written_with_its_next_steps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plugins.run_new_setup("made-anew", tmp_path)
    file, test = tmp_path / "made_anew.py", tmp_path / "test_made_anew.py"
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [f"wrote {file}", f"wrote {test}"]
    assert lines[2].endswith(f"mtlbench check-setup {file}")
    assert f"--plugin {file} --setup made-anew" in lines[4]
    (subject,) = setup_subjects([str(file)])
    assert setup_failures(subject) == []


@pytest.mark.parametrize("spoil", ["requires_grad_()", "to_sparse()", "to(torch.complex64)"])
def test_inputs_that_are_not_dense_real_numbers_are_refused(tmp_path: Path, spoil: str) -> None:
    path = write_setup(tmp_path / "own.py", spoil=f"training = Split(training.inputs.{spoil}, training.targets)")
    setup = Registry.load([path]).setup("own")
    with pytest.raises(ContractError, match=r"own, training.*inputs"):
        splits.samples(setup)


def test_inputs_of_any_real_dtype_are_compared(tmp_path: Path) -> None:
    half = "{0} = Split({0}.inputs.bfloat16(), {0}.targets)".format
    spoil = f"{half('training')}; {half('validation')}"
    path = write_setup(tmp_path / "own.py", spoil=spoil, spoil_test=half("split"))
    assert broken(path) == {}
