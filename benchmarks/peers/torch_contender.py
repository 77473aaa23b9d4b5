"""What to time of a PyTorch model: forward, and a training step with relative L2 loss and Adam."""

import numpy as np
import torch


def contender(model: torch.nn.Module, settings: dict, info: dict) -> dict:
    """Settings: size, batch, seed, and optionally compile (bool) and channels_last (bool)."""
    rng = np.random.default_rng(settings["seed"])
    shape = (settings["batch"], 1, settings["size"], settings["size"])
    x, y = (torch.from_numpy(rng.standard_normal(shape, dtype=np.float32)) for _ in range(2))
    if settings.get("channels_last"):
        model, x = model.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
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
    info = {"torch": torch.__version__, "threads": torch.get_num_threads(), **info}
    return {"forward": forward, "step": step, "outputs": outputs, "info": info}
