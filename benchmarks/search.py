"""Which optimiser, learning rate, batch and form have the lowest validation error at a cost, for all models alike?

    taskset -c 0 python benchmarks/search.py --problem rough [--models mgno fno ...] [--seconds 45]

Successive halving with the same effort for each model. First the forms of the model (`FORMS`) with the rates of `RATES`
train for a sixth of the time with the batch of the preset, then the best three for a third of it, each also with half
and twice the batch, then the best two for the whole time. Last, the best rate is halved as long as half of it is
better, or twice the rate at least doubles the error: a rate is no default if its neighbour collapses. Test data are not
read. The errors are means of the validation errors of `JUDGED`; losses and sizes of batches are those of the preset.
Seconds are those of one processor core (time of the process), which other programs change less than wall time; the
number of steps follows from the time of a step, which is measured once for each optimiser, batch and form. Every run
has seed 0.

Optimisers: `muon` is `train.muon`, `adamw` is `train.clipped_adamw`; one compiled step serves all rates. Every run is
written to results/search/ when it is finished, and not trained again.
"""

import argparse
import dataclasses
import functools
import json
import math
import os
import pathlib
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import timer

from sciml import experiment, parallel, train, zoo
from sciml.operators import patched

HERE = pathlib.Path(__file__).resolve().parent
PROBLEMS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "rough": ("darcy.py", "rough", {"symmetries": False}),
    "rough_symmetries": ("darcy.py", "rough", {}),
    "navier_stokes": ("navier_stokes.py", "small", {"noise": 0.0}),
    "burgers": ("burgers.py", "final", {}),
    "darcy_small": ("darcy_small.py", "choose", {}),
}
JUDGED = ("relative_l2", "relative_h1")
WIDE: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "mgno": (zoo.mgno, {"width": 32, "depth": 4}),
    "residual_mgno": (zoo.residual_mgno, {"width": 24}),
    "fno": (zoo.fno, {"width": 48}),
    "uno": (zoo.uno, {"factor": 1.5}),
    "ffno": (zoo.ffno, {"width": 48}),
    "unet": (zoo.unet, {"widths": (32, 48, 64, 96)}),
    "convnext_unet": (zoo.convnext_unet, {"widths": (32, 64, 96, 96)}),
    "dilresnet": (zoo.dilated_resnet, {"width": 64}),
}
LARGER: dict[str, dict[str, Any]] = {
    "mgno": {"depth": 4},
    "residual_mgno": {"width": 20},
    "fno": {"width": 40},
    "uno": {"factor": 1.25},
    "ffno": {"width": 40},
    "unet": {"widths": (20, 32, 44, 64)},
    "convnext_unet": {"widths": (24, 44, 80, 80)},
    "dilresnet": {"width": 44},
}
"""Steps of these take 1.2 to 2.3 times as long on patches; `--sizes` compares them."""
FORMS = {
    model: {
        "whole": make,
        "patches": functools.partial(patched, make, patch=2),
        "patches, wide": functools.partial(patched, functools.partial(make, **wide), patch=2),
        "patches, larger": functools.partial(patched, functools.partial(make, **LARGER[model]), patch=2),
    }
    for model, (make, wide) in WIDE.items()
}
"""The architecture as it is, and on patches of 2 points along each axis, of its size, with more channels, and larger.

Experiments whose models have sizes of their own are searched with these alone."""
RATES = {
    "muon": (2e-3, 4e-3, 8e-3, 1.6e-2, 3.2e-2),
    "adamw": (2e-3, 4e-3, 8e-3),
}
KEPT = (3, 2)  # candidates that go on
COLLAPSE = 2.0  # times the error of a rate, at twice the rate
SHARES = (1 / 6, 1 / 3, 1.0)  # of the time


@dataclasses.dataclass(frozen=True)
class Candidate:
    """What is searched for."""

    form: str
    optimiser: str
    lr: float
    batch: int

    def __str__(self) -> str:
        return f"{self.form} {self.optimiser} lr {self.lr:g} batch {self.batch}"


def _start(made: experiment.Experiment) -> train.TrainState:
    """The state before the first step, on all devices that share a batch."""
    return train.place(train.init(made.model, made.optimiser), parallel.Layout().on(made.batch))


