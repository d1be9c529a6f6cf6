"""Setups as plug-ins: where they are found, what is refused, and that a run's key depends on the file."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from mtlbench.bench import execution, jobs, planning
from mtlbench.bench.jobs import StackJob
from mtlbench.bench.planning import Plan, Request
from mtlbench.bench.planning import plan as lay_out
from mtlbench.errors import ContractError, UserError
from mtlbench.plugins.registry import Registry
from mtlbench.records.records import Conditions, Settings
from mtlbench.records.store import Store
from mtlbench.setups import SETUPS, sealed_test_set
from tests.helpers.own_setup import write_setup
from tests.helpers.tiny_bench import Silent

REFERENCE = Store(Path(__file__).parents[2] / "results" / "reference")
STRATEGY = """
from mtlbench import Strategy, register

@register("own-sum")
class Sum(Strategy):
    def forward(self, step):
        return 2 * step.losses.sum(-1)
"""


def plan(out: Path, plugin: Path, setup: str = "own") -> Plan:
    return lay_out(
        Request(
            name="tiny",
            out=out,
            setups=[setup],
            strategies=["own-sum"],
            seeds=(0, 1),
            epochs=1,
            batch_size=20,
            lr=1e-3,
            device="cpu",
            jobs=2,
            plugins=(plugin,),
            command="test",
        )
    )


def test_a_file_may_register_setups_and_strategies(tmp_path: Path) -> None:
    path = write_setup(tmp_path / "both.py", extra=STRATEGY)
    registry = Registry.load([path])
    assert registry.problems == []
    assert registry.setup("own").task_names == ["largest", "positive", "sum"]
    assert registry.source("own-sum") == registry.setups["own"].file == path
    before = registry.setup_digest("own")
    write_setup(path, about="another", extra=STRATEGY)
    assert registry.setup_digest("own") != before


def test_shipped_setups_are_found_with_their_files(registry: Registry) -> None:
    assert list(registry.setups)[: len(SETUPS)] == list(SETUPS)
    assert {"mnist-moments", "toy-regression"} <= set(registry.setups)
    assert registry.setups["toy-regression"].file.name == "toy_regression.py"
    assert registry.setup_digest("toy-regression")
    assert {registry.setup_digest(name) for name in SETUPS} == {None}


@pytest.mark.parametrize("attribute", ["", ":OWN"])
def test_an_entry_point_is_found_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attribute: str) -> None:
    module = f"own_of_a_package{len(attribute)}"
    path = write_setup(tmp_path / f"{module}.py", name="from-a-package")
    path.write_text(path.read_text().replace("\nregister_setup(", "\nOWN = register_setup("))
    monkeypatch.syspath_prepend(str(tmp_path))

    def found(group: str) -> list[EntryPoint]:
        return [EntryPoint("x", module + attribute, group)] if group == "mtlbench.setups" else []

    monkeypatch.setattr("mtlbench.plugins.discovery.entry_points", found)
    for _ in range(2):  # its module is imported once
        registry = Registry.load()
        assert registry.problems == []
        assert registry.setups["from-a-package"].file == path
        assert registry.setup_digest("from-a-package")
    clash = Registry.load([write_setup(tmp_path / "clash.py", name="from-a-package")])
    assert [problem for problem in clash.problems if "clash.py" in problem and path.name in problem]


def test_an_entry_point_to_an_unregistered_setup_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_setup(tmp_path / "own_unregistered.py", name="unregistered")
    path.write_text(path.read_text().replace("\nregister_setup(", "\nOWN = ("))
    monkeypatch.syspath_prepend(str(tmp_path))
    entry = EntryPoint("x", "own_unregistered:OWN", "mtlbench.setups")

    def found(group: str) -> list[EntryPoint]:
        return [entry] if group == entry.group else []

    monkeypatch.setattr("mtlbench.plugins.discovery.entry_points", found)
    (problem,) = Registry.load().problems
    assert "register_setup" in problem
    assert "unregistered" in problem


def test_the_later_of_two_setups_with_one_name_is_left_out_and_both_files_are_named(tmp_path: Path) -> None:
    registry = Registry.load([write_setup(tmp_path / "clash.py", name="toy-regression")])
    (problem,) = registry.problems
    assert "clash.py" in problem
    assert "toy_regression.py" in problem
    assert registry.setups["toy-regression"].file.name == "toy_regression.py"


def test_a_broken_file_is_left_out_as_a_whole_and_alone(tmp_path: Path) -> None:
    bad = write_setup(tmp_path / "bad.py", extra=STRATEGY + "raise RuntimeError('at the end')")
    registry = Registry.load([bad, write_setup(tmp_path / "good.py", name="good")])
    (problem,) = registry.problems
    assert problem.startswith(str(bad))
    assert problem.endswith("RuntimeError: at the end")
    assert "good" in registry.setups
    assert "own-sum" not in registry.strategies
    with pytest.raises(UserError, match=r"'own'.*bad\.py"):
        registry.setup("own")


def test_a_shipped_file_may_also_be_named(registry: Registry) -> None:
    file = registry.setups["toy-regression"].file
    assert Registry.load([file, file]).problems == []


def test_the_error_of_an_unknown_name_lists_similar_ones(registry: Registry) -> None:
    with pytest.raises(UserError, match=r"'toy-regresion'.*toy-regression"):
        registry.setup("toy-regresion")


CASES: list[tuple[dict[str, object], tuple[str, ...]]] = [
    ({"name": "Own Setup"}, ("name", "'Own Setup'")),
    ({"name": "x" * 61}, ("name", "60", "x" * 61)),
    ({"name": "mnist"}, ("'mnist'", "mnist.py")),
    ({"tasks": 'binary("alone"),'}, ("own: ", "tasks", "2", "1")),
    ({"tasks": 'binary("a"), binary("a")'}, ("names", "['a', 'a']")),
    ({"tasks": 'binary("a b"), binary("c")'}, ("name", "'a b'")),
    ({"tasks": 'classification("a", 0), binary("c")'}, ("task 'a': columns", ">= 1", "0")),
    ({"tasks": 'Task("a", 1, "R2", "more", None, None), binary("c")'}, ("better", "'higher' or 'lower'", "'more'")),
    ({"tasks": 'Task("a", 1, "accuracy", "lower", None, None), binary("c")'}, ("better", "accuracy", "'higher'")),
    ({"tasks": 'Task("a", 1, "delta-m", "higher", None, None), binary("c")'}, ("metric", "'delta-m'")),
    ({"widths": "(3,)"}, ("widths", "two", "(3,)")),
    ({"widths": "(3, 0)"}, ("widths", "(3, 0)")),
    ({"size": 0}, ("training_size", ">= 1", "0")),
    ({"size": True}, ("training_size", ">= 1", "True")),
    ({"tasks": f'binary("{"a" * 41}"), binary("b")'}, ("name", "40", "a" * 41)),
    ({"tasks": '"a", "b"'}, ("own: ", "task", "Task", "str")),
    ({"tasks": 'Task("a", 1, None, "lower", None, None), binary("c")'}, ("task 'a': metric", "NoneType")),
    ({"tasks": f'Task("a", 1, "{"m" * 41}", "lower", None, None), binary("c")'}, ("task 'a': metric", "40", "m" * 41)),
    ({"tasks": 'Task("a", 1, "m", "lower", None, None), binary("c")'}, ("task 'a': loss", "function", "None")),
    ({"name": "own", "about": '", scale="1/255'}, ("own: scale", "number", "str")),
    ({"name": "own", "about": '", dataset="MNIST'}, ("own: dataset", "mtlbench.data.Dataset", "str")),
    ({"name": "own", "about": '", convolutions=[1], shift="'}, ("own: shift", "number", "str")),
    (
        {"extra": "samples = samples(); register_setup(Setup('two', 'x', (), (1,), samples, test, 1))"},
        ("two: samples", "function", "tuple"),
    ),
    ({"extra": "register_setup(Setup(None, 'x', (), (1,), samples, test, 1))"}, ("name", "string", "NoneType")),
    ({"extra": "import mtlbench; mtlbench.Conv(3.0, 2)"}, ("Conv(channels=3.0, kernel=2, pool=1)", ">= 1")),
    ({"extra": "import mtlbench; mtlbench.Convolutions((2, 2), ())"}, ("image", "(2, 2)")),
    ({"extra": "import mtlbench; mtlbench.Convolutions((1, 2, 2), [3])"}, ("layers", "Conv(...)", "[3]")),
    ({"extra": "register_setup(samples)"}, ("register_setup", "Setup", "function")),
]


@pytest.mark.parametrize(("changes", "names"), CASES)
def test_a_faulty_setup_is_refused_with_part_and_value(
    tmp_path: Path, changes: dict[str, object], names: tuple[str, ...]
) -> None:
    path = write_setup(tmp_path / "own.py", **changes)  # pyright: ignore[reportArgumentType]
    (problem,) = Registry.load([path]).problems
    assert problem.startswith(str(path))
    for name in names:
        assert name in problem.removeprefix(str(path))


def test_keys_of_stored_runs_on_built_in_setups_still_match(registry: Registry) -> None:
    """The reference bench stays valid: nothing is added to the keys of setups that are part of the package."""
    fixed = REFERENCE.run("mnist", "fixed")
    assert fixed is not None
    assert fixed.key == "9bc05c1a9116fd8433fcc760a6f760fb3f8402b57595f613ca73c388c9095531"
    for setup in ("mnist", "mnist-aux-x0.01"):
        run = REFERENCE.run(setup, "fixed")
        assert run is not None
        assert run.source == registry.source("fixed").read_text()
        conditions = Conditions.model_validate(run.settings.model_dump(exclude={"setup"}))
        found = planning.planned(run.spec, SETUPS[setup], conditions, registry, several=False)
        assert found.key == run.key


def test_an_edited_setup_is_run_and_tuned_again(tmp_path: Path) -> None:
    def keys() -> set[str]:
        found = plan(tmp_path / "out", path)
        run = found.runs[0]
        tuning = planning.tuning_key(run.spec, run.setup, run.settings, 3, found.registry)
        return {tuning, *(run.key for run in found.runs)}

    path = write_setup(tmp_path / "own.py", extra=STRATEGY)
    before = keys()
    assert keys() == before
    write_setup(path, spoil="training.inputs.mul_(2)", extra=STRATEGY)
    after = keys()
    assert len(after) == len(before)
    assert not after & before


def test_a_bench_on_a_setup_of_ones_own_and_its_failures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "ROUNDS", 1)
    monkeypatch.setattr(execution, "TURN_SECONDS", 0.001)
    path = write_setup(tmp_path / "own.py", extra=STRATEGY)
    asked = plan(tmp_path / "out", path)
    assert execution.execute(asked, Silent())
    run = asked.store.run("own", "own-sum")
    assert run is not None
    assert run.own_setup is not None
    assert run.own_setup.source == path.read_text()
    assert [task.better for task in run.tasks] == ["higher", "lower", "lower"]

    write_setup(path, spoil="training.targets[7, 0] = 3", extra=STRATEGY)
    display = Silent()
    assert not execution.execute(plan(tmp_path / "out", path), display)
    run = asked.store.run("own", "own-sum")
    assert run is not None
    assert run.problem.startswith("failed: ContractError: own, training: ")
    assert all(name in run.problem for name in ("largest", "[0, 3)", "sample 7 has 3"))
    assert any("own-sum" in note and "failed: ContractError" in note for note in display.notes)


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], StackJob]:
    """A job as a worker gets it; in this process nothing is sealed or set."""
    monkeypatch.setattr(sealed_test_set, "seal_test_set", lambda: None)
    monkeypatch.setattr(jobs, "prepare", lambda: None)

    def made(path: Path) -> StackJob:
        settings = Settings(seeds=(0, 1), epochs=1, batch_size=20, lr=1e-3, device="cpu", setup="own")
        registry = Registry.load([path])
        return StackJob(registry.parse("fixed", registry.setup("own")), settings, (0, 1), (path,))

    return made


def test_a_trial_of_tuning_never_reads_the_test_split(tmp_path: Path, job: Callable[[Path], StackJob]) -> None:
    path = write_setup(tmp_path / "own.py", spoil_test="raise RuntimeError('the test split was read')")
    trial = jobs.try_out(job(path), lambda _: None)
    assert trial.validation is not None
    with pytest.raises(RuntimeError, match="the test split was read"):
        jobs.train(job(path), lambda _: None)


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"spoil": "training = training.inputs"}, ("own, training: ", "Split(inputs, targets)", "Tensor")),
        ({"spoil": "return training"}, ("own: samples()", "(training, validation)", "Split")),
        ({"spoil": "return training, validation, training"}, ("own: samples()", "3")),
        ({"spoil": "training = Split(training.inputs.numpy(), training.targets)"}, ("inputs", "tensors", "ndarray")),
        ({"widths": "(4, 8)"}, ("own, training: inputs", "[N, 4]", "[120, 3]")),
        ({"spoil": "validation = Split(validation.inputs[:0], validation.targets[:0])"}, ("own, validation", "0")),
        ({"spoil": "validation.inputs[5, 1] = torch.nan"}, ("own, validation: inputs", "finite", "sample 5")),
        ({"spoil": "training = Split(training.inputs, training.targets[:, :2])"}, ("targets", "[120, 3]", "[120, 2]")),
        ({"spoil": "training = Split(training.inputs, training.targets[:80])"}, ("targets", "[120, 3]", "[80, 3]")),
        ({"spoil": "training.targets[0, 0] = -1"}, ("largest", "[0, 3)", "sample 0 has -1")),
        ({"spoil": "training.targets[9, 1] = 0.5"}, ("positive", "[0, 2)", "sample 9 has 0.5")),
        ({"spoil": "training.targets[9, 2] = torch.inf"}, ("sum", "finite", "sample 9 has inf")),
        ({"spoil_test": "split.targets[3, 0] = 8"}, ("own, test: ", "largest", "sample 3 has 8")),
        ({"size": 100}, ("own: training_size", "100", "120")),
    ],
)  # fmt: skip
def test_splits_that_are_not_as_declared_are_one_line(
    tmp_path: Path, job: Callable[[Path], StackJob], changes: dict[str, str], names: tuple[str, ...]
) -> None:
    path = write_setup(tmp_path / "own.py", **changes)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ContractError) as raised:
        jobs.train(job(path), lambda _: None)
    message = str(raised.value)
    assert all(name in message for name in names), message
    assert "\n" not in message
