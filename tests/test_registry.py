"""How strategies are found and how a user's text becomes one."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtlbench.errors import UserError
from mtlbench.labels import split_specs, written
from mtlbench.records import Spec
from mtlbench.registry import Registry
from mtlbench.setups import MNIST

PLUGIN = """
from mtlbench import Strategy, register

@register("{name}")
class Mine(Strategy):
    def forward(self, step):
        return step.losses.sum(-1)
"""


def plugin(path: Path, name: str, extra: str = "") -> Path:
    path.write_text(PLUGIN.format(name=name) + extra)
    return path


finite = st.floats(1e-6, 1e6, allow_nan=False)


@given(alpha=finite, lr=finite)
def test_a_label_stands_for_itself(registry: Registry, alpha: float, lr: float) -> None:
    spec = registry.parse(f"gradnorm:lr={lr!r},alpha={alpha!r}", MNIST)
    assert (spec.hyper.get("alpha", 1.5), spec.hyper.get("lr", 0.025)) == (alpha, lr)
    assert registry.parse(spec.label, MNIST) == spec


@given(weights=st.lists(finite, min_size=2, max_size=2))
def test_weights_are_read_from_a_label(registry: Registry, weights: list[float]) -> None:
    spec = registry.parse(f"fixed:weights={weights!r}", MNIST)
    assert spec.hyper["weights"] == weights
    assert registry.parse(spec.label, MNIST) == spec


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("gradnorm:alpha=1.5", "gradnorm"),
        ("gradnorm:0.5", "gradnorm:alpha=0.5"),
        ("gradnorm:heads=own", "gradnorm:heads=own"),
        ("gradnorm:heads=weighted", "gradnorm"),
        ("fixed:weights=[1,0.1]", "fixed:weights=[1,0.1]"),
        ("single:digit", "single:digit"),
        ("torchjd:UPGrad", "torchjd:UPGrad"),
        ("torchjd:CAGrad,0.4", "torchjd:CAGrad,c=0.4"),
        ("torchjd:PCD,tau=[0.1],heads=own,beta=0.999", "torchjd:PCD,tau=[0.1]"),
        ("torchjd:UPGrad,reg_eps=1e-13,norm_eps=0", "torchjd:UPGrad,norm_eps=0,reg_eps=1e-13"),
    ],
)
def test_labels_are_canonical(registry: Registry, text: str, label: str) -> None:
    assert registry.parse(text, MNIST).label == label


def test_heads_are_set_by_name(registry: Registry) -> None:
    assert registry.build(registry.parse("gradnorm:heads=own", MNIST), (1, 2)).heads == "own"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("gradnrom", "gradnorm"),
        ("nothing-like-it", "uncertainty-softmax, upgrad, single"),
        ("gradnorm:beta=1", "alpha=1.5, lr=0.025"),
        ("gradnorm:alpha=x", "alpha is 'x'"),
        ("gradnorm:alpha=-1", "alpha must be finite and >= 0"),
        ("gradnorm:alpha=nan", "alpha must be finite"),
        ("gradnorm:alpha=", "cannot read"),
        ("gradnorm:alpha=0.5,fixed", "separate strategies by spaces"),
        ("gradnorm:alpha=1,alpha=2", "alpha"),
        ("gradnorm:heads=none", "heads"),
        ("fixed:weights=[1]", "2 numbers"),
        ("fixed:weights=[1,-1]", ">= 0"),
        ("fixed:weights=[1,nan]", "finite"),
        ("fixed:weights=[1,1e999]", "finite"),
        ("fixed:weights=[1e39,1]", "float32"),
        ("fixed:weights=[1e-50,1e-50]", "float32"),
        ("gradnorm:alpha=1e39", "alpha is 1e+39"),
        ("fixed:weights=[0,0]", "not all zero"),
        ("fixed:weights=heavy", "weights"),
        ("single:colour", "single:digit, single:above_five"),
        ("torchjd", "torchjd:UPGrad, torchjd:UW"),
        ("torchjd:upgrd", "there is torchjd:UPGrad, torchjd:PCGrad"),
        ("torchjd:WeightedAggregator", "no method of TorchJD"),
        ("torchjd:UPGrad,MGDA,UW", "cannot read"),
        ("torchjd:CAGrad", "c must be given"),
        ("torchjd:CAGrad,d=1", "it has c=..., norm_eps=0.0001, heads=own"),
        ("torchjd:CAGrad,c=x", "c is 'x'"),
        ("torchjd:CAGrad,c=-1", "c must be non-negative"),
        ("torchjd:Constant,weights=[1,2,3]", "shape (3,)"),
        ("torchjd:Krum,n_byzantine=0", "at least 3 rows"),
        ("torchjd:CRMOGM,weighting=UW", "weighting must be one of AlignedMTL"),
        ("torchjd:CRMOGM,weighting=CAGrad", "c must be given"),
    ],
)
def test_what_cannot_be_meant_is_named(registry: Registry, text: str, says: str) -> None:
    with pytest.raises(UserError) as error:
        registry.parse(text, MNIST)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


@given(
    st.text(max_size=30),
    st.sampled_from(["", "fixed:", "gradnorm:", "uncertainty:s=", "single:", "torchjd:", "torchjd:PCD,"]),
)
def test_any_text_is_a_strategy_or_a_user_error(registry: Registry, text: str, start: str) -> None:
    try:
        registry.parse(start + text, MNIST)
    except UserError as error:
        assert str(error)


def test_lists_of_strategies_are_taken_apart() -> None:
    texts = ["fixed,uncertainty gradnorm:alpha=0.5,lr=0.1", "fixed:weights=[1, 0.1] single:digit"]
    assert split_specs(texts) == [
        "fixed",
        "uncertainty",
        "gradnorm:alpha=0.5,lr=0.1",
        "fixed:weights=[1, 0.1]",
        "single:digit",
    ]


def test_a_plugin_file_is_found(tmp_path: Path) -> None:
    path = plugin(tmp_path / "mine.py", "mine")
    registry = Registry.load([path])
    assert registry.source("mine") == path
    before = registry.digest("mine")
    plugin(path, "mine", "# edited\n")
    assert registry.digest("mine") != before


def test_a_missing_plugin_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent\.py"):
        Registry.load([tmp_path / "absent.py"])


def test_an_entry_point_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin(tmp_path / "from_a_package.py", "from-a-package")
    monkeypatch.syspath_prepend(str(tmp_path))
    entry = EntryPoint("x", "from_a_package", "mtlbench.strategies")

    def found(group: str) -> list[EntryPoint]:
        return [entry] if group == "mtlbench.strategies" else []

    monkeypatch.setattr("mtlbench.plugins.entry_points", found)
    for _ in range(3):  # its module is imported once
        registry = Registry.load()
        assert "from-a-package" in registry.strategies
        assert registry.problems == []


def test_an_entry_point_that_names_a_package_is_found_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "of_many"
    package.mkdir()
    plugin(package / "one.py", "one-of-many")
    plugin(package / "two.py", "two-of-many")
    (package / "__init__.py").write_text("from of_many import one, two\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    def found(group: str) -> list[EntryPoint]:
        return [EntryPoint("x", "of_many", group), EntryPoint("y", "of_many.two:Mine", group)]

    monkeypatch.setattr("mtlbench.plugins.entry_points", found)
    for _ in range(2):
        registry = Registry.load()
        assert {"one-of-many", "two-of-many"} < set(registry.strategies)
        assert registry.problems == []
    assert Registry.load([plugin(tmp_path / "clash.py", "two-of-many")]).problems


def test_of_two_strategies_of_one_name_the_later_is_out(tmp_path: Path) -> None:
    registry = Registry.load([plugin(tmp_path / "clash.py", "gradnorm")])
    (problem,) = registry.problems
    assert "clash.py" in problem
    assert "gradnorm.py" in problem
    assert registry.source("gradnorm").name == "gradnorm.py"


@pytest.mark.parametrize("fault", ["raise RuntimeError('no')", "import not_there", "def (", "raise SystemExit(3)"])
def test_a_plugin_that_fails_to_import_is_out_alone(tmp_path: Path, fault: str) -> None:
    bad = plugin(tmp_path / "bad.py", "half", fault)
    registry = Registry.load([bad, plugin(tmp_path / "good.py", "good")])
    assert "good" in registry.strategies
    assert "half" not in registry.strategies
    assert str(bad) in registry.problems[0]
    with pytest.raises(UserError, match=r"bad\.py"):
        registry.get("half")


TWO = """
from __future__ import annotations
from typing import TYPE_CHECKING
from mtlbench import Strategy, register
if TYPE_CHECKING:
    from torch import Tensor

