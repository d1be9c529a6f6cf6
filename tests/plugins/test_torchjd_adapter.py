"""Methods of TorchJD in our harness: each trains replica by replica as it would alone, and as ours of its name does."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from mtlbench.contracts.setup import Setup, binary, classification
from mtlbench.engine.trainer import Trainer
from mtlbench.plugins.registry import Registry
from mtlbench.plugins.torchjd import methods
from tests.helpers.toy import toy_setup

pytestmark = [
    pytest.mark.filterwarnings("ignore:You are solving a parameterized problem that is not DPP"),
    pytest.mark.filterwarnings("ignore:Solution may be inaccurate"),
]

SEEDS = (3, 11)
REQUIRED = {
    "CAGrad": "c=0.4",
    "Constant": "weights=[1,2,3]",
    "COSMOS": "lambda_=0.1,weights=[1,2,3]",
    "CRMOGM": "weighting=MoDo",
    "FairGrad": "alpha=2",
    "Krum": "n_byzantine=0",
    "PBI": "theta=5,weights=[1,2,3]",
    "STCH": "mu=0.5",
    "TrimmedMean": "trim_number=1",
}
GIVEN = (
    "AlignedMTL,pref_vector=[1,2,3],scale_mode=median",
    "ConFIG,pref_vector=[1,2,3]",
    "FAMO,min_losses=[0.1,0,0]",
    "GradDrop,leak=[0.5,0,0]",
    "PCD,tau=[0.1,0.2]",
    "UPGrad,pref_vector=[1,2,3],norm_eps=0,reg_eps=1e-13",
)
LABELS = [f"{name},{REQUIRED[name]}" if name in REQUIRED else name for name in methods()]


def trained(registry: Registry, label: str, seeds: tuple[int, ...], setup: Setup) -> Trainer:
    """Three epochs of three steps, after which an epoch's losses have been compared with those before."""
    spec = registry.parse(label, setup)
    trainer = Trainer(
        setup,
        partial(registry.build, spec),
        seeds,
        setup.samples()[0],
        batch_size=6,
        lr=1e-2,
        device=torch.device("cpu"),
        dtype=torch.float64,
    )
    for epoch in range(3):
        trainer.start_epoch(epoch)
        for _ in range(trainer.steps_per_epoch):
            trainer.step()
        trainer.end_epoch()
    return trainer


@pytest.mark.parametrize("label", [*LABELS, *GIVEN])
def test_each_replica_trains_as_it_would_alone(registry: Registry, label: str) -> None:
    setup = toy_setup(tasks=(classification("digit", 3), binary("above_five"), binary("again")), size=18)
    together = trained(registry, f"torchjd:{label}", SEEDS, setup)
    for k, seed in enumerate(SEEDS):
        alone = trained(registry, f"torchjd:{label}", (seed,), setup)
        for name, trace in alone.traces.items():
            torch.testing.assert_close(together.traces[name][:, k], trace[:, 0], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("Sum", "fixed"),
        ("Constant,weights=[1,0.1]", "fixed:weights=[1,0.1]"),
        ("UW", "uncertainty:c=0.5,lr=0.01"),
        ("IMTLL", "imtl-l:lr=0.01"),
        ("DWA", "dwa"),
        ("FAMO", "famo"),
        ("GeometricMean", "geometric"),
        ("STCH,mu=0.5", "stch:mu=0.5,warm_up=0"),
        ("MGDA", "mgda"),
        ("PCGrad", "pcgrad"),
        ("IMTLG", "imtl-g"),
        ("AlignedMTL", "aligned-mtl"),
        ("UPGrad,norm_eps=0,reg_eps=1e-13", "upgrad"),
        ("ConFIG", "config"),
        ("MoDo,gamma=0.1", "modo:gamma=0.1"),
        ("SDMGrad", "sdmgrad:max_norm=0"),
        ("TrimmedMean,trim_number=0", "fixed:weights=[0.5,0.5],heads=own"),
    ],
)
def test_a_method_trains_as_ours_does(registry: Registry, theirs: str, ours: str) -> None:
    setup = toy_setup(size=18)
    found = trained(registry, f"torchjd:{theirs}", SEEDS, setup)
    expected = trained(registry, ours, SEEDS, setup)
    torch.testing.assert_close(found.network.parameters, expected.network.parameters, rtol=1e-5, atol=1e-7)
