"""How do the settings of glibc's allocator change training steps in processes that compile them?

    python benchmarks/allocator.py [--case mgno fno unet fno-gallery]

The training step of benchmarks/compile_times.py on two devices, in processes that compile it themselves: with heaps
of 4 GB and an arena for each thread, as on the command line where it can, with its three arenas elsewhere, and with a
single one. `fno-gallery` is the step of benchmarks/train_step.py of that name, whose buffers are larger than 64 MB.
"""

import dataclasses
import pathlib

import compile_times
import timer
import train_step
from timer import Case

from sciml.cli import _process

SHOWN = ("mgno", "fno", "unet", "fno-gallery")
RESULTS = pathlib.Path(__file__).resolve().parent / "results" / "allocator.json"


def cases(peer: str) -> dict[str, Case]:
    """One case for each of three models, and one with large buffers."""
    uncached = {"JAX_NUM_CPU_DEVICES": "2", "JAX_ENABLE_COMPILATION_CACHE": "0"}
    table = {}
    for name, case in (train_step.cases(peer) | compile_times.cases(peer)).items():
        if name in SHOWN:
            last = case.contenders[-1]
            large = dataclasses.replace(last, name="large heaps", env=last.env | uncached | _process.LARGE_HEAPS)
            few = dataclasses.replace(large, name="few arenas", env=large.env | _process.FEW_ARENAS)
            single = dataclasses.replace(few, name="one arena", env=few.env | {"MALLOC_ARENA_MAX": "1"})
            table[name] = dataclasses.replace(case, contenders=(large, few, single))
    return {name: table[name] for name in SHOWN}


if __name__ == "__main__":
    timer.command(__doc__, cases, RESULTS, compile_times.report, rounds=21)
