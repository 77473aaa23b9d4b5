"""Reading ahead, windows gathered on the device, and the memory that a process may use."""

import resource
import threading

import jax
import numpy as np
import pytest
from trajectory_data import trajectories

from sciml import data, train
from sciml.train import _memory, _reading


def test_values_come_in_any_order_and_two_are_computed_ahead():
    seen, begun = [], threading.Semaphore(0)

    def read(k):
        seen.append(k)
        begun.release()
        return 10 * k

    ahead = _memory.Ahead(read)
    assert ahead(4) == 40
    for _ in range(3):
        assert begun.acquire(timeout=10)
    assert seen == [4, 5, 6]
    assert [ahead(k) for k in (5, 6, 0, 1, 9, 8)] == [50, 60, 0, 10, 90, 80]
    assert len(ahead._waiting) <= 2


def test_an_error_of_reading_is_raised_at_its_batch():
    def read(k):
        if k == 2:
            raise OSError("The file is gone.")
        return k

    ahead = _memory.Ahead(read)
    assert [ahead(0), ahead(1)] == [0, 1]
    with pytest.raises(OSError, match=r"The file is gone\."):
        ahead(2)


def test_batches_are_read_by_one_thread_that_is_not_that_of_the_loop():
    threads = set()

    class Watched(data.Arrays):
        def __getitem__(self, rows):
            threads.add(threading.get_ident())
            return super().__getitem__(rows)

    given = Watched(np.arange(23.0))
    batches = train.streamed(given, lambda k: data.rows(23, 4, 0, k))
    for k in range(7):
        np.testing.assert_array_equal(batches.item(k)[0], data.rows(23, 4, 0, k))
    assert len(threads) == 1
    assert threads != {threading.get_ident()}


@pytest.mark.parametrize("group", [None, 12_000])
def test_windows_are_gathered_on_the_device(group):
    plain = data.TrajectoryWindows(trajectories(), history=2, horizon=1, strides=(1, 3))
    given = plain if group is None else data.Streamed(plain, group=group)
    assert isinstance(given, _reading.Gathered)
    which = lambda k: data.batch_rows(given, 4, 0, k)
    batches = train.batches(given, which, limit=plain.nbytes)
    assert {name: array.shape for name, array in batches.source.items()} == {
        "frames": (13, 11, 3, 5, 7),
        "fixed": (13, 2, 5, 7),
        "parameters": (13, 1),
    }
    found = jax.jit(batches.fetch)(batches.source, batches.item(3))
    host = train.batches(given, which, limit=plain.nbytes - 1)
    assert host.source is None
    for name, array in host.item(3).items():
        np.testing.assert_array_equal(found[name], array)


def test_memory_is_what_the_process_may_use(monkeypatch, tmp_path):
    device = jax.devices("cpu")[0]
    limits = {resource.RLIMIT_DATA: resource.RLIM_INFINITY, resource.RLIMIT_AS: resource.RLIM_INFINITY}
    monkeypatch.setattr(_memory.resource, "getrlimit", lambda kind: (limits[kind], limits[kind]))
    monkeypatch.setattr(_memory, "_GROUPS", (str(tmp_path / "v2"), str(tmp_path / "v1")))
    whole = _memory.memory(device)
    assert whole > 2**28
    (tmp_path / "v2").write_text("max\n")
    (tmp_path / "v1").write_text("9223372036854771712\n")
    assert _memory.memory(device) == whole
    limits[resource.RLIMIT_DATA] = 2**27
    assert _memory.memory(device) == 2**27
    (tmp_path / "v2").write_text(f"{2**26}\n")
    assert _memory.memory(device) == 2**26
