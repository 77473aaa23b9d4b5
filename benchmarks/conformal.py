"""Do conformal bands cover as often as they promise, what does an ensemble add, and what does shifted data do to them?

    python benchmarks/conformal.py [--data FOLDER] [--members 5] [--case burgers darcy]

Fields: Darcy flow on 32x32 points, an ensemble of FNOs, and its first member alone. Rollouts: Burgers' equation, 10
frames on 64 points, an ensemble of FNOs that take one step. A pool of 600 samples that no training saw is split 200
times at random into 200 calibration and 400 test samples, at the levels 0.8, 0.9 and 0.95. Coverage of such splits is
beta-binomial whatever the model is; the table has how many splits are inside of the interval of 95 %. Bands calibrated
on the whole pool are then applied to shifted data. Widths are means of upper minus lower bound, relative to the root
mean square of the truth. Also: CRPS, spread over error, flagged inputs, and the time of a training step of all members
in one program beside those of single models, interleaved. Writes results/conformal.json.
"""

import argparse
import dataclasses
import functools
import json
import os
import pathlib
import statistics
import tempfile
import time
from typing import Any

import jax
import numpy as np
import timer

from sciml import data, experiment, losses, metrics, tasks, train, uq, zoo
from sciml.operators import FNO, Ensemble, Residual, members_of
from sciml.pdes import Burgers, Darcy
from sciml.rollout import rollout_batch

HERE = pathlib.Path(__file__).resolve().parent
LEVELS, SPLITS, POOL, CALIBRATION, SHIFTED, FLOORS = (0.8, 0.9, 0.95), 200, 600, 200, 200, (0.1, 1.0)
DARCY = Darcy(resolution=64, every=2)
BURGERS = Burgers(resolution=64, frames=10, viscosity=0.02)
DARCY_SHIFTS = {
    "contrast 16 in place of 4": dataclasses.replace(DARCY, low=1.5, high=24.0),
    "finer structures, tau 6 in place of 3": dataclasses.replace(DARCY, tau=6.0),
    "64x64 points in place of 32x32": dataclasses.replace(DARCY, every=1),
}
BURGERS_SHIFTS = {
    "viscosity 0.01 in place of 0.02": dataclasses.replace(BURGERS, viscosity=0.01),
    "viscosity 0.1 in place of 0.02": dataclasses.replace(BURGERS, viscosity=0.1),
    "initial fields of half the size": dataclasses.replace(BURGERS, amplitude=BURGERS.amplitude / 2),
    "128 points in place of 64": dataclasses.replace(BURGERS, resolution=128),
}


Case = tuple[experiment.Experiment, np.ndarray, data.Pairs, dict[str, data.Pairs]]
"""The experiment, inputs of its training, the pool, and shifted data."""


def darcy(folder: str, members: int) -> Case:
    known = data.cached(DARCY, folder, n=460 + POOL, seed=0)
    training, validation, pool = data.split(known, (400, 60, POOL), seed=None)
    make = functools.partial(zoo.fno, width=12, depth=3, modes=12)
    architecture = dataclasses.replace(zoo.MODELS["fno"], make=make)
    built = tasks.fields(architecture, tasks.Parts(training, validation, pool), experiment.Training(steps=400, batch=8))
    shifts = {name: data.cached(one, folder, n=SHIFTED, seed=1) for name, one in DARCY_SHIFTS.items()}
    return experiment.ensemble(built, members), training.x, pool, shifts


def burgers(folder: str, members: int) -> Case:
    known = data.cached(BURGERS, folder, n=230 + POOL, seed=0)
    training, validation, pool = data.split(known, (200, 30, POOL), seed=None)

    def steps_of(pairs: data.Pairs) -> data.Pairs:
        frames = np.concatenate((pairs.x, pairs.y), axis=1)
        both = (part.reshape(-1, 1, frames.shape[-1]) for part in (frames[:, :-1], frames[:, 1:]))
        return data.Pairs(*both, grid=pairs.grid)

    fno = lambda into, out, *, grid, key: Residual(FNO(into, out, modes=(16,), width=24, depth=3, key=key))
    architecture = dataclasses.replace(zoo.MODELS["fno"], make=fno)
    built = tasks.fields(
        architecture,
        tasks.Parts(steps_of(training), steps_of(validation), steps_of(pool.take(slice(0, 50)))),
        experiment.Training(steps=600, batch=32),
        statistics=None,
        loss=losses.supervised(metrics.relative_l2),
    )
    shifts = {name: data.cached(one, folder, n=SHIFTED, seed=1) for name, one in BURGERS_SHIFTS.items()}
    return experiment.ensemble(built, members), training.x, pool, shifts


