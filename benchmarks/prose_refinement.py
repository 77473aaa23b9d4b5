"""Does fitting the constants of written equations to the noisy trajectory bring them closer to the true ones?

    python benchmarks/prose_refinement.py RUN --out results/prose_refinement.json

RUN is a finished run of experiments/prose_ode.py. Its model writes the equations of held-out systems within the
grammar, with the likeliest numbers and with mean ones (`prose.MeanNumbers`). `symbolic.refine` fits the constants of
the latter to the given states, with the noise of the run on them, held to the written ones with each of SPREADS, or
free. The spread is chosen on the validation systems (lowest mean expression error) and judged
on the test systems, some trajectories of each. Beside it, the error of the family's nominal constants: what is known
without looking at the data. Equations with another number of components are counted, and left out of all rows.
"""

import argparse
import json
import os
import pathlib

import jax
import numpy as np
import timer

from sciml import experiment, prose, symbolic, train

HERE = pathlib.Path(__file__).resolve().parent
EXPERIMENT = HERE.parent / "experiments" / "prose_ode.py"
SPREADS = (0.01, 0.02, 0.05, 0.1, 0.3, None)


def equations(module, config, model, part: int, per_system: int):
    """Samples with noise, what the model writes for them in two ways, the true and nominal equations, and families."""
    dimension = max(family.dimension for family in prose.families(*config.families))
    vocabulary = symbolic.ode_vocabulary(dimension)
    guess = prose.known_equations if config.guess == "known" else prose.skeleton_equations
    data = prose.EquationData(module.trajectories(config, part), vocabulary, guess=guess)
    rows = np.arange(len(data)).reshape(-1, config.starts)[:, :per_system].reshape(-1)
    where = module.Part(data, vocabulary, config.sensors or config.inputs, seed=part)
    sample, clean = module.noisy_samples(config, where, rows)
    given = prose.thinned(sample, module.given_rows(config, where.sensors))
    written = {}
    for name, numbers in {"likeliest": prose.likeliest_numbers, "mean": prose.MeanNumbers(vocabulary)}.items():
        settings = where.sensors, vocabulary, prose.systems_alone, config.longest
        writer = prose.SampleEquations(model, *settings, numbers=numbers)
        written[name] = prose.equations(train.predict(writer, given), vocabulary, prose.read_strictly)
    truth = prose.equations(clean.equation[:, 1:], vocabulary)
    places = [config.families[(row // config.starts) % len(config.families)] for row in rows]
    nominal = [prose.FAMILIES[name].system() for name in places]
    return given, written, truth, nominal, places


def fitted(given, written, spread: float | None) -> list:
    """The equations with fitted constants."""
    found = []
    for i, one in enumerate(written):
        if one is not None:
            with jax.enable_x64(True):
                one = symbolic.refine(one, given.times[i], given.states[i, :, : len(one)], spread=spread).system
        found.append(one)
    return found


def errors(found, truth, places) -> dict:
    """Expression errors: mean, median and by family."""
    each = prose.equation_errors(found, truth).errors
    names = np.array(places)
    return {
        "mean": float(np.nanmean(each)),
        "median": float(np.nanmedian(each)),
        "by_family": {name: float(np.nanmean(each[names == name])) for name in dict.fromkeys(places)},
    }


def study(module, config, model, part: int, per_system: int, spreads) -> dict:
    """All rows of one part of the data."""
    given, written, truth, nominal, places = equations(module, config, model, part, per_system)
    readable = [one is not None and len(one) == len(true) for one, true in zip(written["mean"], truth, strict=True)]
    only = lambda systems: [one if good else None for one, good in zip(systems, readable, strict=True)]
    rows = {name: errors(only(found), truth, places) for name, found in {"nominal": nominal, **written}.items()}
    for spread in spreads:
        name = f"spread {spread}" if spread else "free"
        rows[name] = errors(fitted(given, only(written["mean"]), spread), truth, places)
        print(part, name, rows[name], flush=True)
    return {"samples": len(truth), "left_out": readable.count(False), "expression_error": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=pathlib.Path, help="folder of a finished run")
    parser.add_argument("--per-system", type=int, default=2, help="trajectories of each system (default %(default)s)")
    parser.add_argument("--out", type=pathlib.Path, default=HERE / "results" / "prose_refinement.json")
    arguments = parser.parse_args()
    module = experiment.load_file(EXPERIMENT)
    config = experiment.read_config(arguments.run, module)
    model = experiment.load(arguments.run)
    validation = study(module, config, model, 1, arguments.per_system, SPREADS)
    means = {name: row["mean"] for name, row in validation["expression_error"].items()}
    chosen = min(SPREADS, key=lambda spread: means[f"spread {spread}" if spread else "free"])
    test = study(module, config, model, 2, arguments.per_system, tuple({chosen: None, None: None}))
    result = {
        "command": f"python benchmarks/prose_refinement.py RUN --per-system {arguments.per_system}",
        "machine": timer.machine(os.cpu_count() or 1),
        "run": json.loads((arguments.run / "run.json").read_text())["starts"][-1],
        "noise": config.noise,
        "chosen_spread": chosen,
        "validation": validation,
        "test": test,
    }
    timer.write(arguments.out, result)


if __name__ == "__main__":
    main()
