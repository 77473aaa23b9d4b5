"""Are our networks of at most 33,000 parameters ahead of APEBench's own on its equations, with its data and protocol?

    pip install 'sciml-jax[peers]'
    python benchmarks/apebench_protocol.py [--equations burgers kdv ks] [--networks NAME ...] [--seeds 3]
    python benchmarks/apebench_protocol.py --steps 50 --timing     # what a step costs

APEBench (Koehler et al. 2024, arXiv:2411.00180) makes the data with exponax: 160 points, 50 trajectories of 50 steps
for training (seed 0), 30 of 200 steps for the test (seed 773), its scenarios "difficulty.Burgers", "KortewegDeVries"
and "KuramotoSivashinsky". Each network is trained on single steps for 10,000 steps of Adam, batches of 20 pairs, mean
squared error, a warm-up of 2,000 steps to 1e-3 and a cosine to 0, on the same batches for a seed. The error is its
metric: the geometric mean over the first 100 steps of the mean over trajectories of ||u - v|| / ||v||.

Networks named as in `THEIRS` are built by pdequinox with the sizes of the paper, `OURS` by sciml. Ours predict the
increment, normalised by statistics of the training data (`Residual(Normalised(...))`); the row "res increments" is
APEBench's residual network with the same wrapper, which tells the wrapper's share from the network's. "our fno" is
APEBench's FNO of our layers, without the wrapper, with initial Fourier weights of 0.1 and 1 of our own. Every run is
one file of results/apebench/, written when the run is finished: what exists is not run again. results/apebench.json
holds the table.
"""

import argparse
import json
import pathlib
import statistics
import time
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import timer

from sciml import operators, zoo
from sciml.grid import Grid
from sciml.nn import partition

RESULTS = pathlib.Path(__file__).resolve().parent / "results"
EQUATIONS = {"burgers": "Burgers", "kdv": "KortewegDeVries", "ks": "KuramotoSivashinsky"}
THEIRS = {
    "conv": "Conv;34;10;relu",
    "res": "Res;26;8;relu",
    "unet": "UNet;12;2;relu",
    "dil": "Dil;2;32;2;relu",
    "fno": "FNO;12;18;4;gelu",
}
GRID = Grid((160,))
OURS: dict[str, Callable[[jax.Array], operators.AbstractOperator]] = {
    "modern resnet": lambda key: zoo.apebench_modern_resnet(1, 1, grid=GRID, key=key),
    "global resnet": lambda key: zoo.apebench_global_resnet(1, 1, grid=GRID, key=key),
}
FRAMES: dict[str, Callable[[jax.Array], operators.AbstractOperator]] = {
    "our fno": lambda key: _fno(0.1, key),
    "our fno gain 1": lambda key: _fno(1.0, key),
}
LARGEST, STEPS, BATCH, HORIZON = 33_000, 10_000, 20, 100


def _fno(gain: float, key: jax.Array) -> operators.FNO:
    """APEBench's FNO by our layers, with a factor of the initial weights of the Fourier layers."""
    pointwise = operators.Pointwise(lifting=0, mixing=0, projection=0)
    return operators.FNO(1, 1, modes=(22,), width=18, depth=4, pointwise=pointwise, gain=gain, key=key)


def scenario_of(equation: str) -> Any:
    """APEBench's scenario with its defaults."""
    import apebench

    return getattr(apebench.scenarios.difficulty, EQUATIONS[equation])()


def data_of(scenario: Any) -> tuple[np.ndarray, np.ndarray]:
    """Trajectories for training and test, `(trajectories, times, channels, points)`."""
    return np.asarray(scenario.get_train_data()), np.asarray(scenario.get_test_data())


def of_increments(network: Any, known: np.ndarray) -> operators.AbstractOperator:
    """u + decode(network(encode(u))) with the statistics of states and increments."""
    states, changes = known[:, :-1], np.diff(known, axis=1)
    flat = lambda x: x.reshape(-1, *x.shape[2:])
    scale = operators.per_channel(flat(states)), operators.per_channel(flat(changes))
    return operators.Residual(operators.Normalised(network, *scale))


class Peer(operators.AbstractOperator):
    """A network of pdequinox as an operator."""

    network: Any

    def __call__(self, x):
        return self.network(x)


def network_of(name: str, scenario: Any, known: np.ndarray, key: jax.Array) -> Any:
    """The untrained network of a row."""
    if name in FRAMES:
        return FRAMES[name](key)
    if name in OURS:
        return of_increments(OURS[name](key), known)
    network = scenario.get_network(THEIRS[name.removesuffix(" increments")], key)
    return of_increments(Peer(network), known) if name.endswith(" increments") else network


def batches(pairs: int, seed: int):
    """Row numbers of each batch: permutations, one after the other."""
    rng = np.random.default_rng(seed)
    while True:
        order = rng.permutation(pairs)
        yield from (order[i : i + BATCH] for i in range(0, pairs - BATCH + 1, BATCH))


