"""The FNO of neuraloperator 2.0, eager or compiled, as a contender.

Optimiser: `torch.optim.Adam`, which treats a complex weight as a pair of real ones, as our Adam does. (neuraloperator
ships an AdamW of its own that takes the modulus of a complex gradient; it is a Python loop and slower.)
"""

import pathlib

import neuralop
import numpy as np
import torch
from neuralop.models import FNO
from peers.torch_contender import contender


def fno(settings: dict) -> dict:
    """Settings: modes, width, size, batch, seed, exchange, and compile (bool)."""
    torch.manual_seed(settings["seed"])
    model = FNO(tuple(settings["modes"]), 1, 1, hidden_channels=settings["width"])
    state = {name: value.detach().numpy() for name, value in model.state_dict().items() if torch.is_tensor(value)}
    weights = pathlib.Path(settings["exchange"]) / "weights.npz"
    if not weights.exists():
        np.savez(weights, **state)
    info = {"neuraloperator": neuralop.__version__, "parameters": neuralop.utils.count_model_params(model)}
    return contender(model, settings, info)
