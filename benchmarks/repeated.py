"""Calls of a device that works on its own, repeated so that a turn of timer.py is long enough to be timed.

A call starts work on the device and returns before it is done. Of several calls in a row the host prepares the next
one while the device works on the last, as in a training.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

MOST = 100  # calls in a turn


def repeated(
    calls: Mapping[str, Callable[[], Any]], wait: Callable[[Any], Any], turn: float, info: dict
) -> dict[str, Callable[[], None]]:
    """For each call a function that makes it as often as fills a turn, and then waits for the last result.

    Args:
        calls: What to repeat.
        wait: Waits until a result exists.
        turn: Seconds of a turn.
        info: Gets `repeat`, the number of calls in a turn, and adds to its `compile_seconds` the seconds of the first
            call, which compiles what has not been compiled.
    """
    numbers, compiling = info.setdefault("repeat", {}), info.setdefault("compile_seconds", {})
    for name, call in calls.items():
        compiling[name] = compiling.get(name, 0.0) + _seconds(call, wait)
        numbers[name] = max(1, min(MOST, int(turn / max(_seconds(call, wait), 1e-6))))
    return {name: _many(call, wait, numbers[name]) for name, call in calls.items()}


def per_call(rows: dict) -> dict:
    """The rows of `timer.compare`, with seconds and ratios of one call in place of those of a turn."""
    reference = next(iter(rows.values()), {}).get("repeat", {})
    for row in rows.values():
        for name, number in row.get("repeat", {}).items():
            if name in row:
                scale = reference.get(name, number) / number
                row[name]["seconds"] /= number
                row[name]["first_call_seconds"] = row["compile_seconds"][name]
                if "ratio" in row[name]:
                    row[name]["ratio"] *= scale
                    row[name]["ratio_quartiles"] = [one * scale for one in row[name]["ratio_quartiles"]]
    return rows


def _seconds(call: Callable[[], Any], wait: Callable[[Any], Any]) -> float:
    start = time.perf_counter()
    wait(call())
    return time.perf_counter() - start


def _many(call: Callable[[], Any], wait: Callable[[Any], Any], number: int) -> Callable[[], None]:
    def turn() -> None:
        result = None
        for _ in range(number):
            result = call()
        wait(result)

    return turn
