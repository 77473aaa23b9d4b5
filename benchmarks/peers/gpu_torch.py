"""PyTorch's side of gpu.py: eager or compiled, in float32, TF32 or bfloat16 (autocast), with fused Adam where possible.

Settings of all: device (cuda or cpu), precision, turn, exchange, and optionally compile, a mode of torch.compile.
"""

import pathlib
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from repeated import repeated

MIB = 2**20


def fno(settings: dict) -> dict:
    """neuraloperator's FNO in plain PyTorch."""
    from peers.fno_plain_torch import Fno

    device, depth = begin(settings), settings.get("depth", 4)
    model = Fno(tuple(settings["modes"]), settings["width"], depth, settings["seed"]).to(device)
    leave(model.arrays(), settings)
    return operator(model, model.parameters(), settings)


def neuraloperator(settings: dict) -> dict:
    """neuraloperator's own FNO, with weights of its own."""
    import neuralop
    from neuralop.models import FNO

    begin(settings)
    torch.manual_seed(settings["seed"])
    model = FNO(tuple(settings["modes"]), 1, 1, hidden_channels=settings["width"]).to(settings["device"])
    found = operator(model, model.parameters(), settings)
    found["info"]["neuraloperator"] = neuralop.__version__
    return found | {"outputs": None}


def mgno(settings: dict) -> dict:
    """MgNO; optional settings width, depth, levels and channels_last (bool)."""
    from peers.mgno_torch import MgNO

    begin(settings)
    torch.manual_seed(settings["seed"])
    sizes = {name: settings[name] for name in ("width", "depth") if name in settings}
    iterations = ((1, 0),) * (settings.get("levels", 6) - 1) + ((2, 0),)
    model = MgNO(1, 1, (settings["size"],) * 2, **sizes, iterations=iterations).to(settings["device"])
    leave({name: value.detach().cpu().numpy() for name, value in model.state_dict().items()}, settings)
    if settings.get("channels_last"):
        model = model.to(memory_format=torch.channels_last)
    return operator(model, model.parameters(), settings)


def operator(model: Callable, parameters: Iterable[torch.Tensor], settings: dict) -> dict:
    """A map from fields to fields, trained on the relative L2 error."""
    rng, shape = np.random.default_rng(settings["seed"]), (settings["batch"], 1, settings["size"], settings["size"])
    x, y = (torch.from_numpy(rng.standard_normal(shape, dtype=np.float32)).to(settings["device"]) for _ in range(2))
    if settings.get("channels_last"):
        x = x.to(memory_format=torch.channels_last)
    network = maybe_compiled(model, settings)

    def loss():
        error = torch.linalg.vector_norm((network(x) - y).flatten(1), dim=1)
        return (error / torch.linalg.vector_norm(y.flatten(1), dim=1)).mean()

    return contender(lambda: network(x), loss, lambda: model(x), parameters, settings)


def prose(settings: dict) -> dict:
    """PROSE's two losses; `forward` is both of them."""
    from peers import prose_torch

    device = begin(settings)
    model, n = prose_torch.Prose(settings), settings["data"]
    model.weights = {
        name: weight.detach().to(device).requires_grad_(weight.requires_grad) for name, weight in model.weights.items()
    }
    given = {name: array.to(device) for name, array in prose_torch.inputs(settings).items()}
    both = maybe_compiled(lambda given: prose_torch.loss(model, given, n), settings)

    def outputs():
        prediction, logits = prose_torch.outputs(model, given, n)
        return torch.cat((prediction.flatten().float(), logits.flatten().float()))

    loss = lambda: both(given)
    return contender(loss, loss, outputs, model.parameters(), settings)


