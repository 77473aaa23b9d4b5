"""How much time does a single arena of glibc's allocator cost in a process that has compiled its training step?

    python benchmarks/allocator.py [--case mgno fno unet fno-gallery]

The training step of benchmarks/compile_times.py on two devices, in processes that compile it themselves: with the
settings of the command line, among them MALLOC_ARENA_MAX=3, and with a single arena. `fno-gallery` is the step of
benchmarks/train_step.py of that name, whose buffers are larger than 64 MB.
"""

import dataclasses
import pathlib

import compile_times
import timer
import train_step
from timer import Case

SHOWN = ("mgno", "fno", "unet", "fno-gallery")
RESULTS = pathlib.Path(__file__).resolve().parent / "results" / "allocator.json"


def cases(peer: str) -> dict[str, Case]:
    """One case for each of three models, and one with large buffers."""
    uncached = {"JAX_NUM_CPU_DEVICES": "2", "JAX_ENABLE_COMPILATION_CACHE": "0"}
    table = {}
    for name, case in (train_step.cases(peer) | compile_times.cases(peer)).items():
        if name in SHOWN:
            last = case.contenders[-1]
            plain = dataclasses.replace(last, name="sciml", env=last.env | uncached)
            single = dataclasses.replace(plain, name="one arena", env=plain.env | {"MALLOC_ARENA_MAX": "1"})
            table[name] = dataclasses.replace(case, contenders=(plain, single))
    return {name: table[name] for name in SHOWN}


if __name__ == "__main__":
    timer.command(__doc__, cases, RESULTS, compile_times.report, rounds=21)
