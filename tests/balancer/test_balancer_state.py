"""The state of a Balancer: complete, independent of others, and in full precision."""

from __future__ import annotations

import copy
import io
import pickle
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from mtlbench import Balancer, UserError
from mtlbench.balancer.keeping import registry_with, unpacked
from tests.helpers.loops import LR, NAMES, Loop, scalar
from tests.helpers.toy import toy_setup


@pytest.mark.parametrize("name", NAMES)
def test_resumed_training_equals_uninterrupted_training(name: str) -> None:
    loop = Loop(name, toy_setup())
    for index in range(7):
        loop.step(index)
    file = io.BytesIO()
    states = [part.state_dict() for part in (loop.network, loop.optimizer, loop.balance)]
    torch.save(states, file)
    file.seek(0)
    resumed = Loop(name, toy_setup())
    for part, state in zip((resumed.network, resumed.optimizer, resumed.balance), torch.load(file), strict=True):
        part.load_state_dict(state)
    for index in range(7, 15):
        loop.step(index)
        resumed.step(index)
    expected = loop.state()
    assert resumed.state().keys() == expected.keys()
    for key, value in resumed.state().items():
        assert torch.equal(value, expected[key]), key


def test_a_state_saved_between_call_and_hook_still_accepts_the_hook() -> None:
    one, other = Balancer("famo", tasks=2), Balancer("famo", tasks=2)
    one([scalar(), 2 * scalar()])
    other.load_state_dict(one.state_dict())
    for balance in (one, other):
        balance.after_update([torch.tensor(0.5), torch.tensor(1.9)])
    logits = one.state_dict()["strategy.logits"]
    assert bool(logits.any())
    assert torch.equal(other.state_dict()["strategy.logits"], logits)


def test_the_seed_of_the_random_numbers_is_part_of_the_state() -> None:
    one, other = (Balancer("rlw", tasks=2, seed=seed) for seed in (1, 2))
    losses = [scalar(), scalar()]
    other.load_state_dict(one.state_dict())
    one(losses)
    other(losses)
    assert torch.equal(one.weights, other.weights)


def test_the_networks_optimizer_leaves_the_strategys_parameters_unchanged() -> None:
    alone, greedy = Loop("uncertainty", toy_setup()), Loop("uncertainty", toy_setup())
    greedy.optimizer = torch.optim.AdamW([*greedy.network.parameters(), *greedy.balance.parameters()], lr=LR)
    alone.optimizer = torch.optim.AdamW(alone.network.parameters(), lr=LR)
    for index in range(6):
        alone.step(index)
        greedy.step(index)
    expected = alone.state()
    for key, value in greedy.state().items():
        assert torch.equal(value, expected[key]), key


def test_the_shared_module_is_not_part_of_the_balancer() -> None:
    trunk = nn.Linear(3, 2)
    balance = Balancer("gradnorm", tasks=2, shared=trunk)
    assert [name for name, _ in balance.named_parameters()] == ["strategy.weights"]
    assert not any("shared" in key or "last" in key for key in balance.state_dict())


def test_dtypes_follow_the_shared_parameters_and_moments_follow_them() -> None:
    balance = Balancer("uncertainty", tasks=2, shared=nn.Linear(3, 2, dtype=torch.bfloat16))
    assert balance.weights.dtype == torch.float32  # never less, whatever the network's dtype
    x = scalar()
    balance([x, 2 * x])
    balance.double()([x, 2 * x])
    moments = unpacked(balance.get_extra_state())["optimizer"]["state"][0]
    assert moments["exp_avg"].dtype == balance.weights.dtype == torch.float64


def test_weights_that_a_caller_keeps_do_not_change() -> None:
    balance = Balancer("rlw", tasks=3)
    kept: list[Tensor] = []
    for _ in range(2):
        balance([scalar()] * 3)
        kept.append(balance.weights)
    assert not torch.equal(*kept)
    assert torch.equal(balance.state_dict()["weights"], kept[-1])


def moved(balance: Balancer, steps: int) -> Tensor:
    """The weights after this many steps on losses that differ and change."""
    x = torch.ones((), requires_grad=True)
    for step in range(steps):
        balance([x * (2 + step), x / 3])
    return balance.weights


@pytest.mark.parametrize("assign", [False, True])
@pytest.mark.parametrize("name", ["uncertainty", "imtl-l"])
def test_training_does_not_change_the_state_that_it_was_loaded_from(name: str, *, assign: bool) -> None:
    balance = Balancer(name, tasks=2)
    moved(balance, 5)
    kept = copy.deepcopy(balance.state_dict())
    expected = moved(balance, 5)
    for _ in range(2):
        again = Balancer(name, tasks=2)
        again.load_state_dict(copy.deepcopy(kept) if assign else kept, assign=assign)
        assert torch.equal(moved(again, 5), expected)


