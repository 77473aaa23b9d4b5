"""Streamed windows: the values of the windows, every one once in an epoch, few bytes in memory, no state."""

import itertools
import threading
import time

import numpy as np
import pytest
from trajectory_data import FRAMES, SAMPLES, recorded, trajectories

from sciml import data

BLOCKS = [(1, 1), (1, 4), (5, 3), (2, 11), (13, 1)]
ROWS = [None, np.array([7, 2, 3, 12, 4])]
GROUPS = [1, 12_000, 10**7]  # bytes; a trajectory takes 11 * 420 + 280
CASES = [*zip(2 * BLOCKS, itertools.cycle(ROWS), itertools.cycle(GROUPS), strict=False)]  # 2, 3 and 5 are coprime
FRAME = 420


def windows(block=(1, 1), rows=None, **sizes):
    sizes = {"history": 2, "horizon": 2, "strides": (1, 2)} | sizes
    return data.TrajectoryWindows(trajectories(block, rows=rows), **sizes)


def equal(one, other):
    assert one.keys() == other.keys()
    for name, array in other.items():
        assert one[name].dtype == array.dtype
        np.testing.assert_array_equal(one[name], array)


@pytest.mark.parametrize(("block", "rows", "group"), CASES)
def test_values_are_those_of_the_windows(block, rows, group):
    plain = windows(block, rows)
    streamed = data.Streamed(plain, group=group)
    assert len(streamed) == len(plain)
    for chosen in (streamed.batch_rows(5, 1, 3), np.arange(len(plain)), slice(3, 9), np.array([4, 4, 0])):
        equal(streamed[chosen], plain[chosen])


