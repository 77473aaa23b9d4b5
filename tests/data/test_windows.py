import numpy as np
import pytest

from sciml import train
from sciml.data import Dataset, Pairs, Windows, in_order, joined_frames, rows

SAMPLES, TIME, CHANNELS, NX, NY = 3, 9, 2, 4, 5


def fields():
    """Every value tells its sample, frame, channel and place."""
    shape = (SAMPLES, TIME, CHANNELS, NX, NY)
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


@pytest.mark.parametrize(("history", "horizon", "stop"), [(1, 1, None), (3, 2, None), (2, 1, 6), (4, 5, 9)])
def test_windows_are_consecutive_frames(history, horizon, stop):
    array = fields()
    data = Windows(array, history=history, horizon=horizon, stop=stop)
    assert isinstance(data, Dataset)
    expected = []
    for sample in range(SAMPLES):
        for start in range((stop or TIME) - history - horizon + 1):
            middle = start + history
            seen = [array[sample, i, c] for i in range(start, middle) for c in range(CHANNELS)]
            later = [array[sample, i, c] for i in range(middle, middle + horizon) for c in range(CHANNELS)]
            expected.append((np.stack(seen), np.stack(later)))
    assert len(data) == len(expected)
    x, y = data[np.arange(len(data))]
    assert x.dtype == y.dtype == np.float32
    np.testing.assert_array_equal(x, np.stack([x for x, _ in expected]))
    np.testing.assert_array_equal(y, np.stack([y for _, y in expected]))
    for part in (np.array([2, 0, 2]), slice(None, None, 2), np.array([-1])):
        np.testing.assert_array_equal(data[part][0], x[part])
        np.testing.assert_array_equal(data[part][1], y[part])
    np.testing.assert_array_equal(data[1][1], y[1])
    with pytest.raises(IndexError):
        data[np.array([len(data)])]


def test_the_engine_takes_windows():
    data = Windows(fields(), history=3)
    for limit in (0, None):
        batches = train.batches(data, lambda k: rows(len(data), 4, 0, k), limit=limit)
        x, y = batches.fetch(batches.source, batches.item(1))
        chosen = rows(len(data), 4, 0, 1)
        np.testing.assert_array_equal(x, data[chosen][0])
        np.testing.assert_array_equal(y, data[chosen][1])
    assert sum(mask.sum() for _, mask in in_order(data, 5)) == len(data) == SAMPLES * (TIME - 3)


def test_trajectories_of_pairs():
    array = fields()
    later = array[:, 1:].reshape(SAMPLES, -1, NX, NY)
    np.testing.assert_array_equal(joined_frames(Pairs(array[:, 0], later)), array)
    with pytest.raises(ValueError, match=r"whole frames of 2 channels as x does, got 15 channels\. Only pairs"):
        joined_frames(Pairs(array[:, 0], later[:, 1:]))


def spoiled():
    array = fields()
    array[1, 2, 0, 0, 0] = np.inf
    return array


@pytest.mark.parametrize(
    ("array", "settings", "message"),
    [
        (np.ones((3, 9, 4)), {}, r"\(samples, time, channels, \*space\), got float64 of shape \(3, 9, 4\)\. Add a"),
        (np.ones((3, 9, 1, 4), int), {}, "Expected floating-point trajectories .* got int64"),
        (np.ones((0, 9, 1, 4)), {}, r"shape \(0, 9, 1, 4\)"),
        (fields(), {"history": 0}, "history >= 1 and horizon >= 1, got 0 and 1"),
        (fields(), {"horizon": 0}, "got 1 and 0"),
        (fields(), {"stop": 10}, "stop from 1 to the 9 frames that there are, got 10"),
        (fields(), {"history": 6, "horizon": 4}, "History 6 and horizon 4 need 10 frames, got 9 frames and stop None"),
        (fields(), {"history": 3, "stop": 3}, "need 4 frames, got 9 frames and stop 3. Use shorter windows"),
        (spoiled(), {}, "1 of 3 trajectories have NaN or infinite values, the first is 1"),
    ],
)
def test_bad_trajectories(array, settings, message):
    with pytest.raises(ValueError, match=message):
        Windows(array, **settings)
