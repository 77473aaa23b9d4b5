"""Is our MgNO, and our FNO, more accurate on the small Darcy set than neuraloperator's gallery example, in less time?

    python benchmarks/darcy_small.py [--peer-python PATH] [--data FOLDER]

Runs, for each seed in turn, the gallery example's protocol in neuraloperator 2.0 and `sciml train
experiments/darcy_small.py` with mgno and fno, each alone on the machine and with the same allocator settings, and
writes the errors on the 50 test pairs at 16x16 and at 32x32 (where no model was trained) to results/darcy_small.json.
Seconds are those of training; ours include tracing, compilation (for the first seed, later ones find it in the cache)
and checkpoints.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

import timer

HERE = pathlib.Path(__file__).resolve().parent


def lines_of(command: list[str], **variables: str) -> list[str]:
    env = os.environ | timer.allocator() | variables
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    return done.stdout.splitlines()


def ours(model: str, seed: int, data: str, scratch: pathlib.Path) -> dict:
    """Trains and evaluates one model by the command line; both resolutions, and what was done at 32."""
    sciml, folder = [sys.executable, "-m", "sciml"], scratch / f"{model}-{seed}"
    file = str(HERE.parent / "experiments" / "darcy_small.py")
    compiled = {"JAX_COMPILATION_CACHE_DIR": str(scratch / "compiled")}  # empty for the first seed: it compiles
    train = [*sciml, "train", file, "--model", model, "--seed", str(seed), "--data", data, "--out", str(folder)]
    lines_of(train, **compiled)
    lines_of([*sciml, "evaluate", str(folder), "--resolution", "16", "32"], **compiled)
    found = json.loads((folder / "metrics.json").read_text())
    return {
        "parameters": found["parameters"],
        "seconds": found["seconds"],
        "relative_l2": {size: one["relative_l2"] for size, one in found["resolutions"].items()},
        "relative_h1": {size: one["relative_h1"] for size, one in found["resolutions"].items()},
        "note": found["resolutions"]["32"]["note"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter with neuraloperator 2.0")
    parser.add_argument("--data", default=os.environ.get("SCIML_DATA", str(HERE.parents[1] / "shared" / "data")))
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    peer = [options.peer_python, "-W", "ignore", str(HERE / "peers" / "darcy_small_neuraloperator.py"), options.data]
    runs: dict[str, list[dict]] = {"neuraloperator": [], "mgno": [], "fno": []}
    with tempfile.TemporaryDirectory() as scratch:
        for seed in range(options.seeds):
            runs["neuraloperator"].append(json.loads(lines_of([*peer, "--seed", str(seed)])[-1]))
            for model in ("mgno", "fno"):
                runs[model].append(ours(model, seed, options.data, pathlib.Path(scratch)))
            print(
                {name: (one[-1]["relative_l2"], round(one[-1]["seconds"], 1)) for name, one in runs.items()}, flush=True
            )
    summary = {
        name: {
            "parameters": of[0]["parameters"],
            "seconds": statistics.mean(one["seconds"] for one in of),
            **{
                f"relative_l2_at_{size}": {
                    "mean": statistics.mean(one["relative_l2"][size] for one in of),
                    "deviation": statistics.stdev(one["relative_l2"][size] for one in of) if len(of) > 1 else None,
                }
                for size in ("16", "32")
            },
        }
        for name, of in runs.items()
    }
    result = {"machine": timer.machine(os.cpu_count() or 1), "summary": summary, "runs": runs}
    timer.write(HERE / "results" / "darcy_small.json", result)


if __name__ == "__main__":
    main()