class Search:
    """The candidates of a model on a problem, and a file with what is known of them."""

    def __init__(self, problem: str, model: str, seconds: float):
        file, preset, changed = PROBLEMS[problem]
        self._module = experiment.load_file(HERE.parent / "experiments" / file)
        given = self._module.PRESETS[preset]
        whole = {"patch": 1} if hasattr(given, "patch") else {}  # the forms have their own
        self._config = dataclasses.replace(given, model=model, **changed, **whole)
        architecture = self._module.MODELS[model]
        ours = model in zoo.MODELS and architecture.make is zoo.MODELS[model].make
        self.forms = FORMS[model] if ours else {"whole": architecture.make}
        for name, make in self.forms.items():
            self._module.MODELS[f"{model} {name}"] = dataclasses.replace(architecture, make=make, any_resolution=False)
        self._path = HERE / "results" / "search" / f"{problem}-{model}.json"
        self._path.parent.mkdir(exist_ok=True)
        known = json.loads(self._path.read_text()) if self._path.exists() else {}
        self.known = {"machine": timer.machine(os.cpu_count() or 1), "step_seconds": {}, "runs": {}} | known
        self.seconds, self.batch = seconds, self._config.run.batch
        self._prepared = functools.cache(self._prepare)

    def _experiment(self, candidate: Candidate, steps: int) -> experiment.Experiment:
        run = experiment.Training(steps=steps, batch=candidate.batch)
        model = f"{self._config.model} {candidate.form}"
        built = self._module.build(dataclasses.replace(self._config, model=model, run=run))
        chosen = train.OPTIMISERS[candidate.optimiser](candidate.lr, steps=steps)
        return dataclasses.replace(built, optimiser=chosen, every=steps)

    def _prepare(self, alike: Candidate) -> tuple[Any, Any]:
        """The compiled step of all rates, and the batches."""
        _, step, batches = experiment.prepare(self._experiment(alike, 10))
        return step, batches

    def _step_seconds(self, candidate: Candidate) -> float:
        """Median over steps; the state goes on from step to step."""
        alike = dataclasses.replace(candidate, lr=0.0)
        key = str(alike)
        if key not in self.known["step_seconds"]:
            state = _start(self._experiment(candidate, 10))
            step, batches = self._prepared(alike)
            each = []
            for k in range(10):
                begin = time.process_time()
                item = jax.tree.map(lambda leaf: np.asarray(leaf)[None], batches.item(k))
                state, logs = step(state, batches.source, item)
                jax.block_until_ready((state.step, logs))
                each.append(time.process_time() - begin)
            self.known["step_seconds"][key] = statistics.median(each[2:])
            timer.write(self._path, self.known)
        return self.known["step_seconds"][key]

    def error(self, candidate: Candidate, share: float) -> float:
        """The validation error after a share of the time; infinite where the training fails."""
        steps = max(10, round(share * self.seconds / self._step_seconds(candidate)))
        key = f"{candidate}, {share * self.seconds:g} s"
        if key not in self.known["runs"]:
            made = self._experiment(candidate, steps)
            step, batches = self._prepared(dataclasses.replace(candidate, lr=0.0))
            begin, found = time.process_time(), {}  # which stays empty if the training fails
            try:
                state = train.fit(_start(made), step, batches, steps=steps)
                # The preset `choose` of darcy_small.py tests on pairs that it holds out of the training data.
                judge = made.test if made.validation is None else made.validation
                found = {name: float(value) for name, value in made.evaluate(state.model, judge).items()}
            except FloatingPointError:
                pass
            self.known["runs"][key] = {"steps": steps, "seconds": time.process_time() - begin, "validation": found}
            print(self._path.stem, key, self.known["runs"][key], flush=True)
            timer.write(self._path, self.known)
        values = [value for name, value in self.known["runs"][key]["validation"].items() if name in JUDGED]
        return statistics.mean(values) if values and all(map(math.isfinite, values)) else math.inf

    def best(self, candidates: list[Candidate], share: float, count: int) -> list[Candidate]:
        """The candidates with the lowest errors."""
        return sorted(dict.fromkeys(candidates), key=lambda one: self.error(one, share))[:count]

    def _at(self, candidate: Candidate, factor: float) -> Candidate:
        return dataclasses.replace(candidate, lr=factor * candidate.lr)

    def _too_high(self, candidate: Candidate) -> bool:
        """Whether half the rate is better, or twice the rate collapses."""
        half, own, twice = (self.error(self._at(candidate, factor), 1.0) for factor in (0.5, 1.0, 2.0))
        return half < own or twice > COLLAPSE * own

    def sizes(self) -> None:
        """The model and its larger form at the rate and batch of the library and the preset, on patches."""
        lr = self._module.MODELS[self._config.model].lr
        for form in ("patches", "patches, larger"):
            self.error(Candidate(form, "muon", lr, self.batch), 1.0)

    def run(self) -> None:
        """All rungs."""
        every = [
            Candidate(form, name, lr, self.batch)
            for form in self.forms
            if form != "patches, larger"
            for name, rates in RATES.items()
            for lr in rates
        ]
        first = self.best(every, SHARES[0], KEPT[0])
        sizes = [max(1, self.batch // 2), self.batch, 2 * self.batch]
        second = self.best([dataclasses.replace(a, batch=b) for a in first for b in sizes], SHARES[1], KEPT[1])
        chosen = self.best(second, SHARES[2], 1)[0]
        while chosen.lr > min(RATES[chosen.optimiser]) and self._too_high(chosen):
            chosen = self._at(chosen, 0.5)
        near = {f"{factor:g}": self.error(self._at(chosen, factor), 1.0) for factor in (0.5, 2.0)}
        self.known["chosen"] = dataclasses.asdict(chosen) | {
            "error": self.error(chosen, 1.0),
            "errors_at_other_rates": near,
        }
        print(self._path.stem, self.known["chosen"], flush=True)
        timer.write(self._path, self.known)


def table(problem: str) -> str:
    """What was chosen for each model, with the lowest error of each optimiser and form after a sixth of the time."""
    kinds = [f"{form} {name}" for form in ("whole", "patches") for name in ("adamw", "muon")]
    heads = ["model", "form", "optimiser", "rate", "batch", "error", "half the rate", "twice", *kinds]
    rows = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for model in WIDE:
        path = HERE / "results" / "search" / f"{problem}-{model}.json"
        known = json.loads(path.read_text()) if path.exists() else {}
        if "chosen" not in known:
            continue
        best, near = known["chosen"], known["chosen"]["errors_at_other_rates"]
        cells = [best["form"], best["optimiser"], f"{best['lr']:g}", str(best["batch"])]
        cells += [f"{value:.3g}" for value in (best["error"], near["0.5"], near["2"])]
        cells += [f"{_first(known['runs'], kind):.3g}" for kind in kinds]
        rows.append(f"| {' | '.join([model, *cells])} |")
    return "\n".join(rows)


def _first(runs: dict[str, dict], kind: str) -> float:
    """The lowest error of a kind of candidates after the shortest trainings."""
    shortest = min(float(key.split(", ")[-1].removesuffix(" s")) for key in runs)
    found = [
        statistics.mean(run["validation"][name] for name in JUDGED if name in run["validation"])
        for key, run in runs.items()
        if key.startswith(f"{kind} lr ") and key.endswith(f", {shortest:g} s") and run["validation"]
    ]
    return min(found, default=math.inf)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problem", choices=list(PROBLEMS), default="rough")
    parser.add_argument("--models", nargs="+", default=list(WIDE), choices=list(WIDE))
    parser.add_argument("--seconds", type=float, default=45.0, help="of training of the longest runs")
    parser.add_argument("--sizes", action="store_true", help="compare the model and a larger one, nothing else")
    parser.add_argument("--table", action="store_true", help="print what was found for the problem, train nothing")
    options = parser.parse_args()
    if options.table:
        print(table(options.problem))
        return
    timer.like_the_command_line()
    for model in options.models:
        search = Search(options.problem, model, options.seconds)
        search.sizes() if options.sizes else search.run()


if __name__ == "__main__":
    main()
