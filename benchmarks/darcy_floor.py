"""Which error on the thinned Darcy data can no model fall below, because the input does not say what was left out?

    python benchmarks/darcy_floor.py [--samples 24] [--draws 8] [--trajectories 8]

The preset `rough` of experiments/darcy.py solves on 128x128 and stores every second value of permeability and pressure
along each axis. Three quarters of the cells between which the permeability jumps are thus not seen by a model, and many
permeabilities with different pressures have the same input. The prediction with the smallest mean squared error is the
mean of the pressures of all of them; its errors are what this script measures, on new samples of the problem.

Permeabilities with the input of a given sample are drawn exactly. The Gaussian field at the stored cells is drawn from
its distribution under the condition of its signs by Hamiltonian Monte Carlo with reflections (Pakman and Paninski, J.
Comput. Graph. Stat. 23, 2014, section 2), with the covariance as the metric, from the field of the sample on, which is
itself such a draw; the field at the other cells then follows by conditioning on the values at the stored ones. The mean
of m draws has the squared error of the best prediction times 1 + 1/m, by which errors are corrected. `--trajectories`
are the trajectories of length pi/2 before a draw; the file has the errors after half as many too: if they are equal,
the draws do not remember where they began.

Writes results/darcy_floor.json; half an hour on one core.
"""

import argparse
import functools
import math
import pathlib

import jax
import numpy as np
import timer

from sciml import experiment, metrics
from sciml.pdes import Darcy, neumann_field

HERE = pathlib.Path(__file__).resolve().parent
RIGHT_ANGLE = math.pi / 2


def basis(n: int, alpha: float, tau: float) -> tuple[np.ndarray, np.ndarray]:
    """Cosines of `neumann_field` at the cell centres, (n, n), and the deviations of their coefficients, (n, n)."""
    k = np.arange(n)
    cosines = np.cos(np.pi * (k + 0.5)[:, None] * k / n) * np.where(k > 0, math.sqrt(2), 1.0)
    square = np.pi**2 * (k[:, None] ** 2 + k**2)
    deviations = tau ** (alpha - 1) * (square + tau**2) ** (-alpha / 2)
    deviations[0, 0] = 0.0
    return cosines, deviations


class Conditioned:
    """Draws fields that have given signs at the stored cells.

    Args:
        problem: Which cells are stored, and the distribution of the field.
    """

    def __init__(self, problem: Darcy):
        n, every = problem.resolution, problem.every
        self._stored = (slice(None, None, every),) * 2
        self._draw = jax.jit(
            functools.partial(neumann_field, shape=(n, n), alpha=problem.alpha, tau=problem.tau),
        )
        cosines, deviations = basis(n, problem.alpha, problem.tau)
        few = cosines[::every]
        count = len(few) ** 2
        modes = np.einsum("ik,jl,kl->ijkl", few, few, deviations).reshape(count, -1)
        self._covariance = modes @ modes.T
        both = np.einsum("ik,jl,kl->ijkl", cosines, cosines, deviations).reshape(n * n, -1) @ modes.T
        self._weights = np.linalg.solve(self._covariance, both.T).T.reshape(n, n, count)

    def field(self, key: jax.Array) -> np.ndarray:
        """A field without a condition."""
        return np.asarray(self._draw(key))

    def at_stored(self, field: np.ndarray) -> np.ndarray:
        """The values at the stored cells."""
        return field[self._stored].ravel()

    def moved(self, values: np.ndarray, key: jax.Array, length: float = RIGHT_ANGLE) -> tuple[np.ndarray, int]:
        """Values at the stored cells with the same signs, after a trajectory, and its number of reflections.

        On the trajectory `x cos(t) + v sin(t)` a value that reaches zero is reflected.
        """
        signs, x, left = np.sign(values), values.copy(), length
        v, last, reflections = self.at_stored(self.field(key)), -1, 0
        while True:
            times = np.mod(np.arctan2(v, x) + RIGHT_ANGLE, math.pi)
            if last >= 0:
                times[last] = math.pi
            hit = int(times.argmin())
            step = min(float(times[hit]), left)
            x, v = x * math.cos(step) + v * math.sin(step), v * math.cos(step) - x * math.sin(step)
            left -= step
            if left <= 0:
                return np.abs(x) * signs, reflections
            x[hit] = 0.0
            v -= 2 * v[hit] / self._covariance[hit, hit] * self._covariance[:, hit]
            last, reflections = hit, reflections + 1

    def whole(self, values: np.ndarray, key: jax.Array) -> np.ndarray:
        """A field on all cells with these values at the stored ones."""
        free = self.field(key)
        return free + self._weights @ (values - self.at_stored(free))


def errors(problem: Darcy, known: Conditioned, key: jax.Array, draws: int, trajectories: int) -> dict:
    """Relative errors of the mean of draws for one sample, after half of the trajectories and after all."""
    pressure = jax.jit(problem.pressure)
    stored = (slice(None, None, problem.every),) * 2
    solve = lambda field: np.asarray(pressure(np.where(field >= 0, problem.high, problem.low)))[stored]
    truth = known.field(key)
    u, found, reflections = solve(truth), {"half": [], "all": []}, []
    for draw in range(draws):
        values = known.at_stored(truth)
        for step in range(trajectories):
            values, count = known.moved(values, jax.random.fold_in(key, 1 + draw * trajectories + step))
            reflections.append(count)
            at = {trajectories // 2 - 1: "half", trajectories - 1: "all"}.get(step)
            if at:
                field = known.whole(values, jax.random.fold_in(key, 10**6 + draw * trajectories + step))
                assert ((field[stored] >= 0) == (truth[stored] >= 0)).all()
                found[at].append(solve(field))
    correction = math.sqrt(draws / (draws + 1))
    row = {"reflections": float(np.mean(reflections))}
    for name, of in found.items():
        mean = np.mean(of, axis=0)
        l2 = float(metrics.relative_l2(mean[None], u[None]))
        h1 = float(metrics.relative_h1(mean[None], u[None], grid=problem.grid))
        row[name] = {"relative_l2": correction * l2, "relative_h1": correction * h1}
    return row


def summary(rows: list[dict]) -> dict:
    """Mean and standard error of the errors."""
    result = {}
    for when in ("half", "all"):
        for name in ("relative_l2", "relative_h1"):
            of = np.asarray([row[when][name] for row in rows])
            error = float(of.std(ddof=1) / math.sqrt(len(of))) if len(of) > 1 else None
            result.setdefault(when, {})[name] = {"mean": float(of.mean()), "standard_error": error}
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=24)
    parser.add_argument("--draws", type=int, default=8)
    parser.add_argument("--trajectories", type=int, default=8)
    parser.add_argument("--out", default=str(HERE / "results" / "darcy_floor.json"))
    args = parser.parse_args()
    problem = experiment.load_file(HERE.parent / "experiments" / "darcy.py").PRESETS["rough"].problem
    with jax.enable_x64(True):
        known, rows = Conditioned(problem), []
        for sample in range(args.samples):
            key = jax.random.fold_in(jax.random.key(2026), sample)
            rows.append(errors(problem, known, key, args.draws, args.trajectories))
            print(sample, rows[-1], flush=True)
            result = {
                "machine": timer.machine(1),
                "problem": str(problem),
                "draws": args.draws,
                "trajectories": args.trajectories,
                "errors": summary(rows),
                "samples": rows,
            }
            timer.write(pathlib.Path(args.out), result)


if __name__ == "__main__":
    main()
