"""Two tasks in a LightningModule, with losses weighted by any strategy (requires `pip install lightning`).

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
    """A classification and a regression with a shared trunk; the Balancer is an attribute of the module.

    It therefore moves to the device with the module and is part of every checkpoint. Optimisation stays automatic.
    """

    def __init__(self, strategy: str) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU())
        self.kind, self.size = nn.Linear(16, 4), nn.Linear(16, 1)
        self.balance = Balancer(strategy, tasks=["kind", "size"], shared=self.trunk)

    def losses(self, batch: list[Tensor]) -> dict[str, Tensor]:
        """Cross-entropy of the class and squared error of the number."""
        x, kind, size = batch
        features = self.trunk(x)
        return {"kind": F.cross_entropy(self.kind(features), kind), "size": F.mse_loss(self.size(features)[:, 0], size)}

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        """Return the weighted sum of the losses; Lightning calls `backward` on it."""
        losses = self.losses(batch)
        self.log_dict(losses, prog_bar=True, on_step=False, on_epoch=True)
        return self.balance(losses)

    def on_train_batch_end(self, outputs: object, batch: list[Tensor], batch_idx: int) -> None:
        """Call the strategy's hook after the step of the optimizer."""
        self.balance.after_update(lambda: self.losses(batch))

    def on_train_epoch_end(self) -> None:
        """Call the strategy's hook after the last batch."""
        self.balance.epoch_end()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Pass all parameters: the Balancer makes sure that the strategy's own are not changed by this optimizer."""
        return torch.optim.Adam(self.parameters(), lr=1e-2)


def main() -> None:
    """Train on random samples and print the mean losses of the last epoch."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--strategy", default="famo")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--precision", default="32-true")
    arguments = parser.parse_args()

    seed_everything(0, verbose=False)
    x = torch.randn(512, 8)
    samples = TensorDataset(x, x[:, :4].argmax(-1), x.sum(-1))
    trainer = Trainer(
        max_epochs=arguments.epochs,
        precision=arguments.precision,
        accelerator="auto",
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        log_every_n_steps=1,
    )
    trainer.fit(TwoTasks(arguments.strategy), DataLoader(samples, batch_size=64, shuffle=True))
    print(", ".join(f"{name} {float(value):.3f}" for name, value in sorted(trainer.callback_metrics.items())))


if __name__ == "__main__":
    main()