@register("first")
class First(Strategy):
    def __init__(self, shape: tuple[int, int], *, {hyper}) -> None:
        super().__init__(shape)
        {body}

{end}
"""


def two(path: Path, *, hyper: str = "a: float = 1.0", body: str = "pass", end: str = "") -> Path:
    path.write_text(TWO.format(hyper=hyper, body=body, end=end))
    return path


@pytest.mark.parametrize(
    ("hyper", "end", "says"),
    [
        ("a: float = 1.0", "raise RuntimeError('after the first')", "after the first"),
        ("a: float = 1.0", "register('Not A Name')(First)", "Not A Name"),
        ("a: Tensor | None = None", "", "Tensor"),
    ],
    ids=["raises after a strategy", "malformed name", "hints that cannot be read"],
)
def test_a_plugin_is_taken_whole_or_not_at_all(tmp_path: Path, hyper: str, end: str, says: str) -> None:
    path = two(tmp_path / "two.py", hyper=hyper, end=end)
    registry = Registry.load([path])
    assert "first" not in registry.strategies
    assert "gradnorm" in registry.strategies
    (problem,) = registry.problems
    assert str(path) in problem
    assert says in problem


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("raise RuntimeError('one line\\nmore')", "first: one line"),
        ("raise KeyError", "first: KeyError"),
        ("1 / 0", "first: division by zero"),
    ],
)
def test_whatever_a_constructor_raises_is_one_line(tmp_path: Path, body: str, says: str) -> None:
    registry = Registry.load([two(tmp_path / "two.py", body=body)])
    with pytest.raises(UserError) as raised:
        registry.parse("first", MNIST)
    assert str(raised.value) == says


@pytest.mark.parametrize("text", ["uncertainty:s=1e39", "gradnorm:0.3)(0.5", "gradnorm:*[1]", "gradnorm:**{'alpha':1}"])
def test_values_that_only_look_readable_are_refused(registry: Registry, text: str) -> None:
    with pytest.raises(UserError, match=text.partition(":")[0]):
        registry.parse(text, MNIST)


TEXTS = """
from mtlbench import Strategy, register

