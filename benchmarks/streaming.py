"""What does streaming cost, and does a run on a file larger than the memory go on exactly after a kill?

    python benchmarks/streaming.py --peer-python PATH          everything: about half an hour on a quiet machine
    python benchmarks/streaming.py --case layouts --quick      one case, small

| case | question |
|---|---|
| `step` | time of training steps on streamed windows over that on windows in memory; the file is in the page cache |
| `loader` | windows a second beside a PyTorch DataLoader on the same file, both reading alone |
| `layouts` | seconds to read whole trajectories and single windows, by the form in which HDF5 stores them |
| `kill` | a file larger than the memory: trained, killed with -9, gone on, compared with an uninterrupted run |

Frames are travelling waves on 128 x 128 points. The limit of `kill` is RLIMIT_DATA of the whole process from its start:
the kernel refuses any private writable memory beyond it, used or not, so that stacks of threads are limited to 2 MiB;
pages of files in the page cache do not count. That the limit holds is shown by a process that reads the file as a whole
under it. Files are written to --folder and removed. Writes results/streaming.json.
"""

import argparse
import hashlib
import os
import pathlib
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import timer
from timer import Contender

HERE = pathlib.Path(__file__).resolve().parent
LIMIT = 1 << 30  # bytes
SIZE, FRAMES, BATCH, GROUP = 128, 21, 16, 32 << 20
OURS = timer.xla_flags()


def waves(samples: int, size: int = SIZE, frames: int = FRAMES):
    """Trajectories of 6 waves each, computed when they are read."""
    from sciml import data
    from sciml.grid import Grid

    class Waves(data.AbstractReader):
        def __init__(self):
            times = np.linspace(0.0, 1.0, frames)
            channels = (data.Channel("u"),)
            self.layout = data.Layout("waves", "computed", samples, frames, channels, Grid((size, size)), times=times)
            self.block = (1, frames)

        def frames(self, samples, times):
            return np.stack([self._sample(i)[times] for i in range(samples.start, samples.stop)])

        def _sample(self, i):
            rng, x = np.random.default_rng(i), np.arange(size) / size
            k, speed = rng.integers(1, 6, (2, 6)), rng.uniform(-3, 3, 6)
            phase = 2 * np.pi * (k[0, :, None] * x - speed[:, None] * self.layout.times[:, None, None])
            along, across = np.exp(1j * phase), np.exp(2j * np.pi * (k[1, :, None] * x + rng.uniform(size=(6, 1))))
            return np.einsum("tmx,my->txy", along, across).real[:, None].astype(np.float32)

        def fixed(self, samples):
            return np.empty((samples.stop - samples.start, 0, size, size), np.float32)

        def parameters(self, samples):
            return np.empty((samples.stop - samples.start, 0), np.float32)

    return data.Trajectories(Waves())


def next_frame(model, batch, keys):
    """The relative L2 error of the next frame."""
    import jax

    from sciml import metrics

    frames = batch["frames"]
    return jax.numpy.mean(jax.vmap(metrics.relative_l2)(jax.vmap(model)(frames[:, 0]), frames[:, 1])), {}


def steps(settings: dict) -> dict:
    """Factory of the case `step`. Settings: file, batch, width, modes, streamed, steps in each timed call."""
    import jax
    import optax

    from sciml import data, operators, parallel, train

    windows = data.TrajectoryWindows(data.open_data(settings["file"]))
    ordered = data.Streamed(windows, group=settings["group"])
    batch, count = settings["batch"], settings["steps"]
    placement = parallel.Layout().on(batch)
    modes = (settings["modes"],) * 2
    model = operators.FNO(1, 1, modes=modes, width=settings["width"], grid=windows.grid, key=jax.random.key(0))
    optimiser = optax.adam(1e-3)
    which = lambda k: ordered.batch_rows(batch, 0, k)  # both see the same batches
    resident = None if settings["streamed"] else train.resident(windows, which, placement=placement)
    fetch = train.streamed(ordered, which).fetch if resident is None else resident.fetch
    step = train.make_step(next_frame, optimiser, fetch=fetch, placement=placement)
    state = train.place(train.init(model, optimiser), placement)

    def run() -> None:
        nonlocal state
        # Nothing is read ahead while the other contender computes: each call begins with an empty queue
        batches = train.streamed(ordered, which) if resident is None else resident
        state = train.fit(state, step, batches, steps=int(state.step) + count)
        jax.block_until_ready(state.step)

    return {"steps": run, "info": {"parameters": train.parameters(model), "devices": placement.mesh.size}}


