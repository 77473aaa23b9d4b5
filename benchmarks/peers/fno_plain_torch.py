"""The FNO of neuraloperator 2.0 in plain PyTorch, for machines without that package: equal weights, equal outputs.

Weights are a dict by the names of neuraloperator's state dict; those of the Fourier layers are stored as real pairs, so
that the fused Adam takes them. Transforms are in float32 also under autocast, since cuFFT has no bfloat16.
"""

import numpy as np
import torch
import torch.nn.functional as F


class Fno:
    """The operator with one input and one output channel; sizes of the layers as neuraloperator's defaults."""

    def __init__(self, modes: tuple[int, int], width: int, depth: int, seed: int) -> None:
        self.modes, self.depth, generator = modes, depth, torch.Generator().manual_seed(seed)
        self.weights: dict[str, torch.Tensor] = {}
        self._draw("lifting.fcs.0", (2 * width, 3), generator)
        self._draw("lifting.fcs.1", (width, 2 * width), generator)
        for i in range(depth):
            shape, scale = (width, width, modes[0], modes[1] // 2 + 1, 2), (2 * width) ** -0.5
            self.weights[f"fno_blocks.convs.{i}.weight.tensor"] = torch.randn(shape, generator=generator) * scale
            self.weights[f"fno_blocks.convs.{i}.bias"] = torch.randn((width, 1, 1), generator=generator) * scale
            self._draw(f"fno_blocks.fno_skips.{i}.conv", (width, width), generator, bias=False)
            self._draw(f"fno_blocks.channel_mlp.{i}.fcs.0", (width // 2, width), generator)
            self._draw(f"fno_blocks.channel_mlp.{i}.fcs.1", (width, width // 2), generator)
            self.weights[f"fno_blocks.channel_mlp_skips.{i}.weight"] = torch.ones(1, width, 1, 1)
        self._draw("projection.fcs.0", (2 * width, width), generator)
        self._draw("projection.fcs.1", (1, 2 * width), generator)

    def to(self, device: str) -> "Fno":
        self.weights = {name: array.to(device).requires_grad_() for name, array in self.weights.items()}
        return self

    def _draw(self, name: str, shape: tuple[int, int], generator: torch.Generator, bias: bool = True) -> None:
        uniform = lambda *size: (2 * torch.rand(size, generator=generator) - 1) * shape[1] ** -0.5
        self.weights[f"{name}.weight"] = uniform(*shape, 1)
        if bias:
            self.weights[f"{name}.bias"] = uniform(shape[0])

    def parameters(self) -> list[torch.Tensor]:
        return list(self.weights.values())

    def arrays(self) -> dict[str, np.ndarray]:
        """The weights as neuraloperator has them."""
        found = {name: weight.detach().cpu().numpy() for name, weight in self.weights.items()}
        pairs = {name: array[..., 0] + 1j * array[..., 1] for name, array in found.items() if name.endswith("tensor")}
        return found | pairs

    def dense(self, x: torch.Tensor, name: str) -> torch.Tensor:
        flat = F.conv1d(x.flatten(2), self.weights[f"{name}.weight"], self.weights.get(f"{name}.bias"))
        return flat.unflatten(2, x.shape[2:])

    def network(self, x: torch.Tensor, name: str) -> torch.Tensor:
        return self.dense(F.gelu(self.dense(x, f"{name}.fcs.0")), f"{name}.fcs.1")

    def spectral(self, x: torch.Tensor, name: str) -> torch.Tensor:
        low, high, columns = self.modes[0] // 2, (self.modes[0] + 1) // 2, self.modes[1] // 2 + 1
        with torch.autocast(x.device.type, enabled=False):
            spectrum = torch.fft.rfft2(x.float(), norm="forward")[..., :columns]
            kept = torch.cat((spectrum[:, :, -low:], spectrum[:, :, :high]), dim=2)
            weight = torch.view_as_complex(self.weights[f"{name}.weight.tensor"])
            mixed = torch.einsum("bixy,ioxy->boxy", kept, weight)
            wide = mixed.new_zeros(*mixed.shape[:2], x.shape[2], x.shape[3] // 2 + 1)
            wide[:, :, -low:, :columns], wide[:, :, :high, :columns] = mixed[:, :, :low], mixed[:, :, low:]
            return torch.fft.irfft2(wide, s=x.shape[2:], norm="forward") + self.weights[f"{name}.bias"]

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        rows, columns = (torch.arange(n, device=x.device) / n for n in x.shape[2:])
        grid = torch.stack(torch.meshgrid(rows, columns, indexing="ij")).expand(len(x), -1, -1, -1)
        v = self.network(torch.cat((x, grid.to(x.dtype)), dim=1), "lifting")
        for i in range(self.depth):
            activation = F.gelu if i < self.depth - 1 else lambda u: u
            gated = self.weights[f"fno_blocks.channel_mlp_skips.{i}.weight"] * v
            skip = self.dense(v, f"fno_blocks.fno_skips.{i}.conv")
            v = activation(self.spectral(v, f"fno_blocks.convs.{i}") + skip)
            v = activation(self.network(v, f"fno_blocks.channel_mlp.{i}") + gated)
        return self.network(v, "projection")