@register("texts")
class Texts(Strategy):
    def __init__(
        self, shape: tuple[int, int], *, text: str = "plain", pair: tuple[float, ...] = (1.0, 2.0),
        rows: tuple[tuple[str, int], ...] = (), maybe: str | None = None, flag: bool = False,
    ) -> None:
        super().__init__(shape)
        self.given = (text, pair, rows, maybe, flag)
"""


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    path = tmp_path_factory.mktemp("texts") / "texts.py"
    path.write_text(TEXTS)
    return Registry.load([path])


@given(
    text=st.text(max_size=8)
    | st.sampled_from(["a b", "a,b", "it's", '"', "x=1", "True", "None", "nan", "class", "[", ":"]),
    pair=st.lists(finite, max_size=3).map(tuple),
    rows=st.lists(st.tuples(st.text(max_size=3), st.integers(-9, 9)), max_size=2).map(tuple),
    flag=st.booleans(),
)
def test_text_and_tuples_are_read_from_a_label(
    texts: Registry, text: str, pair: tuple[float, ...], rows: tuple[tuple[str, int], ...], flag: bool
) -> None:
    given = {"text": text, "pair": pair, "rows": rows, "maybe": text, "flag": flag}
    label = f"texts:{','.join(f'{key}={written(value)}' for key, value in given.items())}"
    spec = texts.parse(label, MNIST)
    assert texts.parse(spec.label, MNIST) == spec
    assert Spec.model_validate_json(spec.model_dump_json()) == spec
    assert vars(texts.build(spec, (1, 2)))["given"] == tuple(given.values())
    assert split_specs([f"fixed,{spec.label} dwa"]) == ["fixed", spec.label, "dwa"]


def test_defaults_that_are_tuples_are_left_out_of_a_label(texts: Registry) -> None:
    assert texts.parse("texts:text=plain,pair=[1,2],rows=[]", MNIST).label == "texts"
    assert texts.parse("texts:pair=(1,3)", MNIST).label == "texts:pair=[1,3]"
    assert texts.parse("texts:pair=(1,3)", MNIST).hyper == {"pair": [1.0, 3.0]}


def test_torchjd_is_no_strategy_of_a_default_bench(registry: Registry) -> None:
    assert not any("torchjd" in name for name in registry.strategies)


def test_without_torchjd_what_to_install_is_said(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "mtlbench.peers", raising=False)
    monkeypatch.setitem(sys.modules, "torchjd", None)
    with pytest.raises(UserError, match=r"pip install 'mtlbench\[torchjd\]'"):
        registry.parse("torchjd:UPGrad", MNIST)


def test_a_run_of_torchjd_is_another_with_another_version(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    before = registry.digest("torchjd:UPGrad"), registry.digest("upgrad")
    assert registry.source("torchjd:UPGrad").name == "peers.py"

    def version(_: str) -> str:
        return "0.0"

    monkeypatch.setattr("mtlbench.registry.version", version)
    assert registry.digest("torchjd:UPGrad") != before[0]
    assert registry.digest("upgrad") == before[1]
