"""The Poisson pairs of pdequinox, and its U-Net trained on them as its example does.

    python benchmarks/peers/others_pdequinox.py data FILE
    python benchmarks/peers/others_pdequinox.py train FILE --seed 0 --epochs 100

Run by benchmarks/others.py in an interpreter with pdequinox. `data` writes the pairs to an .npz file, `train` prints
one line of JSON. The settings are those of docs/examples/train_unet_as_poisson_solver.ipynb: 1000 pairs with key 0,
the last 200 for the test, ClassicUNet with 32 channels, 2 levels and Dirichlet walls, Adam with rate 3e-4, batches of
32, mean squared error on raw fields, key 0 for the weights and 151 for the batches. Seed k adds k to the last two keys.
"""

import argparse
import importlib.metadata
import json
import time

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pdequinox

# The notebook ran in April 2024, before JAX 0.5 changed what `jax.random.split` gives.
jax.config.update("jax_threefry_partitionable", False)
PARTS = {"train": slice(0, 800), "test": slice(800, 1000)}


def versions() -> dict[str, str]:
    """Of the packages that decide on the data and the result."""
    return {name: importlib.metadata.version(name) for name in ("pdequinox", "jax", "optax")}


def write_data(path: str) -> None:
    """Writes the pairs."""
    x, y = pdequinox.sample_data.poisson_1d_dirichlet(key=jax.random.PRNGKey(0))
    arrays = {
        f"{name}_{part}": np.asarray(all_of[rows])
        for name, all_of in (("x", x), ("y", y))
        for part, rows in PARTS.items()
    }
    np.savez(path, versions=json.dumps(versions()), **arrays)


def train(path: str, seed: int, epochs: int) -> dict:
    """Error and cost of the U-Net after its training."""
    with np.load(path, allow_pickle=False) as file:
        x, y, x_test, y_test = (jnp.asarray(file[name]) for name in ("x_train", "y_train", "x_test", "y_test"))
    shape = {"hidden_channels": 32, "num_levels": 2, "boundary_mode": "dirichlet"}
    network = pdequinox.arch.ClassicUNet(1, 1, 1, **shape, key=jax.random.PRNGKey(seed))
    optimiser = optax.adam(3e-4)

    @eqx.filter_jit
    def step(network, state, x, y):
        gradient = eqx.filter_grad(lambda one: jnp.mean((jax.vmap(one)(x) - y) ** 2))(network)
        updates, state = optimiser.update(gradient, state)
        return eqx.apply_updates(network, updates), state

    state, key, ends = optimiser.init(eqx.filter(network, eqx.is_array)), jax.random.PRNGKey(151 + seed), []
    started, begin = time.perf_counter(), time.process_time()
    for _ in range(epochs):
        key, shuffle = jax.random.split(key)
        for batch in pdequinox.dataloader((x, y), batch_size=32, key=shuffle):
            network, state = step(network, state, *batch)
        jax.block_until_ready(state)
        ends.append(time.process_time())
    seconds = time.perf_counter() - started
    prediction = np.asarray(eqx.filter_jit(jax.vmap(network))(x_test), np.float64)
    errors = np.linalg.norm(prediction - y_test, axis=(1, 2)) / np.linalg.norm(y_test, axis=(1, 2))
    return {
        "parameters": int(pdequinox.count_parameters(network)),
        "relative_l2": float(errors.mean()),
        "deviation_over_samples": float(errors.std()),
        "seconds": seconds,
        "cpu_seconds": ends[-1] - begin,
        "epoch_cpu_seconds": float(np.median(np.diff(ends if epochs > 1 else [begin, *ends]))),
        "versions": versions(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("data", "train"))
    parser.add_argument("file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=100)
    options = parser.parse_args()
    if options.what == "data":
        write_data(options.file)
    else:
        print(json.dumps(train(options.file, options.seed, options.epochs)))


if __name__ == "__main__":
    main()
