"""Is a training step faster than that of the PyTorch implementations?

    python benchmarks/train_step.py                          all cases, both sides in this interpreter
    python benchmarks/train_step.py --case fno --rounds 40
    python benchmarks/train_step.py --peer-python PATH       PyTorch lives in another environment

Equal weights, equal inputs, float32; outputs are compared before anything is timed. `forward` is the network alone,
`step` is forward, loss (relative L2), backward and Adam. Contenders run in processes of their own, in turn (see
timer.py); a ratio below 1 is faster than the first contender of the case. Needs the extra `peers`; a peer that cannot
be imported is reported as not measured.
"""

import os
import pathlib

import timer
from timer import Case, Contender

RESULTS = pathlib.Path(__file__).resolve().parent / "results" / "train_step.json"
OURS = timer.xla_flags()


def cases(peer: str) -> dict[str, Case]:
    """The table. A row more is a case or a contender more here, and its factory."""
    per_core = {**OURS, "JAX_NUM_CPU_DEVICES": str(os.cpu_count())}
    fno = (
        Contender("neuraloperator", "peers.fno_torch:fno", peer),
        Contender("neuraloperator compiled", "peers.fno_torch:fno", peer, settings={"compile": True}),
        Contender("sciml", "train_step:fno", env=OURS),
        Contender("sciml, a device per core", "train_step:fno", env=per_core),
    )
    mgno = (
        Contender("PyTorch", "peers.mgno_torch:mgno", peer),
        Contender("PyTorch channels_last", "peers.mgno_torch:mgno", peer, settings={"channels_last": True}),
        Contender("sciml", "train_step:mgno", env=OURS),
        Contender("sciml, a device per core", "train_step:mgno", env=per_core),
    )
    common = {"seed": 0, "batch": 16, "size": 64}
    return {
        "fno": Case({**common, "modes": (24, 24), "width": 32}, fno),
        "fno-gallery": Case({**common, "modes": (16, 16), "width": 64}, fno),
        "mgno": Case({**common, "batch": 8}, mgno),
    }


def fno(settings: dict) -> dict:
    """Our FNO."""
    return jax_contender(fno_model(settings), *fields(settings))


def mgno(settings: dict) -> dict:
    """Our MgNO in the form of the paper's rough Darcy runs."""
    return jax_contender(mgno_model(settings), *fields(settings))


def fno_model(settings: dict):
    """FNO with the weights that the reference left in `exchange`, if it did; settings may hold a depth."""
    import jax
    import numpy as np
    from peers import neuraloperator_weights

    from sciml.grid import Grid
    from sciml.operators import FNO

    size, seed = settings["size"], settings["seed"]
    modes, width = tuple(settings["modes"]), settings["width"]
    depth, grid = settings.get("depth", 4), Grid((size, size))
    model = FNO(1, 1, modes=modes, width=width, depth=depth, grid=grid, key=jax.random.key(seed))
    weights = pathlib.Path(settings["exchange"]) / "weights.npz"
    if weights.exists():
        model = neuraloperator_weights.load(model, dict(np.load(weights)))
    return model


def mgno_model(settings: dict):
    """MgNO with the weights of the PyTorch twin; settings may hold width, depth and levels."""
    import jax
    import numpy as np
    from peers import mgno_weights

    from sciml.grid import Dirichlet, Grid
    from sciml.operators import MgNO

    size, seed = settings["size"], settings["seed"]
    sizes = {name: settings[name] for name in ("width", "depth", "levels") if name in settings}
    model = MgNO(1, 1, grid=Grid((size, size), boundary=Dirichlet()), **sizes, key=jax.random.key(seed))
    weights = pathlib.Path(settings["exchange"]) / "weights.npz"
    if weights.exists():
        model = mgno_weights.load(model, dict(np.load(weights)))
    return model


def fields(settings: dict) -> tuple:
    """Random inputs and targets, equal on both sides."""
    import numpy as np

    rng, shape = np.random.default_rng(settings["seed"]), (settings["batch"], 1, settings["size"], settings["size"])
    x, y = (rng.standard_normal(shape, dtype=np.float32) for _ in range(2))
    return x, y


def jax_contender(model, x, y) -> dict:
    """What to time of any operator, on all devices: forward, and a training step with donated buffers."""
    import equinox as eqx
    import jax
    import optax

    from sciml import losses, metrics, parallel, train

    placement = parallel.Layout().on(len(x))
    mesh = placement.mesh
    everywhere, batch, items = jax.P(), jax.P(mesh.axis_names), jax.P(None, mesh.axis_names)
    optimiser = optax.adam(1e-3)
    state = train.place(train.init(model, optimiser), placement)
    step = train.make_step(losses.supervised(metrics.relative_l2), optimiser, placement=placement)
    item = jax.device_put((x[None], y[None]), jax.sharding.NamedSharding(mesh, items))
    arrays, form = step.apart(state)

    weights, static = eqx.partition(state.model, eqx.is_array)
    network = lambda weights, x: jax.vmap(eqx.combine(weights, static))(x)
    if mesh.size > 1:  # each device computes its part of the batch, as in training
        network = jax.shard_map(network, mesh=mesh, in_specs=(everywhere, batch), out_specs=batch, check_vma=True)
    apply = jax.jit(network)
    weights = jax.tree.map(lambda leaf: leaf + 0, weights)  # the step donates those of the state
    split = jax.device_put(x, jax.sharding.NamedSharding(mesh, batch))

    def forward():
        jax.block_until_ready(apply(weights, split))

    def one_step():
        nonlocal arrays
        arrays, logs = step.advance(form, arrays, None, item, done=0)
        jax.block_until_ready((arrays, logs))

    info = {
        "jax": jax.__version__,
        "device": jax.devices()[0].device_kind,
        "devices": mesh.size,
        "parameters": train.parameters(model),
    }
    return {"forward": forward, "step": one_step, "outputs": apply(weights, split), "info": info}


def report(name: str, rows: dict) -> None:
    """One line per contender."""
    print(f"\n{name:28}{'forward':>26}{'step':>26}{'compile':>9}{'memory':>10}")
    for contender, row in rows.items():
        if "not_measured" in row:
            print(f"  {contender:26}not measured: {row['not_measured']}")
            continue
        cells = ""
        for target in ("forward", "step"):
            low, high = row[target].get("ratio_quartiles", (float("nan"),) * 2)
            ratio = row[target].get("ratio", float("nan"))
            cells += f"{row[target]['seconds'] * 1e3:8.1f} ms {ratio:4.2f} ({low:4.2f}-{high:4.2f})"
        print(f"  {contender:26}{cells}{row['step']['first_call_seconds']:7.1f} s{row['peak_memory_mib']:6.0f} MiB")


if __name__ == "__main__":
    timer.command(__doc__, cases, RESULTS, report, rounds=25)
