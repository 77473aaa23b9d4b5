"""Settings of the process that must be made before JAX starts. Only the command line makes them, never an import."""

import os
import pathlib
import platform
import signal
import sys

try:
    import resource
except ImportError:  # Windows
    resource = None

CPU_DEVICES = 2
"""Number of data-parallel devices made of a CPU's cores, at most one per core.

XLA runs several operations, convolutions among them, on one thread, so that two devices use two cores better than one
does (benchmarks/train_step.py). The environment variable SCIML_CPU_DEVICES overrides it, 0 stands for one per core.
"""

_KEPT = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "-1", "MALLOC_TOP_PAD_": str(64 << 20)}
LARGE_HEAPS = {**_KEPT, "GLIBC_TUNABLES": f"glibc.malloc.hugetlb={1 << 30}"}
FEW_ARENAS = {**_KEPT, "MALLOC_ARENA_MAX": "3", "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
"""Variables by which glibc keeps freed memory.

Without them a training step returns its buffers to the system and takes a page fault for each 4 kB when it asks for
them again. glibc gives every thread an arena, since in a single one all threads wait for one lock, above all in the
process that has compiled the step. But an arena other than the main one has heaps of 64 MB, and a buffer that does not
fit is mapped anew each time. `LARGE_HEAPS` makes heaps of four pages of 1 GB, of which only what is used takes memory,
and needs no such pages. Where glibc does not know the setting or the processor the pages, `FEW_ARENAS` is a compromise:
few arenas, and memory in pages of 2 MB, of which it takes fewer to map a buffer anew (benchmarks/allocator.py).
"""

COMPILER = "--xla_backend_optimization_level=2"
"""XLA's flag for how much LLVM optimises, 3 by default: on CPUs models of many small operations compile up to twice as
fast with 2, and most steps are as fast (benchmarks/compile_times.py). On machines with a GPU the default stays."""


def environment(given: dict[str, str], flags: str, *, gpu: bool = False) -> dict[str, str]:
    """Environment variables to set, those of `given` that the user has set are left alone.

    Args:
        given: The environment.
        flags: What the processor can do, as /proc/cpuinfo lists it.
        gpu: Whether the machine has an NVIDIA GPU.

    Raises:
        ValueError: If SCIML_CPU_DEVICES is not a number.
    """
    wanted = {}
    found = given.get("XLA_FLAGS", "")
    more = [flag for flag in xla_flags(flags, gpu=gpu) if flag.split("=")[0] not in found]
    if more:
        wanted["XLA_FLAGS"] = " ".join([found, *more]).strip()
    cache = pathlib.Path(given.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    wanted.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache / "sciml" / "compiled"))
    wanted["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.5"
    asked = given.get("SCIML_CPU_DEVICES") or str(min(CPU_DEVICES, _cores()))
    if not asked.isdecimal():
        raise ValueError(f"SCIML_CPU_DEVICES is a number of devices, or 0 for one per core, got {asked!r}.")
    devices = int(asked) or _cores()
    wanted["JAX_NUM_CPU_DEVICES"] = str(devices)
    return {name: value for name, value in wanted.items() if name == "XLA_FLAGS" or name not in given}


def xla_flags(flags: str, *, gpu: bool) -> list[str]:
    """Flags of XLA for a processor with these flags."""
    wide = ["--xla_cpu_prefer_vector_width=512"] if "avx512f" in flags.split() else []
    return wide if gpu else [*wide, COMPILER]


def allocator(given: dict[str, str], settings: dict[str, str], *, limited: bool = False) -> dict[str, str]:
    """Environment variables to set for the allocator: none if the user has set one of them.

    Args:
        given: The environment.
        settings: Those of `allocator_settings`.
        limited: Whether the memory of the process is limited; memory that is kept would count.
    """
    return {} if limited or any(name in given for name in (*FEW_ARENAS, *settings)) else settings


def allocator_settings(
    c_library: str | None = None, pages: pathlib.Path = pathlib.Path("/sys/kernel/mm/hugepages")
) -> dict[str, str]:
    """The variables that suit this machine; none without glibc.

    Args:
        c_library: Name and version, as `platform.libc_ver` gives them, joined by a space.
        pages: Folder in which Linux lists the sizes of large pages.
    """
    name, _, version = (" ".join(platform.libc_ver()) if c_library is None else c_library).partition(" ")
    if name != "glibc":
        return {}
    large = (pages / f"hugepages-{1 << 20}kB").exists() and tuple(map(int, version.split(".")[:2])) >= (2, 35)
    return LARGE_HEAPS if large else FEW_ARENAS


def _limited() -> bool:
    if resource is None:
        return False
    limits = [resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_DATA, resource.RLIMIT_AS)]
    return any(limit != resource.RLIM_INFINITY for limit in limits)


def prepare(*, restart: bool) -> None:
    """Makes all settings; to be called before JAX is imported.

    Args:
        restart: Whether the process may be replaced by one with the same command line and the allocator's settings,
            which glibc reads when a process starts.
    """
    os.environ.update(environment(dict(os.environ), processor_flags(), gpu=has_gpu()))
    missing = allocator(dict(os.environ), allocator_settings(), limited=_limited()) if restart else {}
    if missing:
        # The new process begins without an answer to Ctrl-C: it waits until `main` asks for it.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | missing)


def has_gpu() -> bool:
    """Whether the machine has an NVIDIA GPU, as far as its driver's file on Linux says."""
    return pathlib.Path("/dev/nvidiactl").exists()


def processor_flags(cpuinfo: pathlib.Path = pathlib.Path("/proc/cpuinfo")) -> str:
    """What the processor can do, empty where the system does not say (only Linux has the file, only x86 the line)."""
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return next((line for line in lines if line.startswith("flags")), "")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
