"""A setup that breaks one property gets one line that says so, with the smallest example; one that keeps all, none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import typer

from mtlbench.check import check_setup, setup_failures, setup_subjects
from mtlbench.check.setup.checks import SETUP_PROPERTIES
from mtlbench.cli import authoring
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
    """The tasks of the setup, the loss of the last one multiplied."""
    return TASKS.replace('regression("sum")', f'scaled(regression("sum"), {factor})')


def broken(path: Path) -> dict[str, str]:
    """What fails, by property."""
    (subject,) = setup_subjects([str(path)])
    found = {outcome.title: outcome for outcome in check_setup(subject) if outcome.verdict == "fails"}
    for outcome in found.values():
        assert "\n" not in str(outcome)
    return {title: outcome.detail for title, outcome in found.items()}


def with_task(path: Path, task: str, body: str = "return first(outputs, targets)") -> Path:
    """The setup with another last task, made of functions `first`, a squared error, and `second`, of this body."""
    write_setup(path, tasks=f'classification("largest", 3), binary("positive"), {task}')
    path.write_text(path.read_text().replace("\n\ndef drawn(", "\n" + OWN_TASK.format(body=body) + "def drawn(", 1))
    return path


def test_the_shipped_ones_and_one_of_each_kind_of_task_keep_all(tmp_path: Path) -> None:
    own = with_task(
        tmp_path / "own.py",
        'Task("sum", 1, "negative error", "higher", first, second)',
        "return -first(outputs, targets)",
    )
    for subject in setup_subjects([str(own), "toy-regression"]):
        assert setup_failures(subject) == []


@pytest.mark.parametrize(
    ("changes", "title", "says"),
    [
        ({"about": " "}, ABOUT, "`about` is empty"),
        ({"spoil": "training.inputs[3] = torch.rand(3)"}, READ, "the training split differs when it is read again"),
        ({"spoil_test": "raise OSError('no such file: x.csv')"}, READ,
         "`raise OSError('no such file: x.csv')`: OSError: no such file: x.csv"),
        ({"widths": "(2, 8)"}, INPUTS, "inputs must be [N, 2] as the setup says, not [120, 3]"),
        ({"spoil": "training.inputs[4, 0] = torch.nan"}, INPUTS, "those of sample 4 are not"),
        ({"spoil_test": "split.targets[2, 0] = 3"}, TARGETS,
         "own, test: targets of largest must be whole numbers in [0, 3)"),
        ({"size": 121}, SIZE, "training_size is 121, but the training split has 120 samples"),
        ({"spoil": "validation.inputs[9:] = training.inputs[:51]"}, APART,
         "51 of 60 validation samples are also in training: validation sample 9 has the inputs of training sample 0"),
        ({"spoil_test": "split = training"}, APART, "120 of 120 test samples are also in training"),
        ({"spoil": "training.targets[:, 2] *= 1e30"}, MEANS, "the loss of sum at the first weights is [inf, inf, inf]"),
        ({"tasks": scaled("0")}, GRADIENT,
         "loss of sum has the norms [0, 0, 0]"),
        ({"tasks": scaled("-1")}, BETTER,
         "the loss of sum is -0 for perfect outputs"),
    ],
)  # fmt: skip
def test_what_is_broken_is_named_with_an_example(
    tmp_path: Path, changes: dict[str, str], title: str, says: str
) -> None:
    path = write_setup(tmp_path / "own.py", **changes)  # pyright: ignore[reportArgumentType]
    assert says in broken(path)[title]


@pytest.mark.parametrize(
    ("task", "body", "title", "says"),
    [
        ('Task("sum", 1, "squared error", "lower", first, second)', "return first(outputs, targets).mean()", MEANS,
         "the score of sum must be one number per replica, torch.float32 of shape [3], not torch.float32 of shape []"),
        ('Task("sum", 1, "squared error", "lower", second, first)', "return first(outputs, targets).double()", MEANS,
         "not torch.float64 of shape [3]"),
        ('Task("sum", 1, "squared error", "lower", second, first)', "return first(outputs - outputs.mean(0), targets)",
         MEANS, "in the stack"),
        ('Task("sum", 1, "squared error", "lower", second, first)', "return (outputs[..., 0] - targets).abs().sum(-1)",
         MEANS, "it must be a mean over the batch"),
        ('Task("sum", 1, "squared error", "lower", second, first)', "return 0 * targets.mean(-1) + 1", GRADIENT,
         "the loss of sum does not depend on its outputs"),
        ('Task("sum", 1, "fit", "higher", first, second)', "return first(outputs, targets)", BETTER,
         "the score of sum is 0 for perfect outputs and"),
        ('Task("sum", 1, "error", "lower", first, second)', "return first(outputs, targets)", BETTER,
         "the error of sum must be a share in [0, 1], not"),
        ('Task("sum", 1, "squared error", "lower", second, first)',
         "return first(outputs, targets) * float(targets.max() > -1e9)", META, "own.py:"),
        ('Task("sum", 1, "squared error", "lower", second, first)',
         "loss = 100 * first(outputs, targets); return 2 * loss.detach() - loss", LEARNS,
         "after 100 steps of Adam (learning rate 0.001, batch 64) the losses of largest, positive, sum are"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_task_is_named_with_its_numbers(
    tmp_path: Path, task: str, body: str, title: str, says: str
) -> None:
    assert says in broken(with_task(tmp_path / "own.py", task, body))[title]


def test_what_needs_splits_that_fit_is_not_tried_without_them(tmp_path: Path) -> None:
    (subject,) = setup_subjects([str(write_setup(tmp_path / "own.py", widths="(4, 8)"))])
    verdicts = [outcome.verdict for outcome in check_setup(subject)]
    assert verdicts == ["holds", "holds", "fails", *["untried"] * (len(SETUP_PROPERTIES) - 3)]


def test_a_few_true_duplicates_are_said_and_are_no_failure(tmp_path: Path) -> None:
    spoil = "training.inputs[:40] = training.inputs[40:80]; validation.inputs[0] = training.inputs[0]"
    (subject,) = setup_subjects([str(write_setup(tmp_path / "own.py", spoil=spoil))])
    (said,) = [outcome for outcome in check_setup(subject) if outcome.title == APART]
    assert (said.verdict, said.detail) == ("declared", "1 of 60 validation samples are also in training")


@pytest.mark.parametrize(
    ("task", "body"),
    [
        ('Task("sum", 2, "squared error", "lower", first, first)', "return first(outputs, targets)"),
        ('Task("sum", 1, "absolute error", "lower", second, second)', "return first(outputs, (targets - 250) / 60)"),
    ],
)
def test_outputs_that_cannot_be_known_to_be_perfect_are_said(tmp_path: Path, task: str, body: str) -> None:
    path = with_task(tmp_path / "own.py", task, body)
    (subject,) = setup_subjects([str(path)])
    (said,) = [outcome for outcome in check_setup(subject) if outcome.title == BETTER]
    assert (said.verdict, said.detail.rpartition(": ")[2]) == ("declared", "sum")


@pytest.mark.parametrize(
    ("targets", "says"),
    [
        (["toy-regresion"], "there is toy-regression"),
        (["absent.py"], r"no plugin file absent\.py"),
        (["broken.py"], r"broken\.py is left out: ModuleNotFoundError"),
        (["empty.py"], r"empty\.py registers no setup: it needs register_setup"),
        ([], "name a setup"),
    ],
)
def test_what_cannot_be_checked_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, targets: Sequence[str], says: str
) -> None:
    (tmp_path / "broken.py").write_text("import not_there\n")
    (tmp_path / "empty.py").write_text("")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=says):
        setup_subjects(targets)


def test_the_command_shows_a_line_for_each_property_and_ends_with_1_if_one_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    authoring.run_check_setup([str(write_setup(tmp_path / "own.py"))])
    out, _ = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines()[1:]] == ["holds"] * len(SETUP_PROPERTIES)
    with pytest.raises(typer.Exit) as ended:
        authoring.run_check_setup([str(write_setup(tmp_path / "own.py", size=7))])
    assert ended.value.exit_code == 1
    assert f"fails    {SIZE}: own: training_size is 7" in capsys.readouterr().out


def test_a_new_setup_is_written_by_its_command_with_what_to_do_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    authoring.run_new_setup("made-anew", tmp_path)
    file, test = tmp_path / "made_anew.py", tmp_path / "test_made_anew.py"
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [f"wrote {file}", f"wrote {test}"]
    assert lines[2].endswith(f"mtlbench check-setup {file}")
    assert f"--plugin {file} --setup made-anew" in lines[4]
    (subject,) = setup_subjects([str(file)])
    assert setup_failures(subject) == []


@pytest.mark.parametrize("spoil", ["requires_grad_()", "to_sparse()", "to(torch.complex64)"])
def test_inputs_that_are_no_plain_numbers_are_refused(tmp_path: Path, spoil: str) -> None:
    path = write_setup(tmp_path / "own.py", spoil=f"training = Split(training.inputs.{spoil}, training.targets)")
    setup = Registry.load([path]).setup("own")
    with pytest.raises(ContractError, match="own, training: inputs must be dense real numbers without a graph"):
        splits.samples(setup)


def test_inputs_of_any_real_kind_are_compared(tmp_path: Path) -> None:
    half = "{0} = Split({0}.inputs.bfloat16(), {0}.targets)".format
    spoil = f"{half('training')}; {half('validation')}"
    path = write_setup(tmp_path / "own.py", spoil=spoil, spoil_test=half("split"))
    assert broken(path) == {}
