"""The processes of a run: the first of them decides what depends on a clock, a file or a signal.

Values go through the key-value store of JAX's coordination service, not through the devices: waiting for process 0
while it draws a figure then has no time limit, and a process that died is noticed by its heartbeat.
"""

import atexit
import contextlib
import contextvars
import itertools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import jax
import msgspec
from jax._src import distributed  # orbax takes the store from the same place; `jax.distributed` has no access to it
from jax._src.cloud_tpu_init import running_in_cloud_tpu_vm
from jax.experimental import multihost_utils

from sciml.parallel._launch import Launch, launch

Value = TypeVar("Value")

_ALONE = contextvars.ContextVar("alone", default=False)
_AGREEMENTS, _BARRIERS, _STEPS = itertools.count(), itertools.count(), itertools.count(1)
_FAILED, _VALUE = "sciml/failed", "sciml/value"
_BLOCK = 1000  # agreements whose values are removed together
_SLICE = 10_000  # ms in which a process that waits does not answer to Ctrl-C
_DAY = 86_400.0  # s
_FAREWELL = 5  # s in which all processes learn that one has failed
_LAST = 1  # s by which process 0 outlives the others
_leaving, _asked = threading.RLock(), threading.Event()


def join(
    given: Mapping[str, str] | None = None, *, heartbeat: int = 60, shutdown: int = 30, patience: int = 300
) -> int:
    """Makes this process one of those that a launcher has started; to be called before JAX is used.

    Slurm, Open MPI, other MPIs with mpi4py, TPU pods and indexed Jobs of Kubernetes are found by their variables. Any
    other launcher sets `JAX_COORDINATOR_ADDRESS`, `SCIML_PROCESSES` and `SCIML_RANK`. A second call does nothing.

    From then on the failure of one process ends the others: they ask once a second whether one has called `leave`. An
    exception that nobody catches calls it.

    Args:
        given: The environment, by default that of the process.
        heartbeat: Seconds without a sign of life after which a process counts as dead, and the others end.
        shutdown: Seconds that a process waits at its end for the others.
        patience: Seconds that a process waits at its start for the others.

    Returns:
        The number of processes, 1 without a launcher.

    Raises:
        ValueError: If a variable has a wrong value.
        RuntimeError: If several processes were started and do not find each other.
    """
    if jax.distributed.is_initialized():
        return distributed.global_state.num_processes or 1
    found = launch(os.environ if given is None else given, tpu=running_in_cloud_tpu_vm)
    if found is None:
        return 1
    local = found.local if os.environ.get("JAX_LOCAL_DEVICE_IDS") is None else None  # JAX reads the variable
    try:
        jax.distributed.initialize(
            found.address,
            found.processes,
            found.rank,
            local_device_ids=local,
            cluster_detection_method=found.method,
            initialization_timeout=patience,
            heartbeat_timeout_seconds=heartbeat,
            shutdown_timeout_seconds=shutdown,
        )
        jax.devices()  # all processes make their devices known at once; later one may be busy with something else
    except Exception as error:
        raise RuntimeError(_not_joined(found, patience, error)) from error
    _watch()
    return distributed.global_state.num_processes or 1


def _not_joined(found: Launch, patience: int, error: Exception) -> str:
    which = "This process" if found.rank is None else f"Process {found.rank} of {found.processes}"
    where = "" if found.address is None else f" at {found.address}"
    return (
        f"{which}, started by {found.by}, did not find the others{where} within {patience} s: "
        f"{' '.join(str(error).split()):.300}. Check that all of them were started and can reach that address."
    )


def _store() -> Any:
    """The client of JAX's coordination service, of processes that have joined."""
    return distributed.global_state.client


def several() -> bool:
    """Whether there are other processes, which do what this one does."""
    return distributed.global_state.client is not None and (process_count() > 1) and not _ALONE.get()


def process_count() -> int:
    """Number of processes, counted also inside of `alone`."""
    return 1 if distributed.global_state.client is None else distributed.global_state.num_processes or 1


def is_first() -> bool:
    """Whether this is process 0, the one that writes and decides; a process by itself is."""
    return not several() or distributed.global_state.process_id == 0


def devices() -> list[Any]:
    """The devices of all processes, those of process 0 in front; of this process alone inside of `alone`."""
    if not several():
        return jax.local_devices()
    return sorted(jax.devices(), key=lambda one: (one.process_index, one.id))


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """In the block this process works by itself with its own devices, for example to draw figures.

    No other process may have to do the same: nothing in the block waits for one.
    """
    token = _ALONE.set(True)
    try:
        yield
    finally:
        _ALONE.reset(token)


def broadcast(value: Value) -> Value:
    """The value that process 0 has, on all processes, which call this in the same order.

    For what may differ from process to process: clocks, what a folder holds, sums of floating-point numbers.

    Args:
        value: Numbers, NaN included, texts and bytes, and lists and dicts of them.
    """
    return by_first(lambda: value)