def predicted(model: Ensemble, pairs: data.Pairs, *, rollout: bool) -> np.ndarray:
    """Predictions (samples, members, channels, *space); of rollouts (samples, members, frames, 1, x)."""
    steps = pairs.y.shape[1]
    each = []
    for member in members_of(model):
        one = functools.partial(train.predict, member)
        each.append(rollout_batch(one, pairs.x, steps)[:, :, None] if rollout else one(pairs.x))
    return np.stack(each, axis=1)


def kinds(members: np.ndarray, *, rollout: bool) -> dict[str, tuple[np.ndarray, np.ndarray | None, Any]]:
    """Prediction, scale and score of each kind of band, from the predictions of all members."""
    one, mean = members[:, 0], members.mean(axis=1)
    low, high = (uq.spread(members, floor=floor) for floor in FLOORS)
    found: dict[str, tuple[np.ndarray, np.ndarray | None, Any]] = {
        "one model": (one, None, uq.SupNorm()),
        "ensemble": (mean, None, uq.SupNorm()),
        f"ensemble, scaled by its spread, floor {FLOORS[0]:g}": (mean, low, uq.SupNorm()),
        f"ensemble, scaled by its spread, floor {FLOORS[1]:g}": (mean, high, uq.SupNorm()),
        "ensemble, L2 ball": (mean, None, uq.L2Norm()),
    }
    if rollout:
        found["ensemble, each step"] = (mean, None, uq.EachStep())
        found[f"ensemble, each step, scaled by its spread, floor {FLOORS[1]:g}"] = (mean, high, uq.EachStep())
    return found


def rows(scale: np.ndarray | None, which: Any) -> np.ndarray | None:
    return None if scale is None else scale[which]


def width(bands: uq.Conformal, prediction: np.ndarray, scale: np.ndarray | None, truth: np.ndarray) -> float:
    return float(2 * bands.half_width(prediction, scale).mean() / np.sqrt(np.mean(truth**2)))


def over_splits(prediction: np.ndarray, scale: np.ndarray | None, score: Any, truth: np.ndarray) -> dict[str, Any]:
    """Coverage and width over random splits, for each level."""
    found: dict[str, Any] = {}
    for level in LEVELS:
        rng, covered, widths = np.random.default_rng(0), [], []
        inside = uq.coverage_interval(level, calibration=CALIBRATION, test=POOL - CALIBRATION)
        for _ in range(SPLITS):
            order = rng.permutation(POOL)
            known, new = order[:CALIBRATION], order[CALIBRATION:]
            bands = uq.conformal(prediction[known], truth[known], level=level, score=score, scale=rows(scale, known))
            covered.append(float(bands.covers(prediction[new], truth[new], rows(scale, new)).mean()))
            widths.append(width(bands, prediction[new[:50]], rows(scale, new[:50]), truth[new]))
        found[f"{level:g}"] = {
            "coverage": {"mean": statistics.mean(covered), "least": min(covered), "largest": max(covered)},
            "interval_95": inside,
            "splits_inside": sum(inside[0] <= one <= inside[1] for one in covered) / SPLITS,
            "width": statistics.mean(widths),
        }
    return found


