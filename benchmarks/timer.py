"""Times contenders in separate processes that share the machine fairly: one computes at a time, in turn.

A contender is a Python function, named "module:function" and imported in a worker process of its own, that takes the
settings of a case and returns what to time as `{"forward": callable, "step": callable, ...}`; a callable returns when
its result exists. Entries `outputs` (an array or None) and `info` (a dict) are optional and not timed. All workers get
the same number of cores and the same allocator settings; the parent runs them in turn, in a new random order each
round, so that drifts of the machine's speed and what the last one left in its caches hit all alike, and pauses
between two turns until the threads of the last one have stopped spinning.

Only the standard library and NumPy are needed here, so that a worker may use another interpreter.
"""

import argparse
import contextlib
import dataclasses
import importlib
import json
import math
import os
import pathlib
import platform
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator

import numpy as np

PAUSE = 0.03  # seconds; libgomp and Eigen threads spin for some milliseconds after their last task
START, STARTS, ROUNDS = 0.4, 0.8, 0.9  # of a limited time: longest start of one contender, end of all starts, of rounds


@dataclasses.dataclass(frozen=True)
class Contender:
    """A process to time: `factory` is "module:function"; `settings` are added to those of the case."""

    name: str
    factory: str
    python: str = sys.executable
    env: dict = dataclasses.field(default_factory=dict)
    settings: dict = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Case:
    """Settings for all contenders, and the contenders, reference first. Others than `by_default` are run by name."""

    settings: dict
    contenders: tuple[Contender, ...]
    by_default: bool = True


def allocator() -> dict[str, str]:
    """Environment variables of all workers: those of the command line. To be called in the parent, which has sciml."""
    from sciml.cli import _process

    return _process.allocator_settings()


def xla_flags() -> dict[str, str]:
    """The environment variable with the command line's flags of XLA, to be called where sciml is."""
    from sciml.cli import _process

    return {"XLA_FLAGS": " ".join(_process.xla_flags(_process.processor_flags(), gpu=_process.has_gpu()))}


def like_the_command_line() -> None:
    """Gives this process the settings of the command line, for which it may start anew; call it before JAX is used."""
    from sciml.cli import _process

    _process.prepare(restart=True)


class Worker:
    """The parent's end of a contender's process. `failure` says why it cannot be timed.

    At `ends`, a time of `time.monotonic`, a process that still owes an answer is killed.
    """

    def __init__(self, contender: Contender, settings: dict, cores: int, ends: float = math.inf):
        self.contender, self.failure, self.info, self.ends = contender, "", {}, ends
        env = {
            **os.environ,
            **allocator(),
            "OMP_NUM_THREADS": str(cores),
            "MKL_NUM_THREADS": str(cores),
            **contender.env,
        }
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  closed by close()
        command = [contender.python, str(pathlib.Path(__file__).resolve()), "--worker"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True, env=env
        )
        request = {"factory": contender.factory, "settings": {**settings, **contender.settings}, "cores": cores}
        self.info = self.ask(request)

    def ask(self, request: dict) -> dict:
        """The worker's answer, empty after a failure."""
        if self.failure:
            return {}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            with _killed_at(self.ends, self._process):
                print(json.dumps(request), file=self._process.stdin, flush=True)
                line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line and time.monotonic() >= self.ends:
            self.failure = "it was ended after its time, without an answer"
            return {}
        if not line:
            self._errors.seek(0)
            self.failure = "the process ended: " + "".join(self._errors.readlines()[-3:]).strip()
            return {}
        answer = json.loads(line)
        self.failure = answer.pop("failure", "")
        return answer

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # of a process that was killed
            self._process.stdin.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._errors.close()


@contextlib.contextmanager
def _killed_at(ends: float, process: subprocess.Popen) -> Iterator[None]:
    """Kills the process if the block is not left before `ends`."""
    if ends == math.inf:
        yield
        return
    watch = threading.Timer(max(0.0, ends - time.monotonic()), process.kill)
    watch.daemon = True
    watch.start()
    try:
        yield
    finally:
        watch.cancel()


