"""How do forecasts and written equations hold up against noise, with fewer given times, and beyond the training?

    python benchmarks/prose_robustness.py prose=RUN told=RUN@known data-only=RUN

Finished runs of experiments/prose_ode.py, without training anything: the test of each at other noise levels (given and
predicted states; errors are against the clean ones), with fewer given times, and for systems whose constants are drawn
from wider intervals than in training (10 %). The name after `@` is the guess of the equations, by default that of the
run's config. Forecasts are those of the network and, of the first samples, those of its
equations, fitted to the given states and solved. Writes results/prose_robustness.json and .png.
"""

import argparse
import json
import os
import pathlib

import timer

from sciml import experiment

HERE = pathlib.Path(__file__).resolve().parent
EXPERIMENT = HERE.parent / "experiments" / "prose_ode.py"
NOISES = (0.0, 0.01, 0.02, 0.05, 0.1)
SENSORS = (64, 32, 16, 8, 4)
SPREADS = (0.1, 0.15, 0.2)
TICKS = (0.5, 1, 2, 5, 10, 20, 50)


def tests(config) -> dict[str, dict]:
    """Series of changed settings, by what they are drawn against."""
    change = lambda name, values: {value: experiment.with_settings(config, {name: value}) for value in values}
    fewer = [count for count in SENSORS if count <= config.task.given]
    return {
        "noise": change("noise", NOISES),
        "sensors": change("sensors", fewer),
        "spread": change("spread", SPREADS),
    }


def judge(module, model, config) -> dict[str, float]:
    """The test of a model with changed settings."""
    made = module.build(config)
    return made.evaluate(model, made.test)


def draw(found: dict, path: pathlib.Path) -> None:
    """Errors of forecasts and of equations against the three settings."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    labels = {
        "noise": "noise (trained with 2 %)",
        "sensors": "given times (trained with 64)",
        "spread": "half width of the constants (trained with 10 %)",
    }
    figure, axes = plt.subplots(2, 3, figsize=(11, 6), layout="constrained", sharey="row", sharex="col")
    metrics = (
        ("clean_relative_l2", "refined_clean_relative_l2"),
        ("grammar_expression_error", "refined_expression_error"),
    )
    for column, (series, label) in zip(axes.T, labels.items(), strict=True):
        for axis, (written, solved) in zip(column, metrics, strict=True):
            for colour, (name, run) in enumerate(found.items()):
                for metric, dashes, words in ((written, "-", name), (solved, "--", f"{name}, fitted and solved")):
                    values = [(float(value), 100 * row[metric]) for value, row in run[series].items() if metric in row]
                    if values:
                        axis.plot(*zip(*values, strict=True), marker="o", color=f"C{colour}", ls=dashes, label=words)
            axis.grid(alpha=0.3, which="both")
        column[0].set_yscale("log")
        column[0].set_yticks(TICKS, labels=map(str, TICKS))
        column[0].set_yticks([], minor=True)
        column[0].set_ylim(0.2, 60)  # solutions without noise are below
        if series == "sensors":
            column[0].set_xscale("log", base=2)
            column[0].set_xticks(SENSORS, labels=map(str, SENSORS))
        column[1].set_xlabel(label)
    axes[0, 0].set_ylabel("error of the forecast, %")
    axes[1, 0].set_ylabel("error of the equations, %")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=5, frameon=False)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", help="NAME=FOLDER or NAME=FOLDER@GUESS of finished runs")
    parser.add_argument("--decoded", type=int, default=160, help="samples whose equations are written and solved")
    parser.add_argument("--out", type=pathlib.Path, default=HERE / "results" / "prose_robustness.json")
    arguments = parser.parse_args()
    module, found = experiment.load_file(EXPERIMENT), {}
    for name, _, folder in (text.partition("=") for text in arguments.runs):
        folder, _, guess = folder.partition("@")
        run = pathlib.Path(folder)
        config = experiment.read_config(run, module)
        samples = {"decoded": arguments.decoded, "refined": arguments.decoded}
        config = experiment.with_settings(config, samples | {"guess": guess or config.task.guess})
        model, rows = experiment.load(run), {}
        for series, settings in tests(config).items():
            rows[series] = {str(value): judge(module, model, changed) for value, changed in settings.items()}
            for value, row in rows[series].items():
                print(name, series, value, {key: round(number, 4) for key, number in row.items()}, flush=True)
        found[name] = {"run": json.loads((run / "run.json").read_text())["starts"][-1], **rows}
    command = f"python benchmarks/prose_robustness.py {' '.join(arguments.runs)} --decoded {arguments.decoded}"
    timer.write(arguments.out, {"command": command, "machine": timer.machine(os.cpu_count() or 1), "runs": found})
    draw(found, arguments.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
