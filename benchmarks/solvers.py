"""Are neural differential equations solved and trained faster than by torchdiffeq, torchode and torchsde?

    python benchmarks/solvers.py                          all cases, both sides in this interpreter
    python benchmarks/solvers.py --case "network 256" --rounds 40
    python benchmarks/solvers.py --peer-python PATH       PyTorch lives in another environment

Equal equations, weights, initial states, tolerances and method (Dormand-Prince 5, float32); the solutions are compared
before anything is timed. `forward` is a solve of the batch, `step` is the solve, the mean square of its last state,
the gradient through the solver and Adam. "joint" solves the batch as one equation with one step size for all, "own
steps" gives every sample its own. Processes take turns (see timer.py); ratios are to torchdiffeq, or torchsde. Needs
the extra `peers`; a peer that cannot be imported is reported as not measured.
"""

import pathlib

import timer
from timer import Case, Contender

RESULTS = pathlib.Path(__file__).resolve().parent / "results" / "solvers.json"
OURS = {"EQX_ON_ERROR": "nan"} | timer.xla_flags()


def cases(peer: str) -> dict[str, Case]:
    """The table."""
    ode = (
        Contender("torchdiffeq, joint", "peers.solvers_torch:torchdiffeq", peer),
        Contender("torchode, own steps", "peers.solvers_torch:torchode", peer),
        Contender("torchode compiled", "peers.solvers_torch:torchode", peer, settings={"compile": True}),
        Contender("diffrax joint", "solvers:joint", env=OURS),
        Contender("sciml joint, largest", "solvers:jointly", env=OURS),
        Contender("sciml own steps", "solvers:batch", env=OURS),
        Contender("diffrax vmap, own steps", "solvers:vmap", env=OURS),
    )
    sde = (
        Contender("torchsde", "peers.solvers_torch:torchsde", peer),
        Contender("diffrax, Brownian tree", "solvers:sde", env=OURS, settings={"tree": True}),
        Contender("sciml, Brownian grid", "solvers:sde", env=OURS, settings={"grid": True}),
        Contender("sciml, grid, together", "solvers:together", env=OURS),
        Contender("diffrax, fresh increments", "solvers:sde", env=OURS),  # which it does not differentiate
    )
    vdp = {"problem": "van der Pol", "seed": 0, "size": 2, "tolerance": 1e-5, "end": 6.0, "saved": 200}
    net = {"problem": "network", "seed": 0, "size": 32, "hidden": 64, "tolerance": 1e-5, "end": 1.0, "saved": 2}
    table = {"van der Pol 256": Case({**vdp, "batch": 256}, ode)}
    table |= {f"network {batch}": Case({**net, "batch": batch}, ode) for batch in (16, 256, 1024)}
    table |= {f"sde {batch}": Case({**net, "batch": batch, "steps": 50}, sde) for batch in (16, 256, 1024)}
    return table


def _weights(settings: dict):
    import jax.numpy as jnp
    import solver_problems as problems

    return tuple(map(jnp.asarray, problems.weights(settings))) if settings["problem"] == "network" else ()


def _field(settings: dict):
    import jax.numpy as jnp
    import solver_problems as problems

    def van_der_pol(t, y, weights):
        x, v = y[..., 0], y[..., 1]
        return jnp.stack((v, problems.MU * (1 - x * x) * v - x), axis=-1)

    def network(t, y, weights):
        first, shift, second, last = weights
        hidden = jnp.tanh(y @ first + jnp.broadcast_to(shift, (*y.shape[:-1], shift.size)))
        return hidden @ second + jnp.broadcast_to(last, y.shape)

    return van_der_pol if settings["problem"] == "van der Pol" else network


def joint(settings: dict) -> dict:
    """The batch as one equation by diffrax, with the root mean square over everything as its norm."""
    import diffrax

    ts, field = _times(settings), _field(settings)
    controller = diffrax.PIDController(rtol=settings["tolerance"], atol=settings["tolerance"])

    def solve(weights, y, key):
        saveat = diffrax.SaveAt(ts=ts)
        terms = diffrax.ODETerm(field)
        return diffrax.diffeqsolve(
            terms, diffrax.Dopri5(), ts[0], ts[-1], None, y, weights, saveat=saveat, stepsize_controller=controller
        ).ys

    return _contender(settings, solve)


def jointly(settings: dict) -> dict:
    """The batch as one equation by `nde.Jointly`, with the largest norm of a sample."""
    import diffrax

    from sciml import nde

    ts, field, tolerance = _times(settings), _field(settings), settings["tolerance"]
    controller = diffrax.PIDController(rtol=tolerance, atol=tolerance, norm=nde.PerSampleMax())
    joint = nde.Jointly(nde.Solve(diffrax.Dopri5(), controller))
    return _contender(settings, lambda weights, y, key: joint(field, y, ts, weights)[0])


def vmap(settings: dict) -> dict:
    """Every sample with its own steps, by vmap of diffrax."""
    import diffrax
    import jax

    ts, field = _times(settings), _field(settings)
    controller = diffrax.PIDController(rtol=settings["tolerance"], atol=settings["tolerance"])

    def one(weights, y):
        saveat = diffrax.SaveAt(ts=ts)
        terms = diffrax.ODETerm(field)
        return diffrax.diffeqsolve(
            terms, diffrax.Dopri5(), ts[0], ts[-1], None, y, weights, saveat=saveat, stepsize_controller=controller
        ).ys

    return _contender(settings, lambda weights, y, key: jax.vmap(one, in_axes=(None, 0), out_axes=1)(weights, y))


