import io

import numpy as np
import pytest

from sciml.data import read_npz, subsample
from sciml.grid import Periodic


def test_published_pairs(published_data):
    fine = read_npz(published_data / "darcy_test_32.npz")
    coarse = read_npz(published_data / "darcy_test_16.npz")
    assert fine.x.shape == fine.y.shape == (50, 1, 32, 32)
    thinned = subsample(fine, 2)
    np.testing.assert_array_equal(thinned.x, coarse.x)
    np.testing.assert_array_equal(thinned.y, coarse.y)
    assert thinned.grid == coarse.grid
    for points in coarse.grid.points():
        np.testing.assert_allclose(points, np.arange(16) / 16, rtol=1e-15)
    wall, beside, far = (np.abs(fine.y[:, 0, i]).mean() for i in (0, 1, -1))
    assert wall < 0.05 * min(beside, far)  # index 0 is on the wall, the last index is a spacing away from it


def test_other_points(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.ones((3, 8)), y=np.zeros((3, 8)))
    data = read_npz(tmp_path / "a.npz", sides=(Periodic(), Periodic()), extent=2.0)
    np.testing.assert_array_equal(data.grid.points()[0], np.arange(8) / 4)
    assert data.attributes == {"source": "a.npz"}


def npz(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


GOOD = npz(x=np.ones((3, 8)), y=np.ones((3, 8)))
SINGLE = io.BytesIO()
np.save(SINGLE, np.ones(3))


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (GOOD[:-5], "to be an .npz file"),
        (GOOD[: len(GOOD) // 2], "to be an .npz file"),
        (b"", "to be an .npz file"),
        (b"no archive at all", "to be an .npz file"),
        (SINGLE.getvalue(), "to be an .npz file with .* File is not a zip file"),
        (npz(x=np.ones((3, 8)), u=np.ones((3, 8))), r"holds the arrays \['u', 'x'\], \['y'\] missing"),
        (npz(x=np.array([{}]), y=np.ones((3, 8))), "plain arrays x and y, but Object arrays"),
        (npz(x=np.ones((3, 8)), y=np.ones((3, 5, 8))), r"of one shape .* got \(3, 8\) and \(3, 5, 8\).*Pairs"),
        (npz(x=np.full((3, 8), np.nan), y=np.ones((3, 8))), "x has NaN"),
    ],
)
def test_bad_files(contents, message, tmp_path):
    (tmp_path / "a.npz").write_bytes(contents)
    with pytest.raises(ValueError, match=message):
        read_npz(tmp_path / "a.npz")


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file .*a\.npz\. Check the path"):
        read_npz(tmp_path / "a.npz")