def scores(members: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    """Scores of an ensemble, and errors of its mean and of its members."""
    error = lambda prediction: float(jax.vmap(metrics.relative_l2)(prediction, truth).mean())
    size = np.sqrt(np.mean(truth**2))
    return {
        "relative_l2": error(members.mean(axis=1)),
        "member_relative_l2": statistics.mean(error(members[:, k]) for k in range(members.shape[1])),
        "crps": float(jax.vmap(uq.crps)(members, truth).mean() / size),
        "fair_crps": float(jax.vmap(uq.fair_crps)(members, truth).mean() / size),
        "mean_absolute_error_of_one": float(np.abs(members[:, 0] - truth).mean() / size),
        "spread_skill": uq.spread_skill(members, truth),
        "ranks": uq.rank_histogram(members, truth).tolist(),
    }


def of_case(case: Any, folder: str, members: int, *, rollout: bool) -> tuple[dict[str, Any], experiment.Experiment]:
    built, inputs, pool, shifts = case(folder, members)
    with tempfile.TemporaryDirectory() as run:
        done = experiment.run(built, pathlib.Path(run) / "run")
        model = experiment.load(pathlib.Path(run) / "run")
    axis = (slice(None), slice(None), None) if rollout else ()
    true = lambda pairs: np.asarray(pairs.y[axis] if rollout else pairs.y)
    found, truth = predicted(model, pool, rollout=rollout), true(pool)
    half = POOL // 2
    flag = uq.input_flag(inputs, pool.x[:half])
    result: dict[str, Any] = {
        "run": {name: done[name] for name in ("parameters", "steps", "train_seconds", "test")},
        "scores": scores(found, truth),
        "bands": {name: over_splits(*one, truth) for name, one in kinds(found, rollout=rollout).items()},
        "flagged": float(flag.flagged(pool.x[half:]).mean()),
        "shifted": {},
    }
    for shift, pairs in shifts.items():
        moved, moved_truth, of_shift = predicted(model, pairs, rollout=rollout), true(pairs), {}
        for name, (prediction, scale, score) in kinds(found, rollout=rollout).items():
            new, new_scale, _ = kinds(moved, rollout=rollout)[name]
            for level in LEVELS:
                bands = uq.conformal(prediction, truth, level=level, score=score, scale=scale)
                of_shift.setdefault(name, {})[f"{level:g}"] = {
                    "coverage": float(bands.covers(new, moved_truth, new_scale).mean()),
                    "width": width(bands, new, new_scale, moved_truth),
                }
        flagged = float(flag.flagged(pairs.x).mean())
        result["shifted"][shift] = {"scores": scores(moved, moved_truth), "bands": of_shift, "flagged": flagged}
        print(shift, f"flagged {flagged:.2f}", {name: one["0.9"] for name, one in of_shift.items()}, flush=True)
    return result, built


def cost(together: experiment.Experiment, alone: experiment.Experiment, rounds: int = 12, steps: int = 4) -> Any:
    """Time and processor time of a step of all members over that of one model, interleaved; seconds of compilation."""
    found: dict[str, Any] = {"wall": [], "processor": []}
    parts = {}
    for name, one in (("together", together), ("alone", alone)):
        state, step, batches = experiment.prepare(one)
        clocks = time.perf_counter(), time.process_time()
        state, _ = step(state, batches.source, batches.together([batches.item(0)]))
        jax.block_until_ready(state)
        first = time.perf_counter() - clocks[0], time.process_time() - clocks[1]
        found[f"first_step_of_{name}"] = {"seconds": first[0], "processor_seconds": first[1]}
        parts[name] = [state, step, batches]
    for _ in range(rounds):
        clocks = {}
        for name, part in parts.items():
            begun = time.perf_counter(), time.process_time()
            for _ in range(steps):
                part[0], _ = part[1](part[0], part[2].source, part[2].together([part[2].item(0)]))
            jax.block_until_ready(part[0])
            clocks[name] = time.perf_counter() - begun[0], time.process_time() - begun[1]
        for i, kind in enumerate(("wall", "processor")):
            found[kind].append(clocks["together"][i] / clocks["alone"][i])
    for kind in ("wall", "processor"):
        quartiles = np.quantile(found[kind], [0.25, 0.75]).tolist()
        found[kind] = {"median_ratio": statistics.median(found[kind]), "quartiles": quartiles}
    return found


CASES = {"burgers": (burgers, True), "darcy": (darcy, False)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="data", help="folder for the generated samples")
    parser.add_argument("--members", type=int, default=5)
    parser.add_argument("--case", nargs="+", default=list(CASES), choices=list(CASES), help="the others are kept")
    options = parser.parse_args()
    out = HERE / "results" / "conformal.json"
    before = json.loads(out.read_text()) if out.exists() else {}
    result: dict[str, Any] = {
        "machine": timer.machine(os.cpu_count() or 1),
        "settings": {
            "members": options.members,
            "pool": POOL,
            "calibration": CALIBRATION,
            "splits": SPLITS,
            "floors_of_the_spread": FLOORS,
            "shifted_samples": SHIFTED,
        },
        "cost": before.get("cost", {}),
    }
    result = {**before, **result}
    for name in options.case:
        case, rollout = CASES[name]
        result[name], together = of_case(case, options.data, options.members, rollout=rollout)
        alone = case(options.data, 1)[0]
        result["cost"][name] = cost(together, alone)
        print(name, result["cost"][name], flush=True)
        timer.write(out, result)


if __name__ == "__main__":
    main()