@pytest.mark.parametrize(
    ("other", "tasks"), [("uncertainty", ["a", "b"]), ("mgda", ["a", "b"]), ("imtl-l", ["b", "a"]), ("imtl-l", 2)]
)
def test_the_state_of_another_strategy_or_other_tasks_is_refused(other: str, tasks: list[str] | int) -> None:
    balance = Balancer("imtl-l", tasks=["a", "b"])
    with pytest.raises(UserError, match=rf"imtl-l.*a, b.*{other}"):
        balance.load_state_dict(Balancer(other, tasks=tasks, shared=nn.Linear(2, 2)).state_dict())


def test_freezing_it_freezes_its_parameters_and_freezing_a_module_around_it_does_not() -> None:
    balance = Balancer("uncertainty", tasks=2)
    nn.ModuleList([balance]).requires_grad_(requires_grad=False)
    before = moved(balance, 3)
    assert not any(parameter.requires_grad for parameter in balance.parameters())
    balance.requires_grad_(requires_grad=False)
    after = moved(balance, 1)
    assert not torch.equal(before, after)
    assert torch.equal(moved(balance, 3), after)
    assert not torch.equal(moved(balance.requires_grad_(), 3), after)


@pytest.mark.parametrize("name", NAMES)
def test_in_eval_mode_losses_are_weighed_and_nothing_changes(name: str) -> None:
    loop = Loop(name, toy_setup())
    rows = torch.arange(5)
    with pytest.raises(UserError, match=r"eval mode.*balance\.train\(\)"):
        loop.balance.eval()(loop.losses_of(rows))
    loop.balance.train()
    loop.step(0)
    kept = copy.deepcopy(loop.balance.state_dict())
    with torch.inference_mode():
        total = loop.balance.eval()(loop.losses_of(rows))
        loop.balance.after_update(list(loop.losses_of(rows).values()))
    losses = torch.stack([*loop.losses_of(rows).values()])
    torch.testing.assert_close(total, (loop.balance.weights * losses).sum())
    assert not loop.balance(loop.losses_of(rows)).requires_grad
    for key, value in loop.balance.state_dict().items():
        assert torch.equal(value, kept[key]), key
    with torch.inference_mode():
        loop.balance.train().epoch_end()
    loop.step(1)


@pytest.mark.parametrize("name", NAMES)
def test_the_state_is_of_tensors_and_the_balancer_can_be_pickled(name: str) -> None:
    loop = Loop(name, toy_setup())
    loop.step(0)
    state = safetensors.torch.load(safetensors.torch.save(loop.balance.state_dict()))
    other = Loop(name, toy_setup()).balance
    other.load_state_dict(state)
    loop.balance, loop.network, loop.optimizer = pickle.loads(
        pickle.dumps((loop.balance, loop.network, loop.optimizer))
    )
    assert all(isinstance(value, Tensor) for value in loop.balance.state_dict().values())
    for key, value in loop.balance.state_dict().items():
        assert torch.equal(value, other.state_dict()[key]), key
    for index in range(2):
        loop.step(index)


PLUGIN = """
from mtlbench import Strategy, register

@register("away")
class Away(Strategy):
    def forward(self, step):
        return 2 * step.losses.sum(-1)
"""


@pytest.mark.parametrize("name", ["away", "smooth:away", "torchjd:UPGrad", "smooth:famo"])
def test_a_pickled_balancer_loads_its_plugins(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in another process: the modules of plug-ins are not loaded."""
    (tmp_path / "away.py").write_text(PLUGIN)
    trunk = nn.Linear(2, 2)
    balance = Balancer(name, tasks=2, shared=trunk, plugins=[tmp_path / "away.py"])
    written = pickle.dumps(nn.ModuleList([trunk, balance]))
    for module in [module for module in sys.modules if module.startswith("mtlbench_plugin_")]:
        monkeypatch.delitem(sys.modules, module)
    registry_with.cache_clear()
    trunk, balance = pickle.loads(written)
    balance(trunk(torch.ones(3, 2)).square().mean(0)).backward()
    assert trunk.weight.grad is not None


@pytest.mark.parametrize("name", ["famo", "dwa", "uncertainty"])
def test_half_precision_around_it_does_not_affect_its_state(name: str) -> None:
    inside, alone = (Balancer(name, tasks=2) for _ in range(2))
    model = nn.ModuleDict({"net": nn.Linear(2, 2), "balance": inside})
    for step in range(600):
        model.to(torch.bfloat16 if step % 2 else torch.float16)
        for balance in (inside, alone):
            x = torch.ones((), requires_grad=True)
            balance([x * (1 + step / 600), x / 3])
            balance.after_update([x * (1 + step / 600) - 0.01, x / 3])
    for balance in (inside, alone):
        balance.epoch_end()
        moved(balance, 1)
    assert model["net"].weight.dtype == torch.float16 or model["net"].weight.dtype == torch.bfloat16
    for key, value in alone.state_dict().items():
        if isinstance(value, Tensor):
            assert torch.equal(inside.state_dict()[key], value), key