def epoch(settings: dict) -> dict:
    """Factory of the case `loader`. Settings: file, batch, group."""
    from sciml import data, train

    windows = data.TrajectoryWindows(data.open_data(settings["file"]))
    streamed = data.Streamed(windows, group=settings["group"])
    batches = train.streamed(streamed, lambda k: streamed.batch_rows(settings["batch"], 0, k))
    count, done = len(windows) // settings["batch"], 0

    def read() -> None:
        nonlocal done
        for k in range(done, done + count):
            assert batches.item(k)["frames"].shape[1] == 2
        done += count

    return {"epoch": read, "info": {"windows": count * settings["batch"]}}


def step_case(file: str, quick: bool) -> dict:
    """The ratio of streamed to resident training."""
    settings = {"file": file, "batch": BATCH, "width": 16 if quick else 32, "modes": 24, "group": GROUP}
    settings["steps"] = 3 if quick else 12
    env = {**OURS, "JAX_NUM_CPU_DEVICES": "2"}
    contenders = [
        Contender(name, "streaming:steps", env=env, settings={"streamed": streamed})
        for name, streamed in (("in memory", False), ("streamed", True))
    ]
    rows = timer.compare(contenders, settings, 3 if quick else 15, os.cpu_count() or 1, 1 if quick else 2)
    return {"settings": {**settings, "file": "waves"}, "contenders": rows}


def loader_case(file: str, quick: bool, peer: str) -> dict:
    """Windows a second of both loaders."""
    settings = {"file": file, "batch": BATCH, "group": GROUP, "seed": 0}
    contenders = [
        Contender(f"DataLoader, {n} workers", "peers.loader_torch:epoch", peer, settings={"workers": n})
        for n in (2, 1, 0)
    ]
    contenders.append(Contender("streamed", "streaming:epoch", env=OURS))
    rows = timer.compare(contenders, settings, 3 if quick else 15, os.cpu_count() or 1)
    measured = {name: row for name, row in rows.items() if "epoch" in row}
    for row in measured.values():
        row["windows_per_second"] = row["windows"] / row["epoch"]["seconds"]
    found = {"settings": {**settings, "file": "waves"}, "contenders": rows}
    ours, peers = measured.pop("streamed"), measured
    if peers:
        best = max(peers, key=lambda name: peers[name]["windows_per_second"])
        found["best_peer"] = best
        found["ratio_to_best_peer"] = ours["windows_per_second"] / peers[best]["windows_per_second"]
    return found


FORMS = {
    "contiguous": {},
    "a frame": {"chunks": 1},
    "a trajectory": {"chunks": FRAMES},
    "a frame, lzf": {"chunks": 1, "compression": "lzf"},
    "a trajectory, lzf": {"chunks": FRAMES, "compression": "lzf"},
    "a trajectory, gzip 1": {"chunks": FRAMES, "compression": "gzip", "compression_opts": 1},
}


