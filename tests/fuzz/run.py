"""Does any damaged or hostile input give another result silently, a traceback, an execution, or reach outside?

    python tests/fuzz/run.py --cases 10000 --seed 0 --out tests/fuzz/results.json    # `make fuzz`, on 2 cores
    python tests/fuzz/run.py --case "pairs:17" --seed 0                              # one case again

The originals are made once, each case changes a copy. Counts and all failures are written as JSON; the exit code is 1
if there is a failure.
"""

import argparse
import collections
import importlib.metadata
import json
import logging
import os
import pathlib
import platform
import resource
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
FLIPS = 200  # of single bits in the array files of a checkpoint
SECONDS = 30.0  # time limit of a case
MEMORY = 8 << 30  # bytes that a case may take
CHEAP = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
PACKAGES = ("sciml-jax", "jax", "jaxlib", "equinox", "orbax-checkpoint", "h5py", "numpy", "msgspec", "tyro")
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]


def prepared():
    """Settings of a process that trains and reads small models."""
    os.environ.setdefault("XLA_FLAGS", CHEAP)
    os.environ.setdefault("MPLBACKEND", "agg")
    import jax

    jax.config.update(
        "jax_compilation_cache_dir", os.environ.get("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".jax_cache"))
    )
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


def judge_of(root, seed):
    """Judges cases of a world, in a process of bounded memory."""
    prepared()
    from fuzz import corpora, kinds, oracle

    sys.unraisablehook = lambda _: None  # what orbax leaves behind when it fails to read re-signed files
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    world = corpora.World(pathlib.Path(root), f"outside-{os.getpid()}")
    corpora.plant(world)
    judge = oracle.Oracle(world)
    for name, kind in kinds.KINDS.items():
        if kind.strict:
            judge.expected(name)
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) if os.path.exists("/proc/self/statm") else 0
    if pages:
        limit = pages * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    return lambda name, number: judge(name, number, seed)


def shares(cases):
    """Number of cases of each kind, in proportion to their shares."""
    from fuzz.kinds import KINDS

    total = sum(kind.share for kind in KINDS.values())
    found = {name: max(1, cases * kind.share // total) for name, kind in KINDS.items() if kind.share}
    first = max(found, key=found.__getitem__)
    found[first] += cases - sum(found.values())
    return {"bit flips in arrays": FLIPS} | found


def fuzz(cases, seed, root, say=print):
    """Judges all cases; returns the counts by kind and outcome, and the failures."""
    from fuzz import corpora, kinds, oracle, workers

    corpora.make(root)
    wanted = shares(cases)
    counts = {name: collections.Counter() for name in wanted}
    failures, start = [], time.monotonic()
    every = [(name, number) for name, count in wanted.items() for number in range(count)]
    for name, number, verdict in workers.Workers(judge_of, (str(root), seed), seconds=SECONDS)(every):
        if isinstance(verdict, str):
            known = verdict == "hang" and kinds.KINDS[name].hangs
            verdict = oracle.Verdict(oracle.KNOWN if known else verdict.partition(" ")[0], "", verdict)
        counts[name][verdict.outcome] += 1
        if verdict.outcome not in oracle.FINE:
            one = {"case": f"{name}:{number}", "outcome": verdict.outcome, "what": verdict.what}
            failures.append(one | {"detail": verdict.detail.replace(str(root), "")})
            say(f"FAILED {one['case']}: {verdict.outcome}; {verdict.what}; {failures[-1]['detail'][:300]}")
        if sum(counts[name].values()) == wanted[name]:
            say(f"{time.monotonic() - start:4.0f} s  {name}: {_line(counts[name])}")
    return counts, failures


def _line(counts):
    return ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items()))


def record(counts, failures, seed, seconds):
    """What is written: counts, failures, and what they depend on."""
    total = collections.Counter()
    for one in counts.values():
        total.update(one)
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {
        "command": f"python tests/fuzz/run.py --cases {sum(total.values()) - FLIPS} --seed {seed}",
        "cases": sum(total.values()),
        "seed": seed,
        "seconds": round(seconds),
        "versions": {"python": platform.python_version(), **versions},
        "total": dict(sorted(total.items())),
        "failures": failures,
        "kinds": {name: dict(sorted(one.items())) for name, one in counts.items()},
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--case", help="KIND:NUMBER, to repeat one")
    given = parser.parse_args()
    prepared()
    with tempfile.TemporaryDirectory(prefix="sciml-fuzz-") as folder:
        root, start = pathlib.Path(folder).resolve() / "world", time.monotonic()
        if given.case is not None:
            from fuzz import corpora, oracle

            name, _, number = given.case.rpartition(":")
            verdict = oracle.Oracle(corpora.make(root))(name, int(number), given.seed)
            print(f"{verdict.outcome}\n{verdict.what}\n{verdict.detail}")
            return int(verdict.outcome not in oracle.FINE)
        counts, failures = fuzz(given.cases, given.seed, root, lambda text: print(text, flush=True))
        found = record(counts, failures, given.seed, time.monotonic() - start)
    print(f"{found['cases']} cases in {found['seconds']} s: {_line(found['total'])}")
    if given.out is not None:
        given.out.write_text(json.dumps(found, indent=1) + "\n")
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
