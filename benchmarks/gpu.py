"""How fast are forward and training step on a GPU, beside PyTorch's and beside what the device can do?

    python benchmarks/gpu.py                              all pieces that are not done, at most 8 minutes each
    python benchmarks/gpu.py --list                       the pieces and their states
    python benchmarks/gpu.py --total 9 --only steps       for 9 minutes; the same command again goes on
    python benchmarks/gpu.py --smoke                      all rows, tiny, on the CPU: whether it runs

Rows, most valuable first:
  steps     forward and training step of FNO, MgNO, PROSE and a neural ODE against PyTorch (torchdiffeq) eager and
            compiled, equal weights, in TF32, bf16 and float32; with seconds of the first call and peak device memory
  roofline  measured rates of matrix products and of memory, and the fraction of them that our programs reach
  graphs    the first cases against torch.compile with CUDA graphs
  paper     the published settings of Darcy flow, trained in slices; the errors reached

Contenders run in processes of their own, in turn (timer.py); ratios below 1 are faster than the first contender, and
times are those of one call in a row of several (repeated.py). The results are written after each piece to a file for
the device in results/gpu; a piece that is done is not run again, one that failed is tried again after all others. What
cannot be measured is a line with the reason, and the rest goes on. Exit status 2 without a GPU.
"""

import argparse
import json
import math
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

import gpu_pieces
import timer
from gpu_pieces import Piece

RESULTS = pathlib.Path(__file__).resolve().parent / "results" / "gpu"
RUNS = gpu_pieces.ROOT / "runs" / "gpu"
ROWS = ("steps", "roofline", "graphs", "paper")
LEAST = 120.0  # seconds that must be left of --total for a piece to begin
PROBE = """
import json, jax
device = jax.devices()[0]
memory = (device.memory_stats() or {}).get("bytes_limit")
print(json.dumps({"platform": device.platform, "name": device.device_kind, "memory_bytes": memory}))
"""
VERSIONS = """
import importlib.metadata, json, sys
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        found[name] = None
print(json.dumps(found))
"""


class NoGPU(Exception):
    """JAX sees no GPU; the message says what it sees."""