def trained(network: Any, known: np.ndarray, seed: int, steps: int) -> tuple[Any, dict]:
    """The network after the protocol's training, and what it cost."""
    inputs = jnp.asarray(known[:, :-1].reshape(-1, *known.shape[2:]))
    targets = jnp.asarray(known[:, 1:].reshape(-1, *known.shape[2:]))
    rates = optax.warmup_cosine_decay_schedule(0.0, 1e-3, steps // 5, steps)
    optimiser = optax.adam(rates)
    weights, rest = partition(network)

    @jax.jit
    def step(weights, state, rows):
        def loss(weights):
            return jnp.mean((jax.vmap(eqx.combine(weights, rest))(inputs[rows]) - targets[rows]) ** 2)

        value, gradient = jax.value_and_grad(loss)(weights)
        updates, state = optimiser.update(gradient, state)
        return optax.apply_updates(weights, updates), state, value

    state, started, value = optimiser.init(weights), time.process_time(), None
    for number, rows in zip(range(steps), batches(len(inputs), seed), strict=False):
        weights, state, value = step(weights, state, rows)
        if number == 0:
            jax.block_until_ready(value)
            compiled = time.process_time() - started
    jax.block_until_ready(value)
    seconds = time.process_time() - started - compiled
    cost = {"compile_cpu_seconds": compiled, "step_cpu_seconds": seconds / max(1, steps - 1), "last_loss": float(value)}
    return eqx.combine(weights, rest), cost


def errors(network: Any, test: np.ndarray) -> np.ndarray:
    """||u - v|| / ||v|| of each trajectory and step, `(trajectories, steps)`; channels are summed."""
    step = eqx.filter_jit(jax.vmap(network))
    u, found = jnp.asarray(test[:, 0]), []
    for t in range(1, test.shape[1]):
        u = step(u)
        difference = np.asarray(u, np.float64) - test[:, t]
        found.append((np.linalg.norm(difference, axis=-1) / np.linalg.norm(test[:, t], axis=-1)).sum(-1))
    return np.stack(found, 1)


def run(name: str, equation: str, seed: int, steps: int) -> dict:
    """One row of the table."""
    scenario = scenario_of(equation)
    known, test = data_of(scenario)
    network = network_of(name, scenario, known, jax.random.split(jax.random.PRNGKey(seed))[0])
    parameters = sum(leaf.size for leaf in jax.tree.leaves(partition(network)[0]))
    if parameters > LARGEST:
        raise SystemExit(f"{name} has {parameters} parameters, at most {LARGEST} are compared.")
    network, cost = trained(network, known, seed, steps)
    of_each = errors(network, test)
    curve = of_each.mean(0)
    finite = bool(np.isfinite(curve[:HORIZON]).all())
    return {
        "network": name,
        "equation": equation,
        "seed": seed,
        "steps": steps,
        "parameters": parameters,
        "error": float(np.exp(np.log(curve[:HORIZON]).mean())) if finite else None,
        "diverged": int((~np.isfinite(of_each).all(1)).sum()),
        "mean_nrmse": [float(f"{value:.4g}") if np.isfinite(value) else None for value in curve],
        **cost,
    }


def table(folder: pathlib.Path) -> dict:
    """Median and range over seeds for each network and equation."""
    runs = [json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))]
    rows: dict[str, dict] = {}
    for one in runs:
        rows.setdefault(one["network"], {"parameters": one["parameters"]}).setdefault(one["equation"], []).append(one)
    for row in rows.values():
        for equation in EQUATIONS:
            if equation in row:
                found = [one["error"] if one["error"] is not None else float("inf") for one in row[equation]]
                shown = lambda value: value if np.isfinite(value) else None
                row[equation] = {
                    "median": shown(statistics.median(found)),
                    "least": shown(min(found)),
                    "largest": shown(max(found)),
                    "seeds": len(found),
                    "diverged_runs": sum(not np.isfinite(value) for value in found),
                    "step_cpu_milliseconds": 1e3 * statistics.median(one["step_cpu_seconds"] for one in row[equation]),
                }
    return {"machine": timer.machine(1), "steps": STEPS, "batch": BATCH, "horizon": HORIZON, "networks": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = [*THEIRS, "res increments", *OURS, *FRAMES]
    parser.add_argument("--equations", nargs="+", choices=EQUATIONS, default=list(EQUATIONS))
    parser.add_argument("--networks", nargs="+", choices=known, default=known)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--timing", action="store_true", help="print what a step costs and write nothing")
    options = parser.parse_args()
    folder = RESULTS / "apebench"
    for seed in range(options.seeds):  # all networks once before any twice
        for equation in options.equations:
            for name in options.networks:
                file = folder / f"{equation}-{name.replace(' ', '_')}-{seed}.json"
                if file.exists() and not options.timing:
                    continue
                found = run(name, equation, seed, options.steps)
                print({key: value for key, value in found.items() if key != "mean_nrmse"}, flush=True)
                if not options.timing and options.steps == STEPS:
                    timer.write(file, found)
    if folder.exists():
        timer.write(RESULTS / "apebench.json", table(folder))


if __name__ == "__main__":
    main()