def layouts_case(folder: pathlib.Path, quick: bool) -> dict:
    """Medians over interleaved rounds of reads in random places, for each form of storage."""
    import h5py

    samples, rounds = (16, 3) if quick else (64, 20)
    frames = waves(samples)[:]["frames"]
    found: dict[str, dict] = {}
    for name, options in FORMS.items():
        chosen = dict(options)
        if "chunks" in chosen:
            chosen["chunks"] = (1, chosen["chunks"], *frames.shape[2:])
        start = time.perf_counter()
        with h5py.File(folder / "form.h5", "w") as file:
            file.create_dataset("frames", data=frames, **chosen)
        found[name] = {"write_seconds": time.perf_counter() - start}
        (folder / "form.h5").rename(folder / f"{name}.h5")
        found[name]["bytes_over_contiguous"] = (folder / f"{name}.h5").stat().st_size / frames.nbytes
    rng = np.random.default_rng(0)
    seconds: dict[tuple[str, str], list[float]] = {}
    for _ in range(rounds):
        samples_first = rng.integers(0, [samples, FRAMES - 1], (20, 2))
        for name in rng.permutation(list(FORMS)):
            with h5py.File(folder / f"{name}.h5") as file:
                data = file["frames"]
                for kind, count in (("trajectory", FRAMES), ("window", 2)):
                    start = time.perf_counter()
                    for i, first in samples_first:
                        first = 0 if kind == "trajectory" else first
                        assert data[i, first : first + count].shape[0] == count
                    seconds.setdefault((name, kind), []).append((time.perf_counter() - start) / len(samples_first))
    for (name, kind), values in seconds.items():
        found[name][f"{kind}_milliseconds"] = 1e3 * statistics.median(values)
    for name in FORMS:
        (folder / f"{name}.h5").unlink()
    return {"samples": samples, "rounds": rounds, "forms": found}


def train_child(file: str, out: str, count: int) -> None:
    """Trains on a file: the process that is killed."""
    import jax
    import optax

    from sciml import data, experiment, metrics, operators

    everything = data.open_data(file)
    rest, held = data.split(everything, (None, 8), seed=None)
    windows = data.Streamed(data.TrajectoryWindows(rest), group=GROUP)

    @jax.jit
    def errors(model, frames):
        return jax.vmap(metrics.relative_l2)(jax.vmap(model)(frames[:, 0]), frames[:, 1])

    def evaluate(model, trajectories):
        found = [
            np.asarray(errors(model, batch["frames"]))[mask] for batch, mask in data.in_pieces(trajectories, limit=1)
        ]
        return {"relative_l2": float(np.concatenate(found).mean())}

    made = experiment.Experiment(
        model=operators.FNO(1, 1, modes=(8, 8), width=8, depth=2, grid=windows.grid, key=jax.random.key(0)),
        loss=next_frame,
        optimiser=optax.adam(1e-3),
        train=windows,
        steps=count,
        batch=BATCH // 2,
        evaluate=evaluate,
        test=held,
        validation=held,
        every=count // 10,
        save_seconds=0.0,
    )
    experiment.run(made, out)


def whole_child(file: str) -> None:
    """Reads the whole file, which must fail under the limit."""
    from sciml import data

    data.open_data(file)[:]


def limited() -> None:
    """Sets the limits of a process that begins."""
    resource.setrlimit(resource.RLIMIT_DATA, (LIMIT, LIMIT))
    resource.setrlimit(resource.RLIMIT_STACK, (2 << 20, 2 << 20))


def peak_of(process: subprocess.Popen) -> dict[str, float]:
    """MiB of the largest resident set, and of private writable memory now, while a process runs."""
    try:
        text = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    except OSError:
        return {}
    known = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    return {name: int(known[name].split()[0]) / 1024 for name in ("VmHWM", "VmData", "RssAnon") if name in known}


def watched(command: list[str], until=lambda: False) -> tuple[int, dict[str, float], str]:
    """Runs a process under the limits to its end, or kills it with signal 9 when `until` says so."""
    # One device, and glibc's own settings: those of the command line keep freed memory
    env = {**os.environ, **OURS, "JAX_NUM_CPU_DEVICES": "1"}
    most: dict[str, float] = {}
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=env, preexec_fn=limited)
        while process.poll() is None:
            for name, value in peak_of(process).items():
                most[name] = max(most.get(name, 0.0), value)
            if until():
                process.send_signal(signal.SIGKILL)
            time.sleep(0.02)
        output.seek(0)
        return process.returncode, most, output.read()[-2000:]


def saved(checkpoints: pathlib.Path) -> list[int]:
    """Numbers of steps of the checkpoints that are complete."""
    return [int(one.name) for one in checkpoints.iterdir() if one.name.isdecimal()] if checkpoints.is_dir() else []


