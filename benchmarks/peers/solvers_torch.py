"""torchdiffeq, torchode and torchsde on the problems of solvers.py, with the same weights and initial states."""

import sys
import types

import numpy as np
import solver_problems as problems
import torch


class Network(torch.nn.Module):
    """y' = W2 tanh(W1 y + b1) + b2, for torchdiffeq and torchode (the same argument order)."""

    def __init__(self, settings: dict):
        super().__init__()
        self.weights = torch.nn.ParameterList(
            torch.nn.Parameter(torch.from_numpy(array)) for array in problems.weights(settings)
        )

    def forward(self, t, y):
        first, shift, second, last = self.weights
        return torch.tanh(y @ first + shift) @ second + last


class VanDerPol(torch.nn.Module):
    """x' = v, v' = mu (1 - x^2) v - x."""

    def forward(self, t, y):
        x, v = y[..., 0], y[..., 1]
        return torch.stack((v, problems.MU * (1 - x * x) * v - x), dim=-1)


def _field(settings: dict) -> torch.nn.Module:
    return VanDerPol() if settings["problem"] == "van der Pol" else Network(settings)


def torchdiffeq(settings: dict) -> dict:
    """The batch as one equation, its only way."""
    from torchdiffeq import odeint

    field = _field(settings)
    ts = torch.from_numpy(problems.times(settings))
    tolerance = settings["tolerance"]
    steps = [0]

    def solve(y):
        return odeint(field, y, ts, method="dopri5", rtol=tolerance, atol=tolerance)

    def counted(t, y):
        steps[0] += 1
        return field(t, y)

    with torch.no_grad():
        y = torch.from_numpy(problems.starts(settings))
        odeint(counted, y, ts, method="dopri5", rtol=tolerance, atol=tolerance)
    return _contender(field, settings, solve, {"evaluations": steps[0]})


def _torchode():
    """The module, whose annotations need torchtyping, which recent versions of PyTorch cannot import."""
    try:
        import torchtyping  # noqa: F401
    except RuntimeError:
        sys.modules["torchtyping"] = types.ModuleType("torchtyping")
        sys.modules["torchtyping"].TensorType = _Annotation
        sys.modules["torchtyping"].is_float = None
    import torchode

    return torchode


class _Annotation(torch.Tensor):
    """In place of `torchtyping.TensorType`: a tensor, whatever shape is written behind it."""

    def __class_getitem__(cls, shape):
        return cls


def torchode(settings: dict) -> dict:
    """Every sample with its own step size."""
    to = _torchode()
    field = _field(settings)
    ts = torch.from_numpy(problems.times(settings)).repeat(settings["batch"], 1)
    term = to.ODETerm(field)
    controller = to.IntegralController(atol=settings["tolerance"], rtol=settings["tolerance"], term=term)
    solver = to.AutoDiffAdjoint(to.Dopri5(term=term), controller, backprop_through_step_size_control=False)
    run = torch.compile(solver) if settings.get("compile") else solver

    def solve(y):
        return run.solve(to.InitialValueProblem(y0=y, t_eval=ts)).ys.swapaxes(0, 1)

    if settings.get("compile"):
        solve_once = torch.compile(lambda y: solver.solve(to.InitialValueProblem(y0=y, t_eval=ts)).ys.swapaxes(0, 1))
        return _contender(field, settings, solve_once, {})
    with torch.no_grad():
        stats = solver.solve(to.InitialValueProblem(y0=torch.from_numpy(problems.starts(settings)), t_eval=ts)).stats
    return _contender(field, settings, solve, {"steps_max": int(stats["n_steps"].max())})


def torchsde(settings: dict) -> dict:
    """Euler-Maruyama with its Brownian interval, differentiated through the steps."""
    import torchsde as ts_

    drift, diffusion = Network(settings), Network({**settings, "seed": settings["seed"] + 1})

    class Sde(torch.nn.Module):
        noise_type, sde_type = "diagonal", "ito"

        def __init__(self):
            super().__init__()
            self.drift, self.diffusion = drift, diffusion

        def f(self, t, y):
            return self.drift(t, y)

        def g(self, t, y):
            return 0.1 * torch.sigmoid(self.diffusion(t, y))

    sde = Sde()
    ts = torch.from_numpy(problems.times(settings))
    solve = lambda y: ts_.sdeint(sde, y, ts, method="euler", dt=1.0 / settings["steps"])
    return _contender(sde, settings, solve, {}, compare=False)


def _contender(field, settings: dict, solve, info: dict, compare: bool = True) -> dict:
    y = torch.from_numpy(problems.starts(settings))
    target = torch.from_numpy(problems.starts({**settings, "seed": settings["seed"] + 7}))
    weights = list(field.parameters())

    def forward():
        with torch.no_grad():
            return solve(y)

    targets = {"forward": forward}
    if weights:
        optimiser = torch.optim.Adam(weights, lr=1e-3)

        def step():
            optimiser.zero_grad(set_to_none=True)
            ((solve(y)[-1] - target) ** 2).mean().backward()
            optimiser.step()

        targets["step"] = step
    outputs = np.asarray(forward()) if compare else None
    info = {"torch": torch.__version__, "threads": torch.get_num_threads(), **info}
    return {**targets, "outputs": outputs, "info": info}
