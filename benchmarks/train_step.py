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
OURS = (
    {"XLA_FLAGS": "--xla_cpu_prefer_vector_width=512"} if "avx512" in pathlib.Path("/proc/cpuinfo").read_text() else {}
)


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
    import jax.numpy as jnp
    import optax

    mesh = jax.make_mesh((jax.device_count(),), ("batch",), (jax.sharding.AxisType.Auto,))
    split, copies = (jax.sharding.NamedSharding(mesh, spec) for spec in (jax.P("batch"), jax.P()))
    x, y = jax.device_put((x, y), split)
    optimiser = optax.adam(1e-3)
    arrays, static = eqx.partition(model, eqx.is_inexact_array)

    def shared(function, takes, gives):  # each device computes its part of the batch, as in training
        if jax.device_count() == 1:
            return function
        return jax.shard_map(function, mesh=mesh, in_specs=takes, out_specs=gives, check_vma=False)

    def network(arrays, x):
        return jax.vmap(eqx.combine(arrays, static))(x)

    def loss(arrays, x, y):
        norm = lambda u: jnp.sqrt(jnp.sum(u * u, axis=(1, 2, 3)))
        return jnp.mean(norm(network(arrays, x) - y) / norm(y))

    def update(state, x, y):
        arrays, moments = state
        value, gradient = jax.value_and_grad(loss)(arrays, x, y)
        if jax.device_count() > 1:
            value, gradient = jax.lax.pmean((value, gradient), "batch")
        change, moments = optimiser.update(gradient, moments, arrays)
        return (optax.apply_updates(arrays, change), moments), value

    batch, everywhere = jax.P("batch"), jax.P()
    apply = jax.jit(shared(network, (everywhere, batch), batch))
    train = jax.jit(shared(update, (everywhere, batch, batch), everywhere), donate_argnums=0)
    state = [jax.device_put((jax.tree.map(jnp.copy, arrays), optimiser.init(arrays)), copies)]
    arrays = jax.device_put(arrays, copies)

    def forward():
        jax.block_until_ready(apply(arrays, x))

    def step():
        state[0], value = train(state[0], x, y)
        jax.block_until_ready((state, value))

    info = {
        "jax": jax.__version__,
        "device": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(arrays)),
    }
    return {"forward": forward, "step": step, "outputs": apply(arrays, x), "info": info}


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
