"""Two tasks in a LightningModule, their losses balanced by any strategy of the bench (needs `pip install lightning`).

python docs/examples/with_lightning.py --strategy famo --epochs 3 [--precision bf16-mixed]
"""

import argparse

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from mtlbench import Balancer


class TwoTasks(LightningModule):
    """The class of a sample and a number of it, from one trunk. The Balancer is a part of the module.

    So it moves to the device and is in every checkpoint with the module; optimisation stays automatic.
    """

    def __init__(self, strategy: str) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU())
        self.kind, self.size = nn.Linear(16, 4), nn.Linear(16, 1)
        self.balance = Balancer(strategy, tasks=["kind", "size"], shared=self.trunk)

    def losses(self, batch: list[Tensor]) -> dict[str, Tensor]:
        """Cross-entropy of the class, squared error of the number."""
        x, kind, size = batch
        features = self.trunk(x)
        return {"kind": F.cross_entropy(self.kind(features), kind), "size": F.mse_loss(self.size(features)[:, 0], size)}

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        """What Lightning calls backward on: the balanced scalar in place of the sum."""
        losses = self.losses(batch)
        self.log_dict(losses, prog_bar=True, on_step=False, on_epoch=True)
        return self.balance(losses)

    def on_train_batch_end(self, outputs: object, batch: list[Tensor], batch_idx: int) -> None:
        """After the optimizer's step."""
        self.balance.after_update(lambda: self.losses(batch))

    def on_train_epoch_end(self) -> None:
        """After the last batch."""
        self.balance.epoch_end()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Everything may be given to it: the Balancer keeps the strategy's own parameters to itself."""
        return torch.optim.Adam(self.parameters(), lr=1e-2)


def main() -> None:
    """Train on made-up samples and print the last epoch's mean losses."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--strategy", default="famo")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--precision", default="32-true")
    asked = parser.parse_args()

    seed_everything(0, verbose=False)
    x = torch.randn(512, 8)
    samples = TensorDataset(x, x[:, :4].argmax(-1), x.sum(-1))
    trainer = Trainer(
        max_epochs=asked.epochs,
        precision=asked.precision,
        accelerator="auto",
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        log_every_n_steps=1,
    )
    trainer.fit(TwoTasks(asked.strategy), DataLoader(samples, batch_size=64, shuffle=True))
    print(", ".join(f"{name} {float(value):.3f}" for name, value in sorted(trainer.callback_metrics.items())))


if __name__ == "__main__":
    main()