def ode(settings: dict) -> dict:
    """torchdiffeq's solve of the batch as one equation; `compile` compiles the vector field."""
    import solver_problems
    import torchdiffeq
    from peers.solvers_torch import Network

    device = begin(settings)
    field = Network(settings).to(device)
    right_hand_side = maybe_compiled(field, settings)
    ts, y = (torch.from_numpy(make(settings)).to(device) for make in (solver_problems.times, solver_problems.starts))
    target = torch.from_numpy(solver_problems.starts({**settings, "seed": settings["seed"] + 7})).to(device)
    tolerance = settings["tolerance"]
    solve = lambda: torchdiffeq.odeint(right_hand_side, y, ts, method="dopri5", rtol=tolerance, atol=tolerance)
    loss = lambda: ((solve()[-1] - target) ** 2).mean()
    return contender(solve, loss, solve, field.parameters(), settings)


def rates(settings: dict) -> dict:
    """The products and the sum of `gpu_contenders.rates`."""
    device, size = settings["device"], settings["size"]
    a, b = (torch.randn(size, size, device=device) for _ in range(2))
    half, vector = (a.bfloat16(), b.bfloat16()), torch.zeros(settings["length"], device=device)

    def product(precision: str) -> torch.Tensor:
        torch.set_float32_matmul_precision(precision)
        return a @ b

    calls = {
        "float32": lambda: product("highest"),
        "tf32": lambda: product("high"),
        "bf16": lambda: half[0] @ half[1],
        "bandwidth": lambda: vector + 1,
    }
    info = {"torch": torch.__version__}
    return {**repeated(calls, waiting(device), settings["turn"], info), "info": info}


def begin(settings: dict) -> str:
    """Sets the precision of products; returns the device, which must exist."""
    torch.zeros(1, device=settings["device"])
    tf32 = settings["precision"] != "float32"
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = tf32
    return settings["device"]


def leave(arrays: dict[str, np.ndarray], settings: dict) -> None:
    """Leaves the weights for the others, unless another contender has."""
    weights = pathlib.Path(settings["exchange"]) / "weights.npz"
    if not weights.exists():
        np.savez(weights, **arrays)


def maybe_compiled(function: Callable, settings: dict) -> Callable:
    """The function by torch.compile, if a mode is given."""
    return torch.compile(function, mode=settings["compile"]) if settings.get("compile") else function


def waiting(device: str) -> Callable[[Any], None]:
    """Waits until all work of the device is done."""
    return lambda result: torch.cuda.synchronize() if device == "cuda" else None


def contender(
    apply: Callable[[], torch.Tensor],
    loss: Callable[[], torch.Tensor],
    outputs: Callable[[], torch.Tensor],
    parameters: Iterable[torch.Tensor],
    settings: dict,
) -> dict[str, Any]:
    """Forward without gradients, and a training step with Adam."""
    trained, device = [one for one in parameters if one.requires_grad], settings["device"]
    optimiser = adam(trained)
    lower = lambda: torch.autocast(device, dtype=torch.bfloat16, enabled=settings["precision"] == "bf16")

    def forward():
        torch.compiler.cudagraph_mark_step_begin()
        with torch.no_grad(), lower():
            return apply()

    def step():
        torch.compiler.cudagraph_mark_step_begin()
        optimiser.zero_grad(set_to_none=True)
        with lower():
            value = loss()
        value.backward()
        optimiser.step()

    with torch.no_grad(), lower():
        values = outputs().float().cpu().numpy()
    info = {"torch": torch.__version__, "parameters": sum(one.numel() for one in trained)}
    info["fused_adam"] = bool(optimiser.defaults.get("fused"))
    timed = repeated({"forward": forward, "step": step}, waiting(device), settings["turn"], info)
    info["peak_device_memory_mib"] = torch.cuda.max_memory_allocated() / MIB if device == "cuda" else None
    return {**timed, "outputs": values, "info": info}


def adam(trained: list[torch.Tensor]) -> torch.optim.Optimizer:
    """Adam, fused unless some parameters, such as complex ones, forbid it."""
    try:
        return torch.optim.Adam(trained, lr=1e-3, fused=True)
    except RuntimeError:
        return torch.optim.Adam(trained, lr=1e-3)
