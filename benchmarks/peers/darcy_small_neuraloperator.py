"""Trains neuraloperator's FNO on the small Darcy pairs as its gallery example does, with its own classes.

Run by benchmarks/darcy_small.py in an interpreter with neuraloperator 2.0; prints one line of JSON. The settings are
those of the example `plot_FNO_darcy`: n_modes (8, 8), 24 hidden channels, AdamW with rate 1e-2 and weight decay 1e-4,
cosine annealing with T_max 30 per epoch, 15 epochs, batches of 64, H1 loss on normalised outputs.
"""

import argparse
import contextlib
import io
import json
import pathlib
import time

import numpy as np
import torch
from neuralop import H1Loss, LpLoss, Trainer
from neuralop.data.transforms.data_processors import DefaultDataProcessor
from neuralop.data.transforms.normalizers import UnitGaussianNormalizer
from neuralop.models import FNO
from neuralop.training import AdamW
from neuralop.utils import count_model_params
from torch.utils.data import DataLoader, Dataset


class Pairs(Dataset):
    """Samples as the dictionaries that the Trainer expects."""

    def __init__(self, path: pathlib.Path):
        with np.load(path, allow_pickle=False) as file:
            self.x, self.y = (torch.from_numpy(file[name][:, None]) for name in ("x", "y"))

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> dict[str, torch.Tensor]:
        return {"x": self.x[i], "y": self.y[i]}


def relative_l2(model: torch.nn.Module, processor: DefaultDataProcessor, pairs: Pairs) -> float:
    """Mean over the samples of the relative L2 error on raw fields."""
    with torch.no_grad():
        prediction = processor.out_normalizer.inverse_transform(model(pairs.x))
    error = (prediction - pairs.y).flatten(1).norm(dim=1) / pairs.y.flatten(1).norm(dim=1)
    return float(error.mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    train = Pairs(options.folder / "darcy_train_16.npz")
    tests = {n: Pairs(options.folder / f"darcy_test_{n}.npz") for n in (16, 32)}
    normaliser = UnitGaussianNormalizer(dim=[0, 2, 3])
    normaliser.fit(train.y)
    processor = DefaultDataProcessor(in_normalizer=None, out_normalizer=normaliser)
    model = FNO(n_modes=(8, 8), in_channels=1, out_channels=1, hidden_channels=24, projection_channel_ratio=2)
    optimizer = AdamW(model.parameters(), lr=1e-2, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=30)
    h1, l2 = H1Loss(d=2), LpLoss(d=2, p=2)
    trainer = Trainer(
        model=model, n_epochs=15, device="cpu", data_processor=processor, wandb_log=False, eval_interval=5
    )
    start = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        trainer.train(
            train_loader=DataLoader(train, batch_size=64),
            test_loaders={n: DataLoader(test, batch_size=32) for n, test in tests.items()},
            optimizer=optimizer,
            scheduler=scheduler,
            regularizer=False,
            training_loss=h1,
            eval_losses={"h1": h1, "l2": l2},
        )
    seconds = time.perf_counter() - start
    model.eval()
    errors = {str(n): relative_l2(model, processor, test) for n, test in tests.items()}
    result = {
        "parameters": count_model_params(model),
        "seconds": seconds,
        "relative_l2": errors,
        "torch": torch.__version__,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