def batch(settings: dict) -> dict:
    """Every sample with its own steps, by one loop over the batch."""
    import diffrax

    from sciml import nde

    ts, field = _times(settings), _field(settings)
    controller = diffrax.PIDController(rtol=settings["tolerance"], atol=settings["tolerance"])
    batched = nde.Batched(nde.Solve(diffrax.Dopri5(), controller, max_steps=512))
    return _contender(settings, lambda weights, y, key: batched(field, y, ts, weights)[0])


def sde(settings: dict) -> dict:
    """Euler-Maruyama with fixed steps; the Brownian increments drawn step by step, or read from a tree or a grid."""
    import diffrax
    import jax

    from sciml import nde

    ts, field, steps = _times(settings), _field(settings), settings["steps"]

    def one(weights, y, key):
        drift, diffusion = weights
        like = jax.ShapeDtypeStruct(y.shape, y.dtype)
        if settings.get("tree"):
            path = nde.BrownianTree(0.5 / steps, diffrax.BrownianIncrement)(ts[0], ts[-1], like, key=key)
        elif settings.get("grid"):
            path = nde.BrownianGrid(steps)(ts[0], ts[-1], like, key=key)
        else:
            path = diffrax.UnsafeBrownianPath(y.shape, key)
        noise = lambda t, y, args: 0.1 * jax.nn.sigmoid(field(t, y, diffusion))
        terms = diffrax.MultiTerm(
            diffrax.ODETerm(lambda t, y, args: field(t, y, drift)),
            diffrax.WeaklyDiagonalControlTerm(noise, path),
        )
        adjoint = diffrax.DirectAdjoint()
        return diffrax.diffeqsolve(
            terms, diffrax.Euler(), ts[0], ts[-1], (ts[-1] - ts[0]) / steps, y, adjoint=adjoint, max_steps=steps + 1
        ).ys

    def solve(weights, y, key):
        keys = jax.random.split(key, y.shape[0])
        return jax.vmap(one, in_axes=(None, 0, 0), out_axes=1)(weights, y, keys)

    trained = "tree" in settings or "grid" in settings
    return _contender(settings, solve, _two_weights(settings), compare=False, trained=trained)


def together(settings: dict) -> dict:
    """All paths as one `nde.NeuralSDE`, with the increments of a grid."""
    import diffrax
    import equinox as eqx
    import jax

    from sciml import nde

    ts, field, steps = _times(settings), _field(settings), settings["steps"]
    constant = nde.Solve(diffrax.Euler(), diffrax.ConstantStepSize(), dt0=1 / steps, max_steps=steps + 1)

    def solve(weights, y, key):
        drift = nde.Together(lambda t, y, args: field(t, y, weights[0]), settings["size"])
        diffusion = nde.Together(lambda t, y, args: 0.1 * jax.nn.sigmoid(field(t, y, weights[1])), settings["size"])
        same = eqx.nn.Identity()
        sde = nde.NeuralSDE(same, drift, diffusion, same, constant, nde.BrownianGrid(steps))
        return sde.solution(y.reshape(-1), ts, key=key)[0].reshape(-1, *y.shape)

    return _contender(settings, solve, _two_weights(settings), compare=False)


def _two_weights(settings: dict):
    """Those of the drift and of the diffusion."""
    return _weights(settings), _weights({**settings, "seed": settings["seed"] + 1})


def _times(settings: dict):
    import jax.numpy as jnp
    import solver_problems as problems

    return jnp.asarray(problems.times(settings))


def _contender(settings: dict, solve, weights=None, compare: bool = True, trained: bool = True) -> dict:
    import jax
    import jax.numpy as jnp
    import numpy as np
    import optax
    import solver_problems as problems

    weights = _weights(settings) if weights is None else weights
    y = jnp.asarray(problems.starts(settings))
    target = jnp.asarray(problems.starts({**settings, "seed": settings["seed"] + 7}))
    key = jax.random.key(settings["seed"])
    apply = jax.jit(solve)
    optimiser = optax.adam(1e-3)

    @jax.jit
    def train(weights, moments, y, key):
        loss = lambda weights: jnp.mean((solve(weights, y, key)[-1] - target) ** 2)
        value, gradient = jax.value_and_grad(loss)(weights)
        change, moments = optimiser.update(gradient, moments, weights)
        return optax.apply_updates(weights, change), moments, value

    state = [weights, optimiser.init(weights)]

    def forward():
        jax.block_until_ready(apply(weights, y, key))

    def step():
        *state[:], value = train(*state, y, key)
        jax.block_until_ready((state, value))

    info = {"jax": jax.__version__, "device": jax.devices()[0].device_kind}
    outputs = np.asarray(apply(weights, y, key)) if compare else None
    targets = {"forward": forward} | ({"step": step} if weights and trained else {})
    return {**targets, "outputs": outputs, "info": info}


def report(name: str, rows: dict) -> None:
    """One line per contender."""
    print(f"\n{name:26}{'forward':>28}{'step':>28}{'compile':>9}{'error':>9}")
    for contender, row in rows.items():
        if "not_measured" in row:
            print(f"  {contender:24}not measured: {row['not_measured']}")
            continue
        cells = ""
        for target in ("forward", "step"):
            if target not in row:
                cells += " " * 28
                continue
            low, high = row[target].get("ratio_quartiles", (float("nan"),) * 2)
            ratio = row[target].get("ratio", float("nan"))
            cells += f"{row[target]['seconds'] * 1e3:9.2f} ms {ratio:5.3f} ({low:4.2f}-{high:4.2f})"
        last = row.get("step", row["forward"])
        print(f"  {contender:24}{cells}{last['first_call_seconds']:7.1f} s{row.get('max_error', float('nan')):9.1e}")


if __name__ == "__main__":
    timer.command(__doc__, cases, RESULTS, report, rounds=15)
