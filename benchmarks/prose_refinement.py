"""What do the written equations become by fitting their constants, and how well do they forecast?

    python benchmarks/prose_refinement.py RUN [--twin RUN]

RUN is a finished run of experiments/prose_ode.py. Its model writes the equations of held-out systems within the
grammar, with the likeliest numbers and with mean ones (`prose.MeanNumbers`). `prose.solved_forecast` fits the constants
of the latter and the first state to the given states, with the noise of the run on them, and solves the equations until
the times to be predicted: with constants held to the written ones by each of SPREADS, or free. The spread is chosen on
the validation systems (lowest mean expression error) and judged on the test systems, some trajectories of each.

Beside it, of the same trajectories: the nominal constants of the families, which are known to who knows the family
without looking at the data, also fitted; the true equations, of which only the first state is fitted; the forecasts of
the network, and those of a twin that knows no equations. Where equations have another number of components or cannot
be solved, the network's forecast stands (`not_solved`). Writes results/prose_refinement.json.
"""

import argparse
import json
import os
import pathlib
import time

import jax
import numpy as np
import timer

from sciml import experiment, prose, systems, train

HERE = pathlib.Path(__file__).resolve().parent
EXPERIMENT = HERE.parent / "experiments" / "prose_ode.py"
SPREADS = (0.01, 0.02, 0.05, 0.1, 0.3, None)


def samples(task, split, per_system: int):
    """Samples of a split with noise and without."""
    rows = np.arange(len(split.data)).reshape(-1, task.initial_conditions)[:, :per_system].reshape(-1)
    sample, clean = task.noisy_samples(split, rows)
    return prose.thinned(sample, task.used_times), prose.thinned(clean, task.used_times)


def written(model, sample, task) -> dict[str, list]:
    """What a model writes for samples, with the likeliest numbers and with mean ones."""
    vocabulary, found = task.vocabulary, {}
    for name, numbers in {"likeliest": prose.likeliest_numbers, "mean": prose.MeanNumbers(vocabulary)}.items():
        settings = task.given, vocabulary, prose.system_grammar, task.max_tokens
        writer = prose.SampleEquations(model, *settings, numbers=numbers)
        found[name] = prose.equations(train.predict(writer, sample), vocabulary, prose.read_strictly)
    return found


def of_equations(found, truth, places) -> dict:
    """Expression errors: mean, median and by family."""
    each = prose.equation_errors(found, truth).errors
    names = np.array(places)
    return {
        "mean": float(np.nanmean(each)),
        "median": float(np.nanmedian(each)),
        "by_family": {name: float(np.nanmean(each[names == name])) for name in dict.fromkeys(places)},
    }


def of_forecasts(states, sample, clean, inputs: int) -> dict:
    """Errors of forecasts against noisy and clean states: mean and median of the first half and of all times."""
    found = {}
    for kind, truth in (("", sample), ("clean_", clean)):
        errors = jax.vmap(prose.window_errors)(states, truth.states[:, inputs:], sample.components)
        for name, each in (("first_half", errors.first), ("relative_l2", errors.whole)):
            found[f"{kind}{name}"] = {"mean": float(np.mean(each)), "median": float(np.median(each))}
    return found


def study(task, split, models: dict, per_system: int, spreads) -> dict:
    """All rows of one split of the data."""
    sample, clean = samples(task, split, per_system)
    n, truth = task.given, prose.equations(clean.equation[:, 1:], task.vocabulary)
    places = [split.data.made.families[family] for family in clean.family]
    forecasts = {
        name: np.array(train.predict(prose.SampleForecast(model, n), sample)["states"])
        for name, model in models.items()
    }
    texts = written(models["network"], sample, task)
    expressions = {"nominal": [systems.FAMILIES[name].system() for name in places], **texts}
    rows: dict[str, dict] = {
        "expression_error": {name: of_equations(found, truth, places) for name, found in expressions.items()},
        "forecast_error": {name: of_forecasts(states, sample, clean, n) for name, states in forecasts.items()},
    }
    candidates = {f"spread {spread}" if spread else "free": (texts["mean"], spread) for spread in spreads}
    nominal = {f"nominal, {name}": (expressions["nominal"], spread) for name, (_, spread) in candidates.items()}
    candidates |= {**nominal, "written": (texts["mean"], prose.COPIED), "true": (truth, prose.COPIED)}
    for name, (read, spread) in candidates.items():
        start = time.perf_counter()
        found = prose.solved_forecasts(read, sample, forecasts["network"], n, spreads=[spread] * len(read))
        seconds = (time.perf_counter() - start) / len(read)
        rows["expression_error"][name] = of_equations(found.systems, truth, places)
        rows["forecast_error"][name] = {
            **of_forecasts(found.states, sample, clean, n),
            "not_solved": int(np.sum(~found.solved)),
            "seconds_each": seconds,
        }
        print(name, rows["expression_error"][name], rows["forecast_error"][name], flush=True)
    return {"samples": len(truth), **rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=pathlib.Path, help="folder of a finished run")
    parser.add_argument("--twin", type=pathlib.Path, help="folder of a finished run of a model without equations")
    parser.add_argument("--per-system", type=int, default=2, help="trajectories of each system (default %(default)s)")
    parser.add_argument("--out", type=pathlib.Path, default=HERE / "results" / "prose_refinement.json")
    arguments = parser.parse_args()
    module = experiment.load_file(EXPERIMENT)
    task = experiment.read_config(arguments.run, module).task
    folders = {"network": arguments.run} | ({"twin": arguments.twin} if arguments.twin else {})
    models = {name: experiment.load(folder) for name, folder in folders.items()}
    validation = study(task, task.validation, models, arguments.per_system, SPREADS)
    means = {name: row["mean"] for name, row in validation["expression_error"].items()}
    chosen = min(SPREADS, key=lambda spread: means[f"spread {spread}" if spread else "free"])
    test = study(task, task.test, models, arguments.per_system, tuple({chosen: None, None: None}))
    twin = " --twin RUN" if arguments.twin else ""
    result = {
        "command": f"python benchmarks/prose_refinement.py RUN{twin} --per-system {arguments.per_system}",
        "machine": timer.machine(os.cpu_count() or 1),
        "runs": {name: json.loads((folder / "run.json").read_text())["starts"][-1] for name, folder in folders.items()},
        "noise": task.noise,
        "chosen_spread": chosen,
        "validation": validation,
        "test": test,
    }
    timer.write(arguments.out, result)


if __name__ == "__main__":
    main()
