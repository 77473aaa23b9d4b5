"""What batches need of a machine: its memory, and a thread that reads while the device computes."""

import concurrent.futures
import os
import pathlib
from collections.abc import Callable
from typing import Any

from jaxtyping import PyTree

try:
    import resource
except ImportError:  # Windows
    resource = None

_GROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")  # of a container


class Ahead:
    """A function of 0, 1, 2, ... whose next values a thread computes in advance, one after another.

    Args:
        read: The function.
        depth: Number of values in advance.
    """

    def __init__(self, read: Callable[[int], PyTree], depth: int = 2):
        self._read, self._depth = read, depth
        self._pool = concurrent.futures.ThreadPoolExecutor(1, "sciml-ahead")
        self._waiting: dict[int, concurrent.futures.Future[PyTree]] = {}

    def __call__(self, k: int) -> PyTree:
        """The value at `k`; raises what the function raises."""
        wanted = range(k, k + self._depth + 1)
        for other in [one for one in self._waiting if one not in wanted]:
            self._waiting.pop(other).cancel()
        for one in wanted:
            if one not in self._waiting:
                self._waiting[one] = self._pool.submit(self._read, one)
        return self._waiting.pop(k).result()


def memory(device: Any) -> int:
    """Bytes of memory of a device; of a CPU those that this process may use."""
    stats = device.memory_stats()
    return stats["bytes_limit"] if stats is not None and "bytes_limit" in stats else host_memory()


def host_memory() -> int:
    """Bytes of memory that this process may use: of the machine, its limits and its container.

    A terabyte where the system does not say.
    """
    try:
        limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    except (AttributeError, ValueError, OSError):  # Windows
        limits = [2**40]
    if resource is not None:
        limits += [resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_DATA, resource.RLIMIT_AS)]
    for path in map(pathlib.Path, _GROUPS):
        text = path.read_text().strip() if path.is_file() else ""
        limits += [int(text)] if text.isdigit() else []
    return min(limit for limit in limits if limit >= 0)  # -1 is RLIM_INFINITY