@pytest.mark.parametrize(("block", "rows", "group"), CASES)
def test_every_window_once_in_each_epoch_and_no_state(block, rows, group):
    streamed, size, epochs = data.Streamed(windows(block, rows), group=group), 6, 3
    n = len(streamed)
    batches = [streamed.batch_rows(size, 4, k) for k in range(-(-epochs * n // size))]
    assert {len(batch) for batch in batches} == {size}
    epoch = np.concatenate(batches)[: epochs * n].reshape(epochs, n)
    np.testing.assert_array_equal(np.sort(epoch, axis=1), np.tile(np.arange(n), (epochs, 1)))
    assert len(np.unique(epoch, axis=0)) == epochs
    again = data.Streamed(windows(block, rows), group=group)
    for k in reversed(range(len(batches))):
        np.testing.assert_array_equal(again.batch_rows(size, 4, k), batches[k])
    assert (again.batch_rows(size, 5, 0) != batches[0]).any()


def test_the_order_is_the_same_in_every_version():
    # Stored: another order would make a resumed run see other batches.
    streamed = data.Streamed(windows(), group=12_000)
    assert streamed.batch_rows(7, 0, 0).tolist() == [92, 48, 101, 44, 71, 93, 95]
    assert streamed.batch_rows(7, 2, 1000).tolist() == [28, 27, 10, 5, 12, 46, 8]


def test_batches_mix_the_samples_of_a_group():
    streamed = data.Streamed(windows(), group=10**7)
    found = streamed.batch_rows(26, 0, 0) // streamed.windows.of_each
    assert len(set(found.tolist())) >= 8  # 26 windows of 13 samples at random: 11.4 samples on average


@pytest.mark.parametrize(("block", "group"), [((1, 11), 30_000), ((1, 1), 6_000), ((1, 4), 6_000)])
def test_few_bytes_are_in_memory_and_each_is_read_about_once(block, group):
    given = data.TrajectoryWindows(trajectories(block, samples=60), history=1, horizon=1)
    streamed = data.Streamed(given, group=group)
    batches, size = 60 * 10 // 8, 8
    for k in range(batches):
        streamed[streamed.batch_rows(size, 0, k)]
        assert streamed._recent._total <= 2 * (group + int(streamed._bytes.max()))
    reader, total = recorded(given.trajectories), 60 * FRAMES * FRAME
    assert reader.largest <= FRAMES * FRAME  # a trajectory
    assert reader.read <= 2.2 * total  # once, twice where runs are as short as windows, and the beginning of the next


def test_the_next_group_is_read_little_by_little():
    given = data.TrajectoryWindows(trajectories((1, 11), samples=60))
    streamed = data.Streamed(given, group=40_000)  # 9 trajectories
    size, reads = 5, []
    for k in range(100):
        before = len(recorded(given.trajectories).calls)
        streamed[streamed.batch_rows(size, 0, k)]
        reads.append(len(recorded(given.trajectories).calls) - before)
    assert reads[0] >= 4  # the first batch has nothing read ahead
    assert max(reads[1:]) <= 6 < 9  # others read a share of the next group, and what the first left


def test_what_is_in_memory_does_not_change_values():
    one, other = (data.Streamed(windows(), group=12_000) for _ in range(2))
    for k in (3, 0, 17, 3, 16, 1):
        other[other.batch_rows(4, 9, k + 1)]
        equal(one[one.batch_rows(4, 0, k)], other[one.batch_rows(4, 0, k)])


def test_several_threads_may_read():
    streamed = data.Streamed(windows(), group=12_000)
    expected = streamed.windows[:]
    failed = []

    def read(seed):
        for k in range(10):
            rows = np.random.default_rng((seed, k)).integers(0, len(streamed), 6)
            if not (streamed[rows]["frames"] == expected["frames"][rows]).all():
                failed.append(k)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


def test_maps_are_streamed_too():
    plain = data.TrajectoryWindows(trajectories(length=1), history=0, horizon=1)
    streamed = data.Streamed(plain, group=3000)
    rows = streamed.batch_rows(5, 0, 1)
    equal(streamed[rows], plain[rows])
    assert sorted(np.concatenate([streamed.batch_rows(SAMPLES, 0, k) for k in range(1)])) == list(range(SAMPLES))


def test_parts_keep_the_group():
    streamed = data.Streamed(windows(), group=12_000).take(slice(2, 6))
    assert len(streamed) == 4 * streamed.windows.of_each
    equal(streamed[[1, 2]], streamed.windows[[1, 2]])


def test_impossible_numbers_are_refused():
    with pytest.raises(ValueError, match="Expected a group of at least 1 byte, got 0"):
        data.Streamed(windows(), group=0)
    streamed = data.Streamed(windows())
    with pytest.raises(ValueError, match=r"A batch holds 1 to .* samples, as many as there are, got 0"):
        streamed.batch_rows(0, 0, 0)
    with pytest.raises(ValueError, match="Batches are numbered from 0, got -1"):
        streamed.batch_rows(2, 0, -1)
    with pytest.raises(IndexError, match="out of bounds"):
        streamed[np.array([len(streamed)])]


def test_windows_in_memory_are_those_that_are_read():
    found = windows().in_memory()
    assert type(found.trajectories.reader) is data.InMemory is not type(windows().trajectories.reader)
    equal(found[:], windows()[:])


def test_the_order_of_a_data_set_is_used_if_it_has_one():
    plain, streamed = windows(), data.Streamed(windows(), group=12_000)
    np.testing.assert_array_equal(data.batch_rows(plain, 5, 3, 2), data.rows(len(plain), 5, 3, 2))
    np.testing.assert_array_equal(data.batch_rows(streamed, 5, 3, 2), streamed.batch_rows(5, 3, 2))
    assert isinstance(streamed, data.Ordered)
    assert not isinstance(plain, data.Ordered)


def test_gathered_windows_are_those_that_are_read():
    plain = windows()
    rows = np.array([5, 0, len(plain) - 1, 20])
    equal(plain.fetch(plain.source(), plain.item(rows)), plain[rows])
    assert plain.nbytes == sum(array.nbytes for array in plain.source().values())


def test_pieces_hold_all_samples_once():
    given = trajectories()
    pieces = list(data.in_pieces(given, limit=3 * given.layout.nbytes // SAMPLES))
    assert [mask.sum() for _, mask in pieces] == [3, 3, 3, 3, 1]
    for name, array in given[:].items():
        np.testing.assert_array_equal(np.concatenate([batch[name][mask] for batch, mask in pieces]), array)
    assert [len(mask) for _, mask in data.in_pieces(given, limit=1)] == [1] * SAMPLES


def test_the_next_value_is_computed_meanwhile():
    begun = []

    def values():
        for i in range(4):
            begun.append(i)
            yield i

    found = data.ahead(values())
    assert next(found) == 0
    deadline = time.time() + 10
    while begun != [0, 1] and time.time() < deadline:
        time.sleep(0.001)
    assert begun == [0, 1]
    assert list(found) == [1, 2, 3]


def test_an_error_of_the_thread_is_raised():
    given = trajectories()
    recorded(given)._frames[8, 0, 0, 0, 0] = np.inf
    with pytest.raises(ValueError, match="the first is sample 8"):
        list(data.in_pieces(given, limit=1))
