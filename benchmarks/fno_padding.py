"""Does padding the domain help FNO where it is not periodic?

    python benchmarks/fno_padding.py [--data FOLDER]

Darcy flow of the small published set (16x16, between walls), FNO of `experiments/darcy_small.py`: 8x8 modes, width 32,
4 layers, coordinates, 15 epochs of batches of 64. For each padding the learning rate is chosen on 200 training pairs
that are held out, from the same rates with one seed; then all 1000 pairs and 3 seeds give the errors on the 50 test
pairs. All variants have the same number of parameters. Writes results/fno_padding.json; a few minutes on one core.
"""

import argparse
import pathlib
import statistics

import model_rates
import timer

from sciml import data, tasks, zoo
from sciml.grid import Grid
from sciml.operators import FNO, Padded

FRACTIONS, RATES, SEEDS = (0.0, 0.125, 0.25), (1e-2, 2e-2, 4e-2), 3


def architecture(fraction: float) -> zoo.Architecture:
    def make(in_channels: int, out_channels: int, *, grid: Grid, key) -> FNO | Padded:
        network = FNO(in_channels, out_channels, modes=(8, 8), width=32, depth=4, grid=grid, key=key)
        return Padded(network, grid, fraction) if fraction else network

    return zoo.Architecture(make, 2e-2, any_resolution=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=model_rates.DATA)
    folder = pathlib.Path(parser.parse_args().data)
    held_out = model_rates.chosen_on(str(folder))
    train, test = (data.read_npz(folder / f"darcy_{name}_16.npz") for name in ("train", "test"))
    whole = tasks.Parts(train, None, test)
    result = {"machine": timer.machine(1), "fractions": {}}
    for fraction in FRACTIONS:
        of = architecture(fraction)
        tuning = [model_rates.trained(of, held_out, lr, seed=0) for lr in RATES]
        lr = model_rates.best(tuning)
        runs = [model_rates.trained(of, whole, lr, seed) for seed in range(SEEDS)]
        errors = {name: [one[name] for one in runs] for name in ("relative_l2", "relative_h1")}
        result["fractions"][str(fraction)] = {
            "lr": lr,
            **{
                name: {"mean": statistics.mean(of_seeds), "deviation": statistics.stdev(of_seeds)}
                for name, of_seeds in errors.items()
            },
            "tuning": tuning,
            "runs": runs,
        }
        print(fraction, lr, errors["relative_l2"], flush=True)
        timer.write(model_rates.HERE / "results" / "fno_padding.json", result)


if __name__ == "__main__":
    main()
