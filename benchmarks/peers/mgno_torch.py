"""The multigrid neural operator of `sciml.operators.MgNO` in PyTorch, to compare time and results with.

The Darcy form: zero padding, no biases in the cycle, `u <- GELU(V u + W u + b)`, a linear head. Inputs are
`(batch, channels, height, width)`; for the fast layout of the CPU convert model and input by
`.to(memory_format=torch.channels_last)`.
"""

import pathlib
from collections.abc import Sequence

import numpy as np
import torch
from peers.torch_contender import contender
from torch import nn

PUBLISHED = ((1, 0),) * 5 + ((2, 0),)


class Step(nn.Module):
    """u <- u + S (f - A u), or u <- S f at the start of a cycle."""

    def __init__(self, data: int, state: int, first: bool) -> None:
        super().__init__()
        self.smoother = nn.Conv2d(data, state, 3, padding=1, bias=False)
        self.operator = None if first else nn.Conv2d(state, data, 3, padding=1, bias=False)

    def forward(self, u: torch.Tensor | None, f: torch.Tensor) -> torch.Tensor:
        return self.smoother(f) if self.operator is None else u + self.smoother(f - self.operator(u))


class Cycle(nn.Module):
    """One V-cycle."""

    def __init__(self, data: int, state: int, shape: tuple[int, int], iterations: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        self.pre = nn.ModuleList(
            nn.ModuleList(Step(data, state, level == i == 0) for i in range(pre))
            for level, (pre, _) in enumerate(iterations)
        )
        self.post = nn.ModuleList(
            nn.ModuleList(Step(data, state, False) for _ in range(post)) for _, post in iterations
        )
        self.restrict_state, self.restrict_data, self.prolong = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for _ in iterations[1:]:
            kernel = tuple(3 if n % 2 else 4 for n in shape)
            self.restrict_state.append(nn.Conv2d(state, state, 3, stride=2, padding=1, bias=False))
            self.restrict_data.append(nn.Conv2d(data, data, 3, stride=2, padding=1, bias=False))
            self.prolong.append(nn.ConvTranspose2d(state, state, kernel, stride=2, padding=1, bias=False))
            shape = ((shape[0] + 1) // 2, (shape[1] + 1) // 2)

    def forward(self, f: torch.Tensor) -> torch.Tensor:
        u, visited = None, []
        for level, steps in enumerate(self.pre):
            if level:
                visited.append((u, f))
                u, f = self.restrict_state[level - 1](u), self.restrict_data[level - 1](f)
            for step in steps:
                u = step(u, f)
        for step in self.post[-1]:
            u = step(u, f)
        for level in reversed(range(len(visited))):
            fine, f = visited[level]
            u = fine + self.prolong[level](u)
            for step in self.post[level]:
                u = step(u, f)
        return u


class MgNO(nn.Module):
    """The operator; arguments as those of `sciml.operators.MgNO`."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        shape: tuple[int, int],
        width: int = 24,
        depth: int = 4,
        iterations: Sequence[tuple[int, int]] = PUBLISHED,
    ) -> None:
        super().__init__()
        into = [in_channels] + [width] * (depth - 1)
        self.cycles = nn.ModuleList(Cycle(n, width, shape, iterations) for n in into)
        self.local = nn.ModuleList(nn.Conv2d(n, width, 1) for n in into)
        self.head = nn.Conv2d(width, out_channels, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for cycle, local in zip(self.cycles, self.local, strict=True):
            x = nn.functional.gelu(cycle(x) + local(x))
        return self.head(x)


def mgno(settings: dict) -> dict:
    """Settings: size, batch, seed, exchange, and channels_last (bool)."""
    torch.manual_seed(settings["seed"])
    model = MgNO(1, 1, (settings["size"],) * 2)
    weights = pathlib.Path(settings["exchange"]) / "weights.npz"
    if not weights.exists():
        np.savez(weights, **{name: value.detach().numpy() for name, value in model.state_dict().items()})
    parameters = sum(value.numel() for value in model.parameters())
    return contender(model, settings, {"parameters": parameters})
