"""Which peak learning rate of AdamW suits the convolutional networks that published tables compare with?

    python benchmarks/model_rates.py [--data FOLDER]

Trains each model of `RATES` on 800 of the 1000 pairs of the small Darcy set (16x16, published with neuraloperator) for
15 epochs of batches of 64, as `experiments/darcy_small.py --preset choose` does, and writes the errors on the 200 pairs
that were held out to results/model_rates.json, one seed for each rate. Test pairs are not read. About 10 minutes on one
core.
"""

import argparse
import json
import os
import pathlib
import statistics
import tempfile

import timer

from sciml import data, experiment, tasks, zoo

HERE = pathlib.Path(__file__).resolve().parent
DATA = os.environ.get("SCIML_DATA", str(HERE.parents[1] / "shared" / "data"))
RATES = {
    "convnet": (5e-4, 1e-3, 2e-3, 4e-3),
    "modern_resnet": (5e-4, 1e-3, 2e-3, 4e-3),
}
SEEDS = 1


def chosen_on(folder: str, held_out: int = 200) -> tasks.Parts:
    """Pairs for training, and pairs held out of them as the test set."""
    known = data.read_npz(pathlib.Path(folder) / "darcy_train_16.npz")
    train, test = data.split(known, (None, held_out), seed=0)
    return tasks.Parts(train, None, test)


def trained(architecture: zoo.Architecture, parts: tasks.Parts, lr: float, seed: int, epochs: float = 15) -> dict:
    """Errors on the test pairs after training, the number of parameters, seconds."""
    run = experiment.Training(epochs=epochs, batch=64, lr=lr, seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        try:
            found = experiment.run(tasks.fields(architecture, parts, run, figures=lambda models, folder: None), folder)
        except FloatingPointError:
            return {"lr": lr, "seed": seed, "diverged": True}
    return {
        "lr": lr,
        "seed": seed,
        **{name: found["test"][name] for name in ("relative_l2", "relative_h1")},
        "parameters": found["parameters"],
        "seconds": found["seconds"],
    }


def best(runs: list[dict]) -> float:
    """The rate with the least mean error; a rate with a diverged run is out."""
    means = {
        lr: statistics.mean(one.get("relative_l2", float("inf")) for one in runs if one["lr"] == lr)
        for lr in {one["lr"] for one in runs}
    }
    return min(means, key=means.get)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=DATA)
    options = parser.parse_args()
    parts, result = chosen_on(options.data), {"machine": timer.machine(1), "models": {}}
    for name, rates in RATES.items():
        runs = [trained(zoo.MODELS[name], parts, lr, seed) for lr in rates for seed in range(SEEDS)]
        result["models"][name] = {"best": best(runs), "runs": runs}
        print(name, json.dumps(result["models"][name]), flush=True)
        timer.write(HERE / "results" / "model_rates.json", result)


if __name__ == "__main__":
    main()