def digest(run: pathlib.Path) -> str:
    """SHA-256 of the parameters of the last checkpoint."""
    import equinox as eqx
    import jax

    from sciml import experiment

    model = experiment.load(run, step=max(saved(run / "checkpoints")))
    leaves = jax.tree.leaves(eqx.filter(model, eqx.is_array))
    return hashlib.sha256(b"".join(np.asarray(leaf).tobytes() for leaf in leaves)).hexdigest()


def kill_case(folder: pathlib.Path, quick: bool) -> dict:
    """A file of more than the limit is trained on, killed twice, and gone on with."""
    from sciml import data

    count = 40 if quick else 400
    samples = int(1.2 * LIMIT / (4 * SIZE * SIZE * FRAMES))
    file = folder / "large.h5"
    start = time.perf_counter()
    data.convert(waves(samples), file)
    found: dict = {"bytes": file.stat().st_size, "limit": LIMIT, "steps": count}
    found["write_seconds"] = time.perf_counter() - start
    me = [sys.executable, str(HERE / "streaming.py")]
    code, _, said = watched([*me, "--whole", str(file)])
    found["read as a whole"] = {"exit": code, "last_line": said.strip().splitlines()[-1] if said.strip() else ""}
    assert code != 0, "the limit does not hold: the whole file was read"
    command = [*me, "--train", str(file), "--steps", str(count), "--out"]
    code, most, said = watched([*command, str(folder / "whole")])
    assert code == 0, said
    found["uninterrupted"] = {"peak_mib": most}
    runs = []
    for share in (0.25, 0.6):
        goal, place = share * count, folder / "killed" / "checkpoints"
        done = lambda place=place, goal=goal: any(step > goal for step in saved(place))
        code, most, said = watched([*command, str(folder / "killed")], done)
        assert code == -signal.SIGKILL, said
        runs.append({"killed_after_steps": goal, "exit": code, "peak_mib": most})
    code, most, said = watched([*command, str(folder / "killed")])
    assert code == 0, said
    found["killed"] = [*runs, {"exit": code, "peak_mib": most}]
    found["sha256"] = {name: digest(folder / name) for name in ("whole", "killed")}
    found["equal"] = found["sha256"]["whole"] == found["sha256"]["killed"]
    return found


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ["step", "loader", "layouts", "kill"]
    parser.add_argument("--case", nargs="+", choices=names, default=names)
    parser.add_argument("--quick", action="store_true", help="few rounds and steps, to try it")
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter that has PyTorch (default: this)")
    parser.add_argument("--folder", type=pathlib.Path, help="for the files, 2.5 GB (default: a temporary one)")
    parser.add_argument("--results", type=pathlib.Path, default=HERE / "results" / "streaming.json")
    for name, kind in (("train", str), ("whole", str), ("out", str), ("steps", int)):
        parser.add_argument(f"--{name}", type=kind, help=argparse.SUPPRESS)  # of the processes that it starts
    options = parser.parse_args()
    if options.train:
        train_child(options.train, options.out, options.steps)
    elif options.whole:
        whole_child(options.whole)
    else:
        measure(options)


def measure(options: argparse.Namespace) -> None:
    """All cases that were asked for, each written when it is done."""
    from sciml import data

    result: dict = {"machine": timer.machine(os.cpu_count() or 1), "quick": options.quick}
    folder = pathlib.Path(tempfile.mkdtemp(dir=options.folder))
    try:
        if {"step", "loader"} & set(options.case):
            file = str(folder / "waves.h5")
            data.convert(waves(32 if options.quick else 160), file)
        cases = {
            "step": lambda: step_case(file, options.quick),
            "loader": lambda: loader_case(file, options.quick, options.peer_python),
            "layouts": lambda: layouts_case(folder, options.quick),
            "kill": lambda: kill_case(folder, options.quick),
        }
        for name in options.case:
            result[name] = cases[name]()
            print(name, result[name], flush=True)
            timer.write(options.results, result)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
