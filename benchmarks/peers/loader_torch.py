"""A PyTorch DataLoader that reads windows of two frames from the file of benchmarks/streaming.py, as a contender.

Each worker opens the file by itself when it reads first, and reads each window by itself, in the order of a shuffle.
"""

import h5py
import torch
from torch.utils.data import DataLoader, Dataset


class Windows(Dataset):
    """Every window of a file."""

    def __init__(self, path: str):
        self.path, self.frames = path, None
        with h5py.File(path) as file:
            self.count, self.length = file["frames"].shape[:2]

    def __len__(self) -> int:
        """Number of windows."""
        return self.count * (self.length - 1)

    def __getitem__(self, i: int) -> torch.Tensor:
        """A window."""
        if self.frames is None:
            self.frames = h5py.File(self.path)["frames"]
        sample, first = divmod(i, self.length - 1)
        return torch.from_numpy(self.frames[sample, first : first + 2])


def epoch(settings: dict) -> dict:
    """Settings: file, batch, workers."""
    torch.manual_seed(settings["seed"])
    workers = settings["workers"]
    loader = DataLoader(
        Windows(settings["file"]),
        batch_size=settings["batch"],
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
    )

    def read() -> None:
        for batch in loader:
            assert batch.shape[1] == 2

    return {"epoch": read, "info": {"torch": torch.__version__, "windows": len(loader) * settings["batch"]}}