def by_first(function: Callable[[], Value]) -> Value:
    """What a function returns on process 0, on all processes; the others do not call it.

    Args:
        function: Returns what `broadcast` takes. In it process 0 works `alone`.

    Raises:
        Exception: What the function raises, on process 0.
        RuntimeError: On the others then, with the same message.
    """
    if not several():
        return function()
    key = _next_key()
    if not is_first():
        found = msgspec.msgpack.decode(_waited_for(key))
        if "error" in found:
            raise RuntimeError(f"Process 0: {found['error']}")
        return found["value"]
    store = _store()
    try:
        with alone():
            value = function()
    except BaseException as error:
        store.key_value_set_bytes(key, msgspec.msgpack.encode({"error": str(error) or type(error).__name__}))
        raise
    store.key_value_set_bytes(key, msgspec.msgpack.encode({"value": value}))
    return value


def after_first(function: Callable[[], Value]) -> Value:
    """What a function returns on each process. Process 0 calls it before the others, which find the files that it made.

    Args:
        function: Returns anything. In it each process works `alone`.

    Raises:
        Exception: As `by_first`.
    """
    made: list[Value] = []
    by_first(lambda: made.append(function()))
    if made:
        return made[0]
    with alone():
        return function()


def _next_key() -> str:
    """The key of the next agreement. Those of a thousand are removed together, once all processes have read them."""
    block, place = divmod(next(_AGREEMENTS), _BLOCK)
    if place == 0 and block > 0:
        barrier("agreements")
        if is_first():
            _store().key_value_delete(f"{_VALUE}/{block - 1}/")
    return f"{_VALUE}/{block}/{place}"


def _waited_for(key: str) -> bytes:
    while True:
        try:
            return _store().blocking_key_value_get_bytes(key, _SLICE)
        except jax.errors.JaxRuntimeError as error:
            if "DEADLINE_EXCEEDED" not in str(error):
                raise


def barrier(name: str, *, seconds: float = _DAY) -> None:
    """Waits until all processes are there.

    Args:
        name: What it is for, in errors.
        seconds: Longest time to wait.

    Raises:
        RuntimeError: If a process died, or is not there in time.
    """
    if several():
        count = next(_BARRIERS)
        _store().wait_at_barrier(f"sciml/{name}/{count}", int(1000 * seconds))


@contextlib.contextmanager
def ending() -> Iterator[None]:
    """In the block a process by itself is not ended by a first SIGTERM: it asks `asked_to_end`, and saves its work.

    Of several processes JAX itself listens to the signal. Signals reach the main thread alone, so that the block does
    nothing in another one.
    """
    if several() or threading.current_thread() is not threading.main_thread():
        yield
        return

    def note(number: int, frame: Any) -> None:
        _asked.set()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    before = signal.signal(signal.SIGTERM, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        _asked.clear()


def asked_to_end() -> bool:
    """Whether a SIGTERM to one or several of the processes ends all of them now, at the same step.

    All processes call this once in each step; a process by itself in the block of `ending`.
    """
    if not several():
        return _asked.is_set()
    if distributed.global_state.preemption_sync_manager is None:
        return False
    return multihost_utils.reached_preemption_sync_point(next(_STEPS))


def last_word() -> None:
    """Lets this process say why it ends, before `leave`; if another one has failed, it ends here and has said so.

    An error is often no more than the consequence of another process's end.
    """
    if process_count() > 1 and not _leaving.acquire(blocking=False):
        threading.Event().wait()


def leave(code: int, message: str) -> None:
    """Ends this process after an error, and the others with it: each says in one line which process failed, and why.

    Without others it does nothing. They may wait for this process on a device, where no exception reaches them.

    Args:
        code: The exit code.
        message: What happened.
    """
    if process_count() < 2 or not _leaving.acquire(blocking=False):
        return
    rank, store = distributed.global_state.process_id, _store()
    with contextlib.suppress(Exception):  # another one was quicker, or process 0 is gone
        store.key_value_set(_FAILED, f"process {rank} ended: {message}")
    _end(code)


def _end(code: int) -> None:
    """Waits until all know of the failure, and ends at once: at the usual end processes wait for each other."""
    with contextlib.suppress(Exception):
        _store().wait_at_barrier(f"{_FAILED}/all", 1000 * _FAREWELL)
        if distributed.global_state.process_id == 0:
            time.sleep(_LAST)  # without its service JAX aborts those that are still there
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def _watch() -> None:
    """Starts the thread that ends this process when another one has failed."""
    over = threading.Event()

    def look() -> None:
        while not over.wait(1.0):
            try:
                reason = _store().key_value_try_get(_FAILED)
            except jax.errors.JaxRuntimeError as error:
                if "NOT_FOUND" in str(error):
                    continue
                if "UNAVAILABLE" not in str(error):
                    return
                reason = "process 0 is gone. The same command goes on from the last checkpoint"
            except AttributeError:  # the process ends
                return
            if _leaving.acquire(blocking=False):
                with contextlib.suppress(OSError, ValueError):
                    print(f"sciml: {reason}", file=sys.stderr)
                _end(1)
            return

    before = sys.excepthook

    def uncaught(kind: type[BaseException], error: BaseException, trace: Any) -> None:
        before(kind, error, trace)
        leave(1, " ".join(f"{kind.__name__}: {error}".split()))

    sys.excepthook = uncaught
    thread = threading.Thread(target=look, name="sciml-processes", daemon=True)
    atexit.register(over.set)  # before JAX's own farewell, which was registered earlier
    thread.start()