def compare(
    contenders: list[Contender], settings: dict, rounds: int, cores: int, starts: int = 1, limit: float = math.inf
) -> dict:
    """Times all contenders on one case; the first is the reference of the ratios.

    Args:
        contenders: What to time.
        settings: Of the case.
        rounds: Timed calls of each contender after each start.
        cores: Of each process.
        starts: How often all processes are started anew: two processes of one program differ, too, so that ratios near
            1 need several.
        limit: Seconds after which all is over: a contender whose start takes a share of START is ended and not
            measured, and after a share of ROUNDS no round begins any more.

    Returns:
        For each contender a dict: `not_measured` with the reason, or `info`, `max_error` against the reference's
        outputs (relative to their maximum) and for each timed callable the median and the least seconds, their ratios,
        the quartiles of the ratios of the rounds, the seconds of the first call (compilation), page faults per call;
        peak memory in MiB.
    """
    seconds: dict[tuple[str, str], list[float]] = {}
    rows: dict = {}
    failures: dict[str, str] = {}
    limit /= starts
    for start in range(starts):
        begun = time.monotonic()
        with _started(contenders, settings, cores, limit) as workers:
            for worker in workers:
                worker.failure = worker.failure or failures.get(worker.contender.name, "")
            _time(workers, rounds, random.Random(start), seconds, begun + ROUNDS * limit)
            rows = {worker.contender.name: _row(worker, workers[0], seconds) for worker in workers}
            failures |= {worker.contender.name: worker.failure for worker in workers if worker.failure}
    return rows


@contextlib.contextmanager
def _started(contenders: list[Contender], settings: dict, cores: int, limit: float) -> Iterator[list[Worker]]:
    with tempfile.TemporaryDirectory() as folder:
        workers, begun = [], time.monotonic()
        try:
            for contender in contenders:  # one after the other: the first may leave weights in `exchange`
                ends = min(time.monotonic() + START * limit, begun + STARTS * limit)
                workers.append(Worker(contender, {**settings, "exchange": folder}, cores, ends))
            for worker in workers:
                worker.ends = begun + limit
            yield workers
        finally:
            for worker in workers:
                worker.close()


def _time(
    workers: list[Worker],
    rounds: int,
    draw: random.Random,
    seconds: dict[tuple[str, str], list[float]],
    ends: float = math.inf,
) -> None:
    """Appends the seconds of all calls; after `ends`, no round but the first begins."""
    targets = sorted({target for worker in workers for target in worker.info.get("targets", ())})
    last = None
    for number in range(rounds):
        if number and time.monotonic() > ends:
            break
        for target in targets:
            order = [worker for worker in workers if target in worker.info.get("targets", ())]
            draw.shuffle(order)
            if order[0] is last:  # it would find its own data in the caches
                order.append(order.pop(0))
            for worker in order:
                time.sleep(PAUSE)
                answer = worker.ask({"time": target})
                if "seconds" in answer:
                    seconds.setdefault((worker.contender.name, target), []).append(answer["seconds"])
            last = order[-1]


def _row(worker: Worker, reference: Worker, seconds: dict[tuple[str, str], list[float]]) -> dict:
    last = worker.ask({"report": True})
    if worker.failure:
        return {"not_measured": worker.failure}
    info = dict(worker.info)
    first_calls, targets = info.pop("first_call_seconds"), info.pop("targets")
    row = {**info, "peak_memory_mib": last["peak_memory_mib"], "memory_before_mib": info.pop("memory_before_mib")}
    if last["outputs"] and (there := reference.ask({"report": True}).get("outputs")):
        ours, theirs = np.load(last["outputs"]), np.load(there)
        row["max_error"] = float(np.abs(ours - theirs).max() / np.abs(theirs).max())
    for target in targets:
        own, base = seconds[worker.contender.name, target], seconds.get((reference.contender.name, target))
        row[target] = {
            "seconds": statistics.median(own),
            "least_seconds": min(own),
            "first_call_seconds": first_calls[target],
        }
        row[target]["page_faults"] = last["page_faults"][target]
        if base and not reference.failure:  # else some of its calls are missing
            row[target]["ratio"] = statistics.median(own) / statistics.median(base)
            row[target]["least_ratio"] = min(own) / min(base)
            row[target]["ratio_quartiles"] = list(np.quantile(np.divide(own, base), [0.25, 0.75]))
    return row


