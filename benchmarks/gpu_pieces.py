"""The pieces of gpu.py, most valuable first: comparisons of contenders, rates of the device, slices of trainings.

A piece has a name, a row, and `run(seconds, known)`: it works for at most so many seconds and returns what to store,
`state` among it: done, unfinished (it goes on from `known`, what was stored of it before) or failed.
"""

import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import prose_decoding
import timer
from repeated import per_call
from timer import Contender

ROOT = pathlib.Path(__file__).resolve().parent.parent
FNO = {"seed": 0, "modes": (32, 32), "width": 64}
PROSE = {**prose_decoding.COMMON, "width": 512, "hidden": 2048, "layers": dict.fromkeys(prose_decoding.STACKS, 2)}
ODE = {"seed": 0, "problem": "network", "tolerance": 1e-5, "end": 1.0, "saved": 2}
CASES = {
    "fno-64": {**FNO, "size": 64, "batch": 64},
    "mgno-64": {"seed": 0, "size": 64, "batch": 64},
    "prose": {**PROSE, "batch": 64},
    "ode-1024": {**ODE, "size": 32, "hidden": 64, "batch": 1024},
    "fno-256": {**FNO, "size": 256, "batch": 16},
    "mgno-256": {"seed": 0, "size": 256, "batch": 16},
    "ode-4096": {**ODE, "size": 256, "hidden": 1024, "batch": 4096},
    "prose-published": {**prose_decoding.PUBLISHED, "batch": 64},
}
TINY = {
    "fno": {**FNO, "modes": (8, 6), "width": 8, "depth": 2, "size": 16, "batch": 2},
    "mgno": {"seed": 0, "size": 16, "batch": 2, "width": 4, "depth": 2, "levels": 2},
    "prose": {**prose_decoding.TINY, "batch": 2},
    "ode": {**ODE, "size": 4, "hidden": 8, "batch": 4},
}
OPERATORS, FIRST = ("fno-64", "mgno-64", "fno-256", "mgno-256"), ("fno-64", "mgno-64", "prose")
STEPS = (  # adaptive steps with a tolerance of 1e-5 need float32
    *((case, "tf32") for case in FIRST),
    ("ode-1024", "float32"),
    *((case, "tf32") for case in ("fno-256", "mgno-256")),
    ("ode-4096", "float32"),
)
LATER = (
    *((case, "bf16") for case in (*FIRST, "fno-256", "mgno-256", "prose-published")),
    *((case, "float32") for case in (*FIRST, "fno-256", "mgno-256", "prose-published")),
    ("prose-published", "tf32"),
)
PAPER = ("paper-rough", "paper-smooth", "paper-rough20", "paper-multiscale")
JAX_PRECISION = {"float32": "float32", "tf32": "tensorfloat32", "bf16": "tensorfloat32"}
NO_CACHE = {"TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1"}  # compilation is measured
LATE = "after its time"  # of timer.Worker's message
QUICK = {  # programs of the smoke, which run once, need not be fast
    "JAX_PLATFORMS": "cpu",
    "SCIML_CPU_DEVICES": "1",
    "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".jax_cache"),  # that of the tests
    "XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
    "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1",
}


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Contenders of one case in turns; the first is the reference of the ratios."""

    name: str
    row: str
    settings: dict
    contenders: tuple[Contender, ...]
    rounds: int
    whole: float
    """Seconds a piece may take at most; contenders without an answer after fewer seconds are tried again."""

    def run(self, seconds: float, known: dict) -> dict:
        """Seconds and ratios of one call."""
        cores = os.cpu_count() or 1
        contenders = list(self.contenders)
        rows = per_call(timer.compare(contenders, self.settings, self.rounds, cores, limit=seconds))
        late = any(LATE in row.get("not_measured", "") for row in rows.values())
        state = "unfinished" if late and seconds < self.whole else "done"
        return {"state": state, "settings": self.settings, "contenders": rows}


@dataclasses.dataclass(frozen=True)
class Training:
    """Slices of a run of the command line, which is interrupted as by Ctrl-C and goes on in its folder."""

    name: str
    row: str
    options: tuple[str, ...]
    folder: pathlib.Path
    env: dict
    grace: float = 40.0
    """Seconds before the end at which it is interrupted; it then finishes its checkpoint."""

    def run(self, seconds: float, known: dict) -> dict:
        """What the run has reached. Two slices in a row without a new checkpoint are a failure."""
        before, start = self.checkpoint(), time.monotonic()
        code, last = self.slice(seconds)
        found = self.reached()
        slices = [*known.get("slices", []), {"seconds": time.monotonic() - start, "from": before, "to": found["step"]}]
        result = {"options": self.options, **found, "slices": slices}
        stuck = all(one["from"] == one["to"] for one in slices[-2:]) and len(slices) > 1
        if "test" in found:
            return {"state": "done", **result}
        if code not in (0, None):
            return {"state": "failed", **result, "error": last}
        if stuck:
            return {"state": "failed", **result, "error": f"no checkpoint in two slices, the last of {seconds:.0f} s"}
        return {"state": "unfinished", **result}

    def slice(self, seconds: float) -> tuple[int | None, str]:
        """Exit status, None after an interrupt, and the last line of the output."""
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        log = self.folder.with_suffix(".log")
        command = [sys.executable, "-m", "sciml", "train", *self.options, "--out", str(self.folder)]
        with log.open("w") as file:
            process = subprocess.Popen(
                command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, env={**os.environ, **self.env}
            )
            try:
                code = _waited(process, max(1.0, seconds - self.grace), self.grace)
            finally:
                if process.poll() is None:
                    process.kill()
                    process.wait()
        lines = log.read_text(errors="replace").strip().splitlines()
        return code, lines[-1] if lines else ""

    def checkpoint(self) -> int:
        """The step of the last checkpoint."""
        folders = self.folder.glob("checkpoints/[0-9]*")
        return max((int(one.name) for one in folders if one.name.isdigit()), default=0)

    def reached(self) -> dict:
        """Step of the last checkpoint, last and best validation errors, and the test errors of a finished run."""
        found: dict = {"step": self.checkpoint()}
        log, metrics = self.folder / "log.jsonl", self.folder / "metrics.json"
        if log.exists():
            records = [json.loads(line) for line in log.read_text().splitlines() if line.endswith("}")]
            found["logged_step"] = max((one["step"] for one in records), default=0)
            validations = [one["validation"] for one in records if "validation" in one]
            if validations:
                found["validation"] = validations[-1]
                names = validations[-1]
                known = {name: [one[name] for one in validations if one.get(name) is not None] for name in names}
                found["best"] = {name: min(values) for name, values in known.items() if values}
        if metrics.exists():
            content = json.loads(metrics.read_text())
            found |= {name: content[name] for name in ("test", "steps", "train_seconds", "seconds") if name in content}
        return found


def _waited(process: subprocess.Popen, seconds: float, grace: float) -> int | None:
    """The exit status, or None of a process that was interrupted after its seconds."""
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
    try:
        process.wait(0.8 * grace)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    return None


Piece = Comparison | Training


def pieces(peer: str, folder: pathlib.Path, seconds: float, smoke: bool = False) -> list[Piece]:
    """All pieces, most valuable first.

    Args:
        peer: Interpreter that has PyTorch.
        folder: Of the runs that are trained.
        seconds: Longest time of a piece.
        smoke: Whether all is tiny and on the CPU.
    """
    if smoke:
        return _tiny(peer, folder, seconds)
    device, turn, rounds = "cuda", 0.2, 20
    steps = [_steps(f"{case}-{one}", CASES[case], one, peer, device, turn, rounds, seconds) for case, one in STEPS]
    later = [_steps(f"{case}-{one}", CASES[case], one, peer, device, turn, rounds, seconds) for case, one in LATER]
    graphs = [_graphs(case, CASES[case], peer, device, turn, rounds, seconds) for case in FIRST]
    sizes = {"size": 8192, "length": 2**29, "turn": turn, "device": device}
    papers = [Training(name, "paper", ("experiments/darcy.py", "--preset", name), folder / name, {}) for name in PAPER]
    return [*steps, _rates(sizes, peer, rounds, seconds), *later, *graphs, *papers]


def _tiny(peer: str, folder: pathlib.Path, seconds: float) -> list[Piece]:
    precisions = {"fno": "tf32", "mgno": "bf16", "prose": "bf16", "ode": "float32"}
    steps = [
        _steps(f"{case}-tiny-{one}", TINY[case], one, peer, "cpu", 0.0, 1, seconds) for case, one in precisions.items()
    ]
    rates = _rates({"size": 64, "length": 2**12, "turn": 0.0, "device": "cpu"}, peer, 1, seconds)
    graphs = _graphs("fno-tiny", TINY["fno"], peer, "cpu", 0.0, 1, seconds)
    theirs = tuple(one for one in graphs.contenders if one.name != "sciml")  # ours is in fno-tiny-tf32
    options = ("experiments/darcy.py", "--preset", "smoke", "--model", "fno", "--depth", "1")
    paper = Training("paper-tiny", "paper", options, folder / "paper-tiny", QUICK)
    return [*steps, rates, dataclasses.replace(graphs, contenders=theirs), paper]


def _ours(case: str, precision: str, device: str) -> tuple[Contender, ...]:
    env = {
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "JAX_ENABLE_COMPILATION_CACHE": str(device == "cpu").lower(),  # compilation is measured, but not in the smoke
        "JAX_DEFAULT_MATMUL_PRECISION": JAX_PRECISION[precision],
        "EQX_ON_ERROR": "nan",
    }
    env |= QUICK | {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2"} if device == "cpu" else {}
    family = case.split("-")[0]
    if family == "ode":
        joint, own = (
            Contender(f"sciml, {steps} steps", "gpu_contenders:ode", env=env, settings={"steps": steps})
            for steps in ("joint", "own")
        )
        return (joint,) if device == "cpu" else (joint, own)
    return (Contender("sciml", f"gpu_contenders:{family}", env=env),)


def _steps(
    name: str, case: dict, precision: str, peer: str, device: str, turn: float, rounds: int, seconds: float
) -> Comparison:
    """Forward and training step: PyTorch eager, ours, torch.compile, and what else there is."""
    family = name.split("-")[0]
    last = {"channels_last": True} if family == "mgno" else {}
    title = {"ode": "torchdiffeq"}.get(family, "PyTorch")
    theirs = lambda title, function, more: Contender(title, f"peers.gpu_torch:{function}", peer, NO_CACHE, more)
    more = {
        "fno": [theirs("neuraloperator", "neuraloperator", {})],
        "mgno": [theirs("PyTorch channels_last", family, last)],
    }
    contenders = (
        theirs(title, family, {}),
        *_ours(name, precision, device),
        theirs(f"{title} compiled", family, {"compile": "default", **last}),
        *more.get(family, []),
    )
    settings = {**case, "precision": precision, "device": device, "turn": turn}
    return Comparison(name, "steps", settings, contenders, rounds, seconds)


def _graphs(case: str, settings: dict, peer: str, device: str, turn: float, rounds: int, seconds: float) -> Comparison:
    """The same in TF32 against torch.compile with CUDA graphs."""
    usual = _steps(case, settings, "tf32", peer, device, turn, rounds, seconds)
    reference, ours, compiled = usual.contenders[:3]
    graphs = dataclasses.replace(
        compiled, name="PyTorch CUDA graphs", settings={**compiled.settings, "compile": "reduce-overhead"}
    )
    return dataclasses.replace(usual, name=f"{case}-graphs", row="graphs", contenders=(reference, ours, graphs))


def _rates(sizes: dict, peer: str, rounds: int, seconds: float) -> Comparison:
    env = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"} | (QUICK if sizes["device"] == "cpu" else {})
    contenders = Contender("PyTorch", "peers.gpu_torch:rates", peer), Contender("JAX", "gpu_contenders:rates", env=env)
    return Comparison("rates", "roofline", sizes, contenders, rounds, seconds)


def rates(piece: dict) -> dict[str, float]:
    """Operations, or bytes, per second: the higher one of both libraries."""
    size, length = piece["settings"]["size"], piece["settings"]["length"]
    work = {**dict.fromkeys(("float32", "tf32", "bf16"), 2 * size**3), "bandwidth": 2 * 4 * length}
    found = {}
    for name, amount in work.items():
        seconds = [row[name]["seconds"] for row in piece["contenders"].values() if name in row]
        if seconds:
            found[name] = amount / min(seconds)
    return found


def roofline(known: dict[str, dict]) -> dict:
    """For each of our programs the least seconds its operations and bytes need, and the fraction of that reached.

    Programs with loops are left out, since XLA counts the body of a loop once.
    """
    measured = rates(known["rates"]) if known.get("rates", {}).get("state") == "done" else {}
    found: dict = {"rates": measured, "programs": {}}
    for name, piece in known.items():
        speed = measured.get(piece.get("settings", {}).get("precision"))
        for contender, row in piece.get("contenders", {}).items():
            for target, cost in row.get("cost", {}).items():
                if not speed or "bandwidth" not in measured or cost["loops"] or not cost["flops"] or not cost["bytes"]:
                    continue
                bounds = {"flops": cost["flops"] / speed, "bytes": cost["bytes"] / measured["bandwidth"]}
                least = max(bounds.values())
                found["programs"][f"{name}, {contender}, {target}"] = {
                    "least_seconds": least,
                    "bound": max(bounds, key=lambda one: bounds[one]),
                    "fraction": least / row[target]["seconds"],
                }
    return found
