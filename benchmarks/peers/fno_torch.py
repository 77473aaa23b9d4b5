"""The FNO of neuraloperator 2.0, eager or compiled, as a contender.

Optimiser: `torch.optim.Adam`, which treats a complex weight as a pair of real ones, as our Adam does. (neuraloperator
ships an AdamW of its own that takes the modulus of a complex gradient; it is a Python loop and slower.)
"""

import pathlib

import neuralop
import numpy as np
import torch
from neuralop.models import FNO


def fno(settings: dict) -> dict:
    """Settings: modes, width, size, batch, seed, exchange, and compile (bool)."""
    torch.manual_seed(settings["seed"])
    model = FNO(tuple(settings["modes"]), 1, 1, hidden_channels=settings["width"])
    state = {name: value.detach().numpy() for name, value in model.state_dict().items() if torch.is_tensor(value)}
    weights = pathlib.Path(settings["exchange"]) / "weights.npz"
    if not weights.exists():
        np.savez(weights, **state)
    rng = np.random.default_rng(settings["seed"])
    shape = (settings["batch"], 1, settings["size"], settings["size"])
    x, y = (torch.from_numpy(rng.standard_normal(shape, dtype=np.float32)) for _ in range(2))
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    apply = torch.compile(model) if settings.get("compile") else model

    def forward():
        with torch.no_grad():
            return apply(x)

    def step():
        optimiser.zero_grad(set_to_none=True)
        error = torch.linalg.vector_norm((apply(x) - y).flatten(1), dim=1)
        (error / torch.linalg.vector_norm(y.flatten(1), dim=1)).mean().backward()
        optimiser.step()

    with torch.no_grad():
        outputs = model(x).numpy()
    info = {
        "torch": torch.__version__,
        "neuraloperator": neuralop.__version__,
        "threads": torch.get_num_threads(),
        "parameters": neuralop.utils.count_model_params(model),
    }
    return {"forward": forward, "step": step, "outputs": outputs, "info": info}
