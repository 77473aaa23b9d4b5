"""How much cheaper is a learned differential equation to solve with each penalty, and what does it cost in accuracy?

    JAX_ENABLE_X64=1 python benchmarks/penalties.py experiments/digits_node.py --seeds 5 --out runs/penalties-digits

Two parts, both by `sciml train` into folders of their own under OUT, so that the same command goes on where it stopped:

1. For each penalty of the experiment and each of its coefficients in `PENALTIES`, runs with other seeds (1000, ...),
   tested on the validation data; their means count. Chosen is the coefficient with the fewest evaluations of the field
   among those whose error is at most that of `vanilla` plus `--slack`; if there is none, the one with the lowest error.
2. With it, one run for each seed, tested on the test data. Seeds take turns with penalties, so that a drift of the
   machine's speed hits all alike. Nothing else may run meanwhile.

Writes RESULTS/penalties_NAME.json and .png, with mean and standard error over the seeds. Rows of penalties that are not
among `--penalties` stay as they are in the file, with the commit and time of their own.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

import timer

from sciml import experiment

HERE = pathlib.Path(__file__).resolve().parent
TUNING_SEED = 1000


def run(file: pathlib.Path, folder: pathlib.Path, options: dict) -> dict:
    """The metrics of a run, which is trained unless it is finished."""
    if not (folder / "metrics.json").exists():
        flags = [text for name, value in options.items() for text in (f"--{name}", str(value))]
        command = [sys.executable, "-m", "sciml", "train", str(file), *flags, "--out", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | timer.allocator(), check=False)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr or done.stdout}")
    return json.loads((folder / "metrics.json").read_text())


def choose(file, module, metric, arguments) -> dict[str, dict]:
    """For each penalty the coefficient, and what it was chosen from."""
    where = arguments.out / "tuning"
    found: dict[str, dict] = {}
    for name in ("vanilla", *(name for name in arguments.penalties if name != "vanilla")):
        tried = {}
        for value in module.PENALTIES[name].coefficients:
            options = {"preset": arguments.preset, "split": "validation", "penalty": name, "coefficient": value}
            seeds = range(TUNING_SEED, TUNING_SEED + arguments.tuning_seeds)
            runs = [run(file, where / f"{name}-{value}-{seed}", {**options, "seed": seed})["test"] for seed in seeds]
            tried[value] = {key: statistics.mean(one[key] for one in runs) for key in runs[0]}
            print(
                f"validation {name} {value}: {metric} {tried[value][metric]:.4f}, nfe {tried[value]['nfe']:.0f}",
                flush=True,
            )
        limit = found["vanilla"]["limit"] if found else next(iter(tried.values()))[metric] + arguments.slack
        good = [value for value, one in tried.items() if one[metric] <= limit]
        best = min(good, key=lambda v: tried[v]["nfe"]) if good else min(tried, key=lambda v: tried[v][metric])
        found[name] = {"coefficient": best, "limit": limit, "validation": {str(v): one for v, one in tried.items()}}
    return found


def summary(runs: list[dict]) -> dict:
    """Mean and standard error of everything that a run reports."""
    columns = {name: [one["test"][name] for one in runs] for name in runs[0]["test"]}
    columns["train_seconds"] = [one["train_seconds"] for one in runs]
    error = lambda values: statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else None
    return {
        name: {"mean": statistics.mean(values), "standard_error": error(values)} for name, values in columns.items()
    }


def tested(name: str, value: float, seed: int, arguments) -> dict:
    """One run, tested on the test data."""
    options = {"preset": arguments.preset, "penalty": name, "seed": seed, "coefficient": value}
    one = run(arguments.file, arguments.out / f"{name}-{value}-seed{seed}", options)
    return {"seed": seed, "train_seconds": one["train_seconds"], "test": one["test"]}


def curve(name: str, module, arguments) -> dict[str, dict]:
    """Every candidate of a penalty on the test data: what accuracy costs, beside what was chosen."""
    seeds = range(arguments.seeds)
    values = module.PENALTIES[name].coefficients if name != "vanilla" else ()
    return {str(value): summary([tested(name, value, seed, arguments) for seed in seeds]) for value in values}


def draw(found: dict, quality: str, path: pathlib.Path) -> None:
    """Quality against evaluations of the field, one point with standard errors for each penalty."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(5.5, 3.8), layout="constrained")
    for name, one in found.items():
        x, y = one["summary"]["nfe"], one["summary"][quality]
        errors = {"xerr": x["standard_error"] or 0, "yerr": y["standard_error"] or 0}
        axes.errorbar(x["mean"], y["mean"], **errors, marker="o", capsize=2, linestyle="none", label=name)
    axes.set(xlabel="evaluations of the field on the test data", ylabel=quality.replace("_", " ") + " on the test data")
    axes.legend(fontsize="small", frameon=False)
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=pathlib.Path, help="experiment file with PENALTIES")
    parser.add_argument("--preset", default="full")
    parser.add_argument("--penalties", nargs="+", help="default: all of the file")
    parser.add_argument("--seeds", type=int, default=5, help="0 for the first part alone (default %(default)s)")
    parser.add_argument("--tuning-seeds", type=int, default=1, help="runs that choose a coefficient (default 1)")
    parser.add_argument("--slack", type=float, default=0.005, help="how much worse the error may be on validation data")
    parser.add_argument(
        "--curve", action="store_true", help="every candidate on the test data too; none is chosen by it"
    )
    parser.add_argument("--quality", default="accuracy", help="metric of the figure")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder of the runs")
    arguments = parser.parse_args()
    module = experiment.load_file(arguments.file)
    arguments.penalties = arguments.penalties or list(module.PENALTIES)
    metric = module.build(module.PRESETS[arguments.preset]).metric
    chosen = choose(arguments.file, module, metric, arguments)
    if not arguments.seeds:
        return
    runs: dict[str, list[dict]] = {name: [] for name in arguments.penalties}
    for seed in range(arguments.seeds):
        for name in arguments.penalties:
            one = tested(name, chosen[name]["coefficient"], seed, arguments)
            runs[name].append(one)
            print(f"seed {seed} {name}: {one['test']}, train {one['train_seconds']} s", flush=True)
    path = HERE / "results" / f"penalties_{arguments.file.stem}.json"
    found = json.loads(path.read_text())["penalties"] if path.exists() else {}
    for name, of in runs.items():
        first = arguments.out / f"{name}-{chosen[name]['coefficient']}-seed0" / "run.json"
        found[name] = {
            **chosen[name],
            "run": json.loads(first.read_text())["starts"][-1],
            "summary": summary(of),
            "runs": of,
        }
        if arguments.curve:
            found[name]["curve"] = curve(name, module, arguments)
    found = {name: found[name] for name in module.PENALTIES if name in found}
    timer.write(path, {"machine": timer.machine(os.cpu_count() or 1), "penalties": found})
    draw(found, arguments.quality, path.with_suffix(".png"))
    base = found.get("vanilla", {}).get("summary")
    for name, one in found.items():
        means = {key: value["mean"] for key, value in one["summary"].items()}
        ratio = f", nfe {means['nfe'] / base['nfe']['mean']:.2f} of vanilla" if base else ""
        print(f"{name} ({one['coefficient']}): {means}{ratio}")


if __name__ == "__main__":
    main()
