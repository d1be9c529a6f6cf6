"""`aligned-mtl`: the condition number of the aligned gradients is 1."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchjd import aggregation

from mtlbench.plugins.registry import Registry
from tests.helpers.authors import TORCHJD, Authors, Comparison, aggregated, code
from tests.helpers.gradient_problems import few, numbers, solve, task_counts
from tests.helpers.plain import PlainStep, Surgery

# The code of SamsungLabs/MTL at 3f577f1, code/optim/aligned/solver.py, with torch's default dtype float64:
# ProcrustesSolver.apply(gradients.mT.unsqueeze(0), mode)[1].sum(-1) for each step, by `scale`, whose mean is the mode
# rmse, with torch.linalg.eigh for torch.symeig, which torch no longer has.
WEIGHTS = {
    "min": [
        [0.235120748057344, 0.5828842859668358, 1.0267774964914735],
        [0.22269445416525446, 0.748609927367436, 0.8661608916743745],
        [0.5259296565157817, 0.6742503851095233, 0.1332620549668066],
    ],
    "median": [
        [0.5408387344206014, 1.3407851163312627, 2.3618546909291216],
        [0.4146085576265208, 1.393748593219946, 1.6126028792038245],
        [0.8767401516918976, 1.1239951533356916, 0.22215175135853182],
    ],
    "mean": [
        [0.6214068778901576, 1.540520380726016, 2.713697551808676],
        [0.5912130953235616, 1.9874226055958177, 2.299498942326694],
        [1.0697904444702249, 1.3714887727554728, 0.2710675681580955],
    ],
}


class AlignedMTL(Surgery):
    def direct(self, step: PlainStep, jacobian: Tensor) -> Tensor:
        values, vectors = torch.linalg.eigh(jacobian @ jacobian.T)
        return (values[0] / values).sqrt() * (vectors.sum(0) / 2) @ (vectors.T @ jacobian)


PLAIN = {"aligned-mtl": AlignedMTL}
AUTHORS = Authors(
    *(
        Comparison(code("SamsungLabs/MTL", "3f577f1"), weights, hyper={"scale": scale}, factor=3)
        for scale, weights in WEIGHTS.items()
    ),
    Comparison(TORCHJD, aggregated(aggregation.AlignedMTL), "directions"),
    default="`min`, as in algorithm 1 and by default in the code",
    deviations="p = 1 / T, in the code p = 1",
)


@few
@given(tasks=task_counts, seed=numbers, scale=st.sampled_from(["min", "median", "mean"]), rank=st.integers(1, 5))
def test_makes_the_condition_number_1(registry: Registry, tasks: int, seed: int, scale: str, rank: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    jacobian = torch.randn(4, tasks, rank, generator=generator, dtype=torch.float64)
    losses = torch.ones(4, tasks, dtype=torch.float64)
    weights, _ = solve(registry, "aligned-mtl", losses, jacobian, hyper={"scale": scale})
    kept = min(tasks, rank)
    left, values, _ = torch.linalg.svd(jacobian, full_matrices=False)
    left, squares = left[..., :kept], values[:, :kept] ** 2
    chosen = {"min": squares.amin(-1), "median": squares.median(-1).values, "mean": squares.mean(-1)}[scale]
    balance = left @ torch.diag_embed((chosen[:, None] / squares).sqrt()) @ left.mT  # B
    turned = balance @ jacobian @ jacobian.mT @ balance
    torch.testing.assert_close(turned, chosen[:, None, None] * left @ left.mT)
    torch.testing.assert_close(weights, balance.mean(-1), rtol=1e-6, atol=1e-8)
