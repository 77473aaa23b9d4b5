"""What tells one data set from another: a changed value, another order, other types; rows alone of large data."""

import numpy as np
import pytest

from sciml import data
from sciml.data import _fingerprint


def arrays(count=7):
    rng = np.random.default_rng(0)
    return data.Arrays(rng.normal(size=(count, 3, 5)), rng.integers(0, 9, count))


def test_a_fingerprint_says_what_the_data_are_and_is_that_of_equal_data():
    found = data.fingerprint(arrays())
    assert (found["samples"], found["shapes"], found["dtypes"]) == (7, [[3, 5], []], ["float64", "int64"])
    assert data.fingerprint(arrays()) == found


@pytest.mark.parametrize("change", ["value", "order", "type"])
def test_other_data_have_another_fingerprint(change):
    x, labels = arrays()[:]
    if change == "value":
        x = x.copy()
        x[6, 2, 4] = np.nextafter(x[6, 2, 4], 9)
    elif change == "order":
        x, labels = x[::-1], labels[::-1]
    else:
        x = x.astype(np.float32)
    assert data.fingerprint(data.Arrays(x, labels)) != data.fingerprint(arrays())


def test_of_large_data_equally_spaced_samples_are_hashed(monkeypatch):
    monkeypatch.setattr(_fingerprint, "_WHOLE", 100)  # bytes
    monkeypatch.setattr(_fingerprint, "_ROWS", 3)
    seen = []

    class Recorded(data.Arrays):
        def __getitem__(self, rows):
            seen.append(np.asarray(rows).tolist())
            return super().__getitem__(rows)

    x, labels = arrays(9)[:]
    found = data.fingerprint(Recorded(x, labels))
    assert seen[-1] == [0, 4, 8]
    x = x.copy()
    x[4] += 1
    assert data.fingerprint(data.Arrays(x, labels)) != found
