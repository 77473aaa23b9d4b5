"""Kills a training at random moments, runs it again, and compares what is left with a run that nobody disturbed.

    python tests/fuzz/kills.py --kills 50 --seed 0 --out tests/fuzz/kills.json

Each case begins with an empty folder: the data are generated, the step is compiled, the model trained, saved, tested
and drawn. The process is killed with SIGKILL, at a random time or a random moment after something appeared in the
folder; in every second case another process starts the same run at once. Then the same command runs until it is
finished. Weights, metrics, log (its times aside), data and figures must be those of the undisturbed run, byte for byte.
"""

import argparse
import collections
import hashlib
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

TIMES = ("seconds", "training_seconds", "sha256")
STAGES = {
    "data": lambda folder: any((folder / "data").glob(".*.part")),
    "start": lambda folder: (folder / "run" / "config.json").exists(),
    "saving": lambda folder: any((folder / "run" / "checkpoints").glob("*.orbax-checkpoint-tmp*")),
    "saved": lambda folder: any((folder / "run" / "checkpoints").glob("[0-9]/SHA256SUMS")),
    "figures": lambda folder: (folder / "run" / "figures").exists(),
}
"""Stage -> whether the run has reached it."""


def start(folder):
    """The training in a folder, as a process."""
    command = "train darcy --preset smoke --model fno --data data --out run"
    with (folder / "output.txt").open("a") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "sciml", *command.split()], cwd=folder, stdout=output, stderr=output
        )


def content(folder):
    """What a finished run has left, without times: a digest for each part."""
    run = folder / "run"
    metrics = json.loads((run / "metrics.json").read_text())
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    found = {
        "metrics": [metrics[name] for name in ("model", "parameters", "steps", "checkpoint", "test")],
        "log": [{name: value for name, value in line.items() if name not in TIMES} for line in log],
        "weights": weights(run),
        "figures": {path.name: digest(path.read_bytes()) for path in sorted((run / "figures").iterdir())},
        "model": digest((run / "model.json").read_bytes()),
        "config": digest((run / "config.json").read_bytes()),
        "data": {path.name: digest(path.read_bytes()) for path in sorted((folder / "data").iterdir())},
    }
    return json.loads(json.dumps(found))


def digest(content):
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def weights(run):
    """A digest of all arrays of the model that `load` returns."""
    code = f"""
import hashlib, jax, numpy as np
from sciml import experiment
found = hashlib.sha256()
for leaf in jax.tree.leaves(experiment.load({str(run)!r})):
    if hasattr(leaf, "dtype"):
        found.update(np.asarray(leaf).tobytes())
print(found.hexdigest())
"""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def kill_at(process, folder, rng, duration):
    """Kills a process; returns when: a time, or the stage that it had reached."""
    begun, stage = time.monotonic(), rng.choice([None, *STAGES])
    moment = rng.uniform(0.0, duration) if stage is None else rng.uniform(0.0, 0.3)
    while process.poll() is None and stage is not None and not STAGES[stage](folder):
        time.sleep(0.001)
    while process.poll() is None and stage is None and time.monotonic() - begun < moment:
        time.sleep(0.01)
    if stage is not None:
        time.sleep(moment)
    if process.poll() is None:
        os.kill(process.pid, signal.SIGKILL)
    process.wait()
    return stage or "any time"


def finish(folder):
    """Runs the same command until it is finished; returns the number of runs."""
    for attempt in range(1, 4):
        process = start(folder)
        if process.wait(timeout=600) == 0:
            return attempt
    return None


def one_case(number, rng, expected, duration, parent):
    """One kill; returns what it shows."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix=f"kill{number}-", dir=parent))
    first = start(folder)
    second = start(folder) if number % 2 else None
    stage = kill_at(first, folder, rng, duration)
    if second is not None:
        second.wait(timeout=600)
    runs = finish(folder)
    output = (folder / "output.txt").read_text()
    shown = {"case": number, "stage": stage, "second process": second is not None, "runs": runs}
    try:
        found = content(folder)
        different = [name for name in expected if found[name] != expected[name]]
    except (OSError, ValueError, KeyError, subprocess.CalledProcessError) as error:
        different = [f"{type(error).__name__}: {error}"]
    if "Traceback" in output:
        different.append("a traceback was printed")
    if different or runs is None:
        return {**shown, "different": different, "output": output[-2000:]}
    shutil.rmtree(folder)
    return shown


def main():
    """Runs all cases and writes what they show."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("kills.json"))
    options = parser.parse_args()
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as parent:
        undisturbed = pathlib.Path(parent) / "undisturbed"
        undisturbed.mkdir()
        assert finish(undisturbed) == 1, (undisturbed / "output.txt").read_text()
        shutil.copytree(undisturbed, pathlib.Path(parent) / "first")
        shutil.rmtree(undisturbed)
        undisturbed.mkdir()
        begun = time.monotonic()
        assert finish(undisturbed) == 1  # once more: the first one has also filled the compilation cache
        duration, expected = time.monotonic() - begun, content(undisturbed)
        assert content(pathlib.Path(parent) / "first") == expected, "two undisturbed runs differ"
        cases = []
        for number in range(options.kills):
            cases.append(one_case(number, rng, expected, duration, parent))
            print(cases[-1], flush=True)
            wrong = [case for case in cases if "different" in case]
            stages = dict(collections.Counter(case["stage"] for case in cases))
            result = {"seed": options.seed, "kills": len(cases), "different": len(wrong), "stages": stages}
            result |= {"seconds of a run": round(duration, 1), "failures": wrong}
            options.out.write_text(json.dumps(result, indent=2) + "\n")
    return len(wrong) > 0


if __name__ == "__main__":
    sys.exit(main())
