import sys

import numpy as np
import pytest

from sciml import data


def test_the_parts_of_the_digits_are_all_images_once():
    from sklearn.datasets import load_digits

    parts = data.digits()
    assert {name: len(part) for name, part in parts.items()} == {"train": 1237, "validation": 200, "test": 360}
    images, labels = (np.concatenate(arrays) for arrays in zip(*(part[:] for part in parts.values()), strict=True))
    found = np.concatenate((16 * images.reshape(-1, 64), labels[:, None]), axis=1)
    expected = np.column_stack(load_digits(return_X_y=True))
    np.testing.assert_array_equal(found[np.lexsort(found.T)], expected[np.lexsort(expected.T)])


def test_the_digits_need_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ModuleNotFoundError, match=r"come with scikit-learn: pip install 'sciml-jax\[datasets\]'"):
        data.digits()


def test_arrays_are_indexed_together():
    x, y = np.arange(12.0).reshape(4, 3), np.arange(4)
    both = data.Arrays(x, y)
    assert len(both) == 4
    assert isinstance(both, data.Dataset)
    rows = np.array([2, 0])
    for one, expected in zip(both[rows], (x[rows], y[rows]), strict=True):
        np.testing.assert_array_equal(one, expected)
    with pytest.raises(ValueError, match=r"arrays of one length, .* got the lengths \[4, 3\]"):
        data.Arrays(x, y[:3])
    with pytest.raises(ValueError, match=r"got the lengths \[\]"):
        data.Arrays()