def answer(python: str, code: str, *arguments: str, seconds: float = 180.0) -> dict:
    """The last line that a program prints, which is JSON.

    Raises:
        OSError: If it does not run, or takes too long; the message is the last line of its errors.
    """
    try:
        done = subprocess.run([python, "-c", code, *arguments], capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        raise OSError(f"{python} gave no answer in {seconds:.0f} s") from None
    try:
        return json.loads(done.stdout.strip().splitlines()[-1])
    except (IndexError, ValueError):
        raise OSError((done.stderr.strip() or "no output").splitlines()[-1]) from None


def device(smoke: bool) -> dict:
    """Name, platform and memory of the first device, found by a process that then frees it, and the driver.

    Raises:
        NoGPU: If it is none.
    """
    if smoke:
        return {"platform": "cpu", "name": "smoke", "driver": None}
    try:
        found = answer(sys.executable, PROBE)
    except OSError as error:
        raise NoGPU(f"JAX found no device: {error}") from None
    if found["platform"] == "cpu":
        raise NoGPU("JAX sees only a CPU")
    return {**found, "driver": driver()}


def driver() -> str | None:
    """Version of NVIDIA's driver, None where nvidia-smi does not tell."""
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        lines = subprocess.run(query, capture_output=True, text=True, timeout=60).stdout.split()
    except (OSError, subprocess.TimeoutExpired):
        return None
    return lines[0] if lines else None


def versions(peer: str) -> dict:
    """Versions of the packages of both sides, None for those that are missing."""
    ours = answer(sys.executable, VERSIONS, "jax", "jaxlib", "equinox", "diffrax", "optax")
    try:
        return ours | answer(peer, VERSIONS, "torch", "triton", "torchdiffeq", "neuraloperator")
    except OSError as error:
        return {**ours, "torch": None, "peer": str(error)}


def state(results: dict, piece: Piece) -> str:
    """State of a piece: done, unfinished, failed or missing."""
    return results["pieces"].get(piece.name, {}).get("state", "missing")


def listing(pieces: list[Piece], results: dict) -> None:
    """One line per piece."""
    for piece in pieces:
        known = results["pieces"].get(piece.name, {})
        more = f"  {known['error']}" if "error" in known else ""
        print(f"  {piece.row:10}{piece.name:28}{state(results, piece)}{more}")


def attempt(piece: Piece, seconds: float, known: dict) -> dict:
    """What the piece returns; an error of any kind is a failure with its line."""
    start = time.monotonic()
    try:
        found = piece.run(seconds, known)
    except Exception as error:  # the other pieces go on
        found = {"state": "failed", "error": f"{type(error).__name__}: {error}".splitlines()[0]}
    return {"row": piece.row, **found, "seconds_of_piece": round(time.monotonic() - start, 1)}


def work(pieces: list[Piece], results: dict, path: pathlib.Path, limit: float, total: float = math.inf) -> None:
    """Runs the pieces that are not done and writes the results after each.

    Args:
        pieces: In their order; those that failed before come last.
        results: What is known; changed.
        path: The file.
        limit: Longest seconds of a piece.
        total: Seconds of all; no piece begins in the last `LEAST` of them.
    """
    ends = time.monotonic() + total
    todo = [piece for piece in pieces if state(results, piece) != "done"]
    for piece in sorted(todo, key=lambda one: state(results, one) == "failed"):
        going_on = True
        while going_on:
            left = ends - time.monotonic()
            if left < LEAST:
                print("the time is over; the same command goes on")
                return
            found = attempt(piece, min(limit, left), results["pieces"].get(piece.name, {}))
            results["pieces"][piece.name] = {**found, "versions": results["versions"]}
            results["roofline"] = gpu_pieces.roofline(results["pieces"])
            timer.write(path, results)
            report(piece.name, found)
            going_on = found["state"] == "unfinished"


def report(name: str, found: dict) -> None:
    """The state of a piece and one line per contender."""
    print(f"\n{name}: {found['state']} after {found['seconds_of_piece']:.0f} s {found.get('error', '')}", flush=True)
    if "step" in found:
        errors = found.get("test") or found.get("validation")
        print(f"  at step {found['step']}, {'test' if 'test' in found else 'validation'} errors {errors}")
    for contender, row in found.get("contenders", {}).items():
        if "not_measured" in row:
            print(f"  {contender:24}not measured: {row['not_measured'].splitlines()[-1]}")
            continue
        cells = ""
        for target in row["repeat"]:
            ratio, seconds = row[target].get("ratio", math.nan), row[target]["seconds"]
            cells += f"  {target} {seconds * 1e3:9.3f} ms {ratio:5.2f} (first {row['compile_seconds'][target]:5.1f} s)"
        memory = row.get("peak_device_memory_mib")
        print(f"  {contender:24}{cells}{'' if memory is None else f'  {memory:7.0f} MiB'}")


def read(path: pathlib.Path) -> dict:
    """The results so far."""
    return json.loads(path.read_text()) if path.exists() else {"pieces": {}}


def arguments_of(given: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8.0, help="longest time of a piece (default %(default)s)")
    parser.add_argument("--total", type=float, default=math.inf, help="minutes of this call (default: no limit)")
    parser.add_argument("--only", nargs="+", metavar="ROW", help=f"rows ({', '.join(ROWS)}) or names of pieces")
    parser.add_argument("--list", action="store_true", help="print the pieces and their states")
    parser.add_argument("--again", action="store_true", help="run pieces again that are done")
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter that has PyTorch (default: this)")
    parser.add_argument("--smoke", action="store_true", help="all rows, tiny, on the CPU")
    parser.add_argument("--out", type=pathlib.Path, help=f"folder of the results (default {RESULTS}, of smoke none)")
    return parser.parse_args(given)


def main(given: list[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    arguments = arguments_of(given)
    seconds, smoke = 60 * arguments.minutes, arguments.smoke
    out = arguments.out or (pathlib.Path(tempfile.mkdtemp(prefix="gpu-smoke-")) if smoke else RESULTS)
    runs = out / "runs" if smoke else RUNS
    pieces = gpu_pieces.pieces(arguments.peer_python, runs, seconds, smoke)
    wanted = arguments.only or ROWS
    unknown = set(wanted) - {*ROWS, *(piece.name for piece in pieces)}
    if unknown:
        print(f"gpu.py: expected rows or pieces of --list, got {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    pieces = [piece for piece in pieces if piece.row in wanted or piece.name in wanted]
    if arguments.list:
        for path in sorted(out.glob("*.json")) or [out / "none.json"]:
            print(f"{path}:")
            listing(pieces, read(path))
        return 0
    try:
        found = device(smoke)
    except NoGPU as error:
        print(f"gpu.py: no GPU: {error}. `--smoke` runs tiny cases on the CPU.", file=sys.stderr)
        return 2
    path = out / f"{re.sub('[^a-z0-9]+', '-', found['name'].lower()).strip('-')}.json"
    results = {**read(path), "device": found, "versions": versions(arguments.peer_python)}
    results["versions"]["driver"] = found["driver"]
    results["machine"] = timer.machine(os.cpu_count() or 1)
    if arguments.again:
        results["pieces"] = {
            name: one for name, one in results["pieces"].items() if name not in {piece.name for piece in pieces}
        }
    try:
        work(pieces, results, path, seconds, 60 * arguments.total)
    except KeyboardInterrupt:
        print(f"gpu.py: interrupted; {path} has the pieces that are done", file=sys.stderr)
        return 130
    print(f"\nwritten to {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
