"""Settings of the process that must be made before JAX starts. Only the command line makes them, never an import."""

import ctypes
import os
import pathlib
import sys

CPU_DEVICES = 2
"""Number of data-parallel devices made of a CPU's cores, at most one per core.

XLA runs several operations, convolutions among them, on one thread, so that two devices use two cores better than one
does (benchmarks/train_step.py). The environment variable SCIML_CPU_DEVICES overrides it, 0 stands for one per core.
"""

# Numbers of mallopt(3) and the values that keep freed memory in the process: without them each training step returns
# its buffers to the system and takes a page fault for each 4 kB when it asks for them again.
_MALLOPT = {"M_MMAP_MAX": (-4, 0), "M_TRIM_THRESHOLD": (-1, -1), "M_TOP_PAD": (-2, 64 << 20), "M_ARENA_MAX": (-8, 1)}


def keep_freed_memory() -> bool:
    """Tells glibc to keep freed memory; returns whether it did. Other C libraries are left as they are.

    Not done if one of the environment variables MALLOC_*_ is set: then the user has decided.
    """
    if sys.platform != "linux" or any(name.startswith("MALLOC_") for name in os.environ):
        return False
    library = ctypes.CDLL(None)
    try:
        library.gnu_get_libc_version  # noqa: B018
        mallopt = library.mallopt
    except AttributeError:
        return False
    mallopt.argtypes, mallopt.restype = (ctypes.c_int, ctypes.c_int), ctypes.c_int
    return sum(mallopt(number, value) for number, value in _MALLOPT.values()) == len(_MALLOPT)


def environment(given: dict[str, str], flags: str) -> dict[str, str]:
    """Environment variables to set, those of `given` that the user has set are left alone.

    Args:
        given: The environment.
        flags: What the processor can do, as /proc/cpuinfo lists it.

    Raises:
        ValueError: If SCIML_CPU_DEVICES is not a number.
    """
    wanted = {}
    if "avx512f" in flags.split() and "xla_cpu_prefer_vector_width" not in given.get("XLA_FLAGS", ""):
        wanted["XLA_FLAGS"] = f"{given.get('XLA_FLAGS', '')} --xla_cpu_prefer_vector_width=512".strip()
    cache = pathlib.Path(given.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    wanted.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache / "sciml" / "compiled"))
    wanted["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.5"
    asked = given.get("SCIML_CPU_DEVICES") or str(min(CPU_DEVICES, _cores()))
    if not asked.isdecimal():
        raise ValueError(f"SCIML_CPU_DEVICES is a number of devices, or 0 for one per core, got {asked!r}.")
    devices = int(asked) or _cores()
    wanted["JAX_NUM_CPU_DEVICES"] = str(devices)
    return {name: value for name, value in wanted.items() if name == "XLA_FLAGS" or name not in given}


def prepare() -> None:
    """Makes all settings; to be called before JAX is imported."""
    keep_freed_memory()
    os.environ.update(environment(dict(os.environ), _processor_flags(pathlib.Path("/proc/cpuinfo"))))


def _processor_flags(cpuinfo: pathlib.Path) -> str:
    """What the processor can do, empty where the system does not say (only Linux has the file, only x86 the line)."""
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return next((line for line in lines if line.startswith("flags")), "")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