def command(
    description: str,
    cases: Callable[[str], dict[str, Case]],
    results: pathlib.Path,
    report: Callable[[str, dict], None],
    rounds: int,
) -> None:
    """The command line of a benchmark: times its cases, reports each and writes the results after each.

    Args:
        description: The benchmark's docstring.
        cases: From the interpreter of the peers to the table.
        results: Default of the result file.
        report: Prints the rows of a case.
        rounds: Default number of timed calls.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [name for name, case in cases("").items() if case.by_default]
    parser.add_argument("--case", nargs="+", choices=list(cases("")), default=names, help=f"default: {names}")
    parser.add_argument("--contender", nargs="+", default=[""], help="those whose name contains one of these words")
    parser.add_argument(
        "--rounds", type=int, default=rounds, help="timed calls of each contender (default %(default)s)"
    )
    parser.add_argument("--cores", type=int, default=os.cpu_count(), help="cores of each worker (default %(default)s)")
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter that has PyTorch (default: this)")
    parser.add_argument("--out", type=pathlib.Path, default=results, help="result file (default %(default)s)")
    arguments = parser.parse_args()
    result = {"machine": machine(arguments.cores), "rounds": arguments.rounds, "cases": {}}
    table = cases(arguments.peer_python)
    for name in arguments.case:
        case = table[name]
        wanted = [one for one in case.contenders if any(word in one.name for word in arguments.contender)]
        rows = compare(wanted, case.settings, arguments.rounds, arguments.cores)
        result["cases"][name] = {"settings": case.settings, "contenders": rows}
        report(name, rows)
        write(arguments.out, result)
    print(f"\nwritten to {arguments.out}; ratios are to the first contender of each case, quartiles over rounds")


def machine(cores: int) -> dict:
    """What the times depend on besides the code."""
    model = platform.processor()
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.split(":")[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
        ]
        model = names[0] if names else model
    return {"processor": model, "cores": cores, "system": platform.platform(), "allocator": allocator()}


def write(path: pathlib.Path, result: dict) -> None:
    """Writes JSON so that a reader never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".tmp")
    unfinished.write_text(json.dumps(result, indent=1) + "\n")
    os.replace(unfinished, path)


def _memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _prepare(request: dict) -> tuple[dict, dict]:
    module, function = request["factory"].split(":")
    factory = getattr(importlib.import_module(module), function)
    before = _memory()
    targets = dict(factory(request["settings"]))
    info, outputs, first = targets.pop("info", {}), targets.pop("outputs", None), {}
    path = ""
    if outputs is not None:
        path = str(pathlib.Path(request["settings"]["exchange"]) / f"outputs-{os.getpid()}.npy")
        np.save(path, np.asarray(outputs))
    for name, call in targets.items():
        start = time.perf_counter()
        call()
        first[name] = time.perf_counter() - start
        for _ in range(3):
            call()
    answer = {**info, "targets": list(targets), "first_call_seconds": first, "memory_before_mib": before}
    return answer, {"calls": targets, "outputs": path}


def _answer(request: dict, state: dict) -> dict:
    if "factory" in request:
        answer, new = _prepare(request)
        state |= {**new, "faults": {name: [] for name in new["calls"]}}
        return answer
    if "time" in request:
        name = request["time"]
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        start = time.perf_counter()
        state["calls"][name]()
        seconds = time.perf_counter() - start
        state["faults"][name].append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults)
        return {"seconds": seconds}
    faults = {name: statistics.median(counts or [0]) for name, counts in state["faults"].items()}
    return {"peak_memory_mib": _memory(), "outputs": state["outputs"], "page_faults": faults}


def _serve() -> None:
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print goes to the error stream, not into the answers
    state: dict = {}
    for line in sys.stdin:
        request = json.loads(line)
        if "cores" in request and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: request["cores"]])
        try:
            answer = _answer(request, state)
        except Exception as error:  # any failure of a contender becomes a row of the table
            traceback.print_exc()
            answer = {"failure": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=replies, flush=True)


if __name__ == "__main__":
    assert sys.argv[1:] == ["--worker"], "timer.py is the common part of the benchmarks; run one of them instead"
    _serve()
