"""The training loop."""

import dataclasses
import math
import time
from collections.abc import Callable, Sequence

import jax
import numpy as np

from sciml import parallel
from sciml.train._batches import Batches
from sciml.train._phases import CompiledStep, Logs
from sciml.train._state import TrainState


@dataclasses.dataclass(frozen=True)
class Event:
    """What a hook sees.

    Attributes:
        step: Number of optimiser steps done.
        steps: Number of steps of the whole run.
        state: Valid until the hook returns, because the next step donates its arrays: copy what should outlive it.
        logs: Logs of the steps since the last call of this hook, one entry for each step.
        metrics: Results of the hooks that were called before at this step.
        seconds: Wall time of the steps that this call of `fit` has done, without hooks and compilation: the first
            dispatch, which compiles, is taken to last as long as those that follow it up to the next hook.
    """

    step: int
    steps: int
    state: TrainState
    logs: dict[str, np.ndarray]
    metrics: dict[str, float]
    seconds: float = 0.0


Hook = Callable[[Event], dict[str, float] | None]


@dataclasses.dataclass(frozen=True)
class Every:
    """A hook and the number of steps between its calls; see `every`."""

    steps: int
    hook: Hook


def every(steps: int, hook: Hook) -> Every:
    """Calls a hook after each so-many steps of a run, and after its last one.

    A hook may return numbers, which later hooks find in `Event.metrics`, and may raise `Stop`.

    Raises:
        ValueError: If `steps` is not positive.
    """
    if steps < 1:
        raise ValueError(f"A hook is called every 1 or more steps, got {steps}.")
    return Every(steps, hook)


class Stop(Exception):
    """Raised by a hook to end the run; the message says why. Of several processes, process 0 decides for all."""


class Preempted(Exception):
    """Raised by `fit` after a SIGTERM: on all of several processes at the same step, on one inside `parallel.ending`.

    Attributes:
        state: That of the last step, to be saved.
    """

    def __init__(self, state: TrainState):
        self.state = state
        self.args = (f"The run was asked to end, at step {int(state.step)}.",)


def _dispatch_size(limit: int | None, cadences: Sequence[int]) -> int:
    """Largest number of steps, at most `limit`, that divides all cadences: one size means one compilation."""
    if limit is None:
        # XLA's CPU backend runs convolutions inside of a loop 2 (forward) to 25 times (gradients) slower than outside.
        limit = 1 if jax.default_backend() == "cpu" else 16
    common = math.gcd(*cadences)
    return max(n for n in range(1, max(1, min(limit, common)) + 1) if common % n == 0)


def fit(
    state: TrainState,
    step: CompiledStep,
    batches: Batches,
    *,
    steps: int,
    hooks: Sequence[Every] = (),
    dispatch: int | None = None,
) -> TrainState:
    """Trains until `steps` optimiser steps are done in total, or until a hook raises `Stop`.

    The device is kept busy: the losses of a dispatch are looked at while the next one runs, and hooks see all of them.
    Hooks are called in their order. Continuing from a restored state repeats exactly what one long run does.

    Several processes call it alike. Each calls all hooks, and gets the numbers that they return on process 0.

    Args:
        state: Where to begin; its arrays are donated.
        step: From `make_step`, with `batches.fetch`.
        batches: From `resident`, `streamed` or `batches`.
        steps: Number of steps of the whole run, those done before included.
        hooks: From `every`.
        dispatch: Upper limit of the steps in one dispatch, which does the largest number that divides `steps` and all
            hooks' cadences. By default 16, and 1 on a CPU, where compiled loops are slow and dispatches cheap.

    Raises:
        FloatingPointError: If the loss is not finite. Hooks are not called with such a state.
        Preempted: After a SIGTERM, see there.
    """
    start = done = int(state.step)
    size = _dispatch_size(dispatch, [steps, *(one.steps for one in hooks)])
    record, clock = _Record(len(hooks)), _Clock()
    arrays, form = step.apart(state)
    while done < steps:
        count = min(size - done % size, steps - done)
        items = [batches.item(k) for k in range(done, done + count)]
        arrays, logs = step.advance(form, arrays, batches.source, batches.together(items), done=done)
        if done == start:
            clock.compiled(count, logs)
        done += count
        record.finish()
        record.pending = (done - count, logs)
        due = [i for i, one in enumerate(hooks) if done % one.steps == 0 or done == steps]
        ends = parallel.asked_to_end()
        if not due and not ends:
            continue
        record.finish()
        state, seconds = form.state(arrays), clock.stop(done - start)
        metrics: dict[str, float] = {}
        for i in due:
            found = _called(hooks[i].hook, Event(done, steps, state, record.take(i), dict(metrics), seconds))
            if found is None:
                return state
            metrics |= found
        if ends:
            raise Preempted(state)
        clock.go_on()
    record.finish()
    return form.state(arrays)


def _called(hook: Hook, event: Event) -> dict[str, float] | None:
    """What a hook returns, on process 0 of several; None if it ends the run."""
    try:
        found = hook(event) or {}
    except Stop:
        found = None
    if not parallel.several():
        return found
    return parallel.broadcast(None if found is None else {name: float(value) for name, value in found.items()})


class _Clock:
    """Time of the steps without what happens between them."""

    def __init__(self):
        self._first, self._seconds, self._since = 0, 0.0, 0.0

    def compiled(self, count: int, logs: Logs) -> None:
        """Begins when the first dispatch, of `count` steps, is done."""
        jax.block_until_ready(logs)
        self._first, self._since = count, time.perf_counter()

    def stop(self, count: int) -> float:
        """The time of `count` steps; 0 as long as the first dispatch is the only one."""
        self._seconds += time.perf_counter() - self._since
        if count > self._first > 0:
            self._seconds *= count / (count - self._first)
            self._first = 0
        return self._seconds if self._first == 0 else 0.0

    def go_on(self) -> None:
        self._since = time.perf_counter()


class _Record:
    """Logs that came from the device and were not yet given to each hook."""

    def __init__(self, hooks: int):
        self.pending: tuple[int, Logs] | None = None
        self._logs: list[list[dict[str, np.ndarray]]] = [[] for _ in range(hooks)]

    def finish(self) -> None:
        """Waits for the pending logs and checks their losses."""
        if self.pending is None:
            return
        first, logs = self.pending[0], jax.device_get(self.pending[1])
        self.pending = None
        bad = np.flatnonzero(~np.isfinite(logs["loss"]))
        if bad.size:
            i = int(bad[0])
            rate = f"{logs['learning_rate'][i]:.6g}" if "learning_rate" in logs else "unknown"
            raise FloatingPointError(
                f"The loss is {logs['loss'][i]} at step {first + i + 1}, learning rate {rate}. Lower the "
                "learning rate, clip the gradient with optax.clip_by_global_norm, or look for bad values in the data."
            )
        for waiting in self._logs:
            waiting.append(logs)

    def take(self, hook: int) -> dict[str, np.ndarray]:
        """All logs since the last call for this hook."""
        parts, self._logs[hook] = self._logs[hook], []
        return {name: np.concatenate([part[name] for part in parts]) for name in (parts[0] if parts else ())}
