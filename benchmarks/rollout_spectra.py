"""At which wavenumbers, and how fast, do the errors of rollouts grow?

    sciml benchmark experiments/navier_stokes.py --preset small --models mgno fno --budget 20s --seeds 3 --out OUT
    python benchmarks/rollout_spectra.py OUT [--out results/rollout_spectra.json]

For each run of a benchmark of experiments/navier_stokes.py and each frame of the rollouts over the test trajectories:
the error by bands of wavenumbers, as root mean squares divided by that of the true frame, so that the squares of the
bands add up to that of the whole error.

- `rollout`: of the model's own states, one after another.
- `fresh`: of a step from the true frame before. If errors neither grow nor decay, the squares of a rollout's errors are
  the sums of those of the fresh ones up to there, or more where fresh errors are alike from step to step.
- `growth`: how much a step of the model multiplies the distance between its own state and the true one: the norm of
  `step(own) - step(true)` divided by that of `own - true`. The flow's own growth of the same distance is `flow`, by the
  solver that made the data.
"""

import argparse
import dataclasses
import functools
import pathlib
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import timer

from sciml import experiment, train
from sciml.pdes import NavierStokes

HERE = pathlib.Path(__file__).resolve().parent
BANDS = {"0": (0, 0), "1": (1, 1), "2-3": (2, 3), "4-7": (4, 7), "8 and more": (8, 10**6)}


def by_band(fields: np.ndarray) -> np.ndarray:
    """Mean squares (bands, frames) of the parts of fields (samples, frames, x, y) in bands of max(|k_x|, |k_y|)."""
    n = fields.shape[-1]
    k = np.abs(np.fft.fftfreq(n, 1 / n))
    largest = np.maximum(k[:, None], k)
    powers = np.abs(np.fft.fft2(fields, norm="forward")) ** 2
    return np.stack([powers[..., (largest >= low) & (largest <= high)].sum(-1).mean(0) for low, high in BANDS.values()])


def relative(errors: np.ndarray, truth: np.ndarray) -> dict:
    """Relative root mean squares of errors, by band and of all, for each frame."""
    size = (truth**2).mean((0, 2, 3))
    bands = np.sqrt(by_band(errors) / size)
    every = np.sqrt((errors**2).mean((0, 2, 3)) / size)
    return {"all": every.tolist()} | dict(zip(BANDS, bands.tolist(), strict=True))


def ratios(after: np.ndarray, before: np.ndarray) -> list[float]:
    """Ratios of root mean squares, for each frame."""
    return np.sqrt((after**2).mean((0, 2, 3)) / (before**2).mean((0, 2, 3))).tolist()


def spectra(model: Any, frames: np.ndarray, flow: Callable[[np.ndarray], np.ndarray]) -> dict:
    """The entries of the module's docstring for trajectories (samples, time, x, y)."""
    step = functools.partial(train.predict, model)
    one = lambda states: np.asarray(step(states[:, None]))[:, 0]
    count = frames.shape[1] - 1
    own, states = [frames[:, 0]], frames[:, 0]
    for _ in range(count):
        states = one(states)
        own.append(states)
    own = np.stack(own, 1)
    fresh = np.stack([one(frames[:, i]) for i in range(count)], 1)
    later = slice(1, count)  # states of both at which they differ, and from which a step leads to a known frame
    return {
        "rollout": relative(own[:, 1:] - frames[:, 1:], frames[:, 1:]),
        "fresh": relative(fresh - frames[:, 1:], frames[:, 1:]),
        "growth": ratios(own[:, 2:] - fresh[:, 1:], own[:, later] - frames[:, later]),
        "flow": ratios(flow(own[:, later]) - flow(frames[:, later]), own[:, later] - frames[:, later]),
    }


def flow_of(problem: NavierStokes) -> Callable[[np.ndarray], np.ndarray]:
    """One interval of the solver, for states (samples, frames, n, n); it solves on twice as many points."""
    n = problem.resolution // problem.every
    finer = dataclasses.replace(problem, resolution=2 * n, every=2, frames=2)

    def solve(state: jax.Array) -> jax.Array:
        modes = jnp.fft.fftshift(jnp.fft.fft2(state, norm="forward"))
        whole = jnp.fft.ifftshift(jnp.pad(modes, n // 2))
        return finer.vorticity(jnp.fft.ifft2(whole, norm="forward").real)[0]

    several = jax.jit(jax.vmap(solve))

    def flow(states: np.ndarray) -> np.ndarray:
        return np.asarray(several(jnp.asarray(states.reshape(-1, n, n)))).reshape(states.shape)

    return flow


def mean_of(runs: list) -> Any:
    """The mean over runs of nested results."""
    if isinstance(runs[0], dict):
        return {name: mean_of([run[name] for run in runs]) for name in runs[0]}
    return np.mean(runs, axis=0).tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path, help="of the benchmark")
    parser.add_argument("--out", default=str(HERE / "results" / "rollout_spectra.json"))
    args = parser.parse_args()
    module = experiment.load_file(HERE.parent / "experiments" / "navier_stokes.py")
    config = module.PRESETS["small"]
    test = module.build(config).test
    frames = np.asarray(test.trajectories)[:, :, 0]
    flow, found = flow_of(config.problem), {}
    for folder in sorted(args.folder.glob("*-seed*")):
        model = re.sub(r"-seed\d+$", "", folder.name)
        found.setdefault(model, []).append(spectra(experiment.load(folder), frames, flow))
        for name, value in found[model][-1].items():
            print(folder.name, name, np.round(value["all"] if isinstance(value, dict) else value, 4), flush=True)
    result = {model: {"runs": len(runs), **mean_of(runs)} for model, runs in found.items()}
    timer.write(pathlib.Path(args.out), {"machine": timer.machine(1), "models": result})


if __name__ == "__main__":
    main()
