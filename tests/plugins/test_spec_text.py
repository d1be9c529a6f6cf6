"""The text of a strategy: parsed, checked, and written back."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtlbench.errors import UserError
from mtlbench.plugins.registry import Registry
from mtlbench.plugins.spec_text import split_specs, written
from mtlbench.records.records import Spec
from mtlbench.setups import MNIST

finite = st.floats(1e-6, 1e6, allow_nan=False)


@given(alpha=finite, lr=finite)
def test_parsing_a_label_gives_its_spec_again(registry: Registry, alpha: float, lr: float) -> None:
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
    ("text", "name"),
    [
        ("gradnrom", "gradnorm"),
        ("nothing-like-it", "uncertainty-softmax, upgrad, single"),
        ("gradnorm:beta=1", "alpha=1.5, lr=0.025"),
        ("gradnorm:alpha=x", "alpha is 'x'"),
        ("gradnorm:alpha=-1", "alpha must be finite and >= 0"),
        ("gradnorm:alpha=nan", "alpha must be finite"),
        ("gradnorm:alpha=", "'gradnorm:alpha='"),
        ("gradnorm:alpha=0.5,fixed", "'gradnorm:alpha=0.5,fixed'"),
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
        ("torchjd:upgrd", "torchjd:UPGrad, torchjd:PCGrad"),
        ("torchjd:WeightedAggregator", "'WeightedAggregator'"),
        ("torchjd:UPGrad,MGDA,UW", "'torchjd:UPGrad,MGDA,UW'"),
        ("torchjd:CAGrad", "torchjd:CAGrad: c "),
        ("torchjd:CAGrad,d=1", "c=..., norm_eps=0.0001, heads=own"),
        ("torchjd:CAGrad,c=x", "c is 'x'"),
        ("torchjd:CAGrad,c=-1", "c must be non-negative"),
        ("torchjd:Constant,weights=[1,2,3]", "shape (3,)"),
        ("torchjd:Krum,n_byzantine=0", "at least 3 rows"),
        ("torchjd:CRMOGM,weighting=UW", "AlignedMTL"),
        ("torchjd:CRMOGM,weighting=CAGrad", "CRMOGM,weighting=CAGrad: c "),
    ],
)
def test_faulty_text_is_refused_in_one_line_that_names_the_fault(registry: Registry, text: str, name: str) -> None:
    with pytest.raises(UserError) as error:
        registry.parse(text, MNIST)
    assert name in str(error.value)
    assert "\n" not in str(error.value)


@given(
    st.text(max_size=30),
    st.sampled_from(["", "fixed:", "gradnorm:", "uncertainty:s=", "single:", "torchjd:", "torchjd:PCD,"]),
)
def test_any_text_is_parsed_or_a_user_error(registry: Registry, text: str, start: str) -> None:
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


@pytest.mark.parametrize("text", ["uncertainty:s=1e39", "gradnorm:0.3)(0.5", "gradnorm:*[1]", "gradnorm:**{'alpha':1}"])
def test_values_that_only_look_valid_are_refused(registry: Registry, text: str) -> None:
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


def test_labels_are_read_without_torch() -> None:
    code = "import sys, mtlbench.plugins.spec_text; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
