import io
import warnings
import zipfile

import numpy as np
import pytest
from hdf5_files import flipped

from sciml.data import read_arrays, read_npz, subsample
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


def header(shape):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": shape})
    return file.getvalue()


def zipped(method=zipfile.ZIP_DEFLATED, **members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in {"y": header((1,)) + bytes(8), **members}.items():
            archive.writestr(f"{name}.npy", content)
    return file.getvalue()


def patched(content, place, new):
    """An archive with other bytes in the entry of its last member, in front of the member and in the directory."""
    for sign, shift in ((b"PK\x03\x04", 0), (b"PK\x01\x02", 2)):
        at = content.rindex(sign) + 4 + shift + place
        content = content[:at] + new + content[at + len(new) :]
    return content


def bomb():
    """A member that declares 1 GiB."""
    return patched(zipped(x=header((2**27,)) + bytes(64)), 18, (2**30).to_bytes(4, "little"))


def encrypted():
    return patched(zipped(x=header((8,)) + bytes(64)), 2, b"\1")


def twice():
    with warnings.catch_warnings(action="ignore"):  # zipfile warns of the second name
        file = io.BytesIO(GOOD)
        with zipfile.ZipFile(file, "a") as archive:
            archive.writestr("x.npy", header((1,)) + bytes(8))
    return file.getvalue()


def test_arrays_are_those_of_numpy(tmp_path):
    given = {
        "a": np.arange(6.0).reshape(2, 3),
        "b": np.asfortranarray(np.arange(24, dtype=np.int16).reshape(2, 3, 4)),
        "c": np.array("text"),
        "d": np.zeros((0, 3)),
        "e": np.array([1 + 2j], np.complex64),
        "f": np.array(["2020-01-01"], "M8[D]"),
        "g": np.zeros(3, [("t", "<f4"), ("n", "<i2")]),
        "h": np.arange(4, dtype=">f8"),
        "zeros": np.zeros(2**20),
    }
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", **given)
        for (name, expected), found in zip(given.items(), read_arrays(tmp_path / "a.npz", *given), strict=True):
            assert (found.dtype, found.shape, name) == (expected.dtype, expected.shape, name)
            np.testing.assert_array_equal(found, expected)
            assert found.flags.writeable


def after_flips(path, content, bits):
    """For each bit, the array x or the error of the file in which it is another one."""
    for bit in bits:
        path.write_bytes(flipped(content, bit))
        try:
            yield read_arrays(path, "x")[0]
        except ValueError as error:
            yield str(error)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_flipped_bits_never_give_another_array(method, tmp_path):
    content = zipped(method, x=header((20,)) + np.random.default_rng(0).bytes(160))
    (tmp_path / "a.npz").write_bytes(content)
    (expected,) = read_arrays(tmp_path / "a.npz", "x")
    noticed = 0
    for found in after_flips(tmp_path / "a.npz", content, range(0, 8 * len(content), 3)):
        if isinstance(found, str):
            assert found.startswith(f"Expected {tmp_path}")
            assert "\n" not in found
            noticed += 1
        else:  # names of others, dates, versions
            np.testing.assert_array_equal(found, expected)
    assert noticed > 0.4 * 8 / 3 * len(content)


def test_every_flipped_bit_of_an_array_is_noticed(tmp_path):
    content = zipped(zipfile.ZIP_STORED, x=header((20,)) + bytes(160))
    begin, end = content.rindex(b"PK\x03\x04") + 35, content.index(b"PK\x01\x02")
    for found in after_flips(tmp_path / "a.npz", content, range(8 * begin, 8 * end, 5)):
        assert isinstance(found, str)


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (GOOD[:-5], "to be an .npz file"),
        (GOOD[: len(GOOD) // 2], "to be an .npz file"),
        (b"", "to be an .npz file"),
        (b"no archive at all", "to be an .npz file"),
        (SINGLE.getvalue(), "to be an .npz file with .* File is not a zip file"),
        (npz(x=np.ones((3, 8)), u=np.ones((3, 8))), r"holds the arrays \['u', 'x'\], \['y'\] missing"),
        (npz(x=np.array([{}]), y=np.ones((3, 8))), "plain arrays x and y, but x is made of Python objects"),
        (zipped(x=header((2**40, 8)) + bytes(64)), r"x declares float64 of shape \(1099511627776, 8\), .* holds 64"),
        (zipped(x=header((-1, 8)) + bytes(64)), r"x declares float64 of shape \(-1, 8\), -64 bytes, and holds 64"),
        (zipped(x=header((2, 8)) + bytes(64)), r"x declares float64 of shape \(2, 8\), 128 bytes, and holds 64"),
        (zipped(x=b"no array at all"), "x and y, but the magic string is not correct"),
        (zipped(x=b"\x93NUMPY\x03\x00" + header((1, 8))[8:] + bytes(64)), r"has the .npy version \(3, 0\)"),
        (zipped(x=header((1, 8)).replace(b"(1, 8)", b"f(1,8)") + bytes(64)), "x and y, but malformed node"),
        (zipped(x=header((1, 8)) + bytes(64), method=zipfile.ZIP_BZIP2), "x is compressed by method 12, expected none"),
        (zipped(x=header((1, 8)).replace(b"}", b" ") + bytes(64)), "x and y, but .*EOF in multi-line statement"),
        (bomb(), r"x declares 1073741824 bytes in \d+ of the \d+ bytes of the file"),
        (twice(), "it holds two arrays 'x'"),
        (encrypted(), "password required"),
        (npz(x=np.ones((3, 8)), y=np.ones((3, 5, 8))), r"of one shape .* got \(3, 8\) and \(3, 5, 8\).*Pairs"),
        (npz(x=np.full((3, 8), np.nan), y=np.ones((3, 8))), "x has NaN"),
    ],
)
def test_bad_files(contents, message, tmp_path):
    (tmp_path / "a.npz").write_bytes(contents)
    with pytest.raises(ValueError, match=message):
        read_npz(tmp_path / "a.npz")


def test_long_reasons_are_cut(tmp_path):
    at = GOOD.index(b"PK\x03\x04") + 26
    (tmp_path / "a.npz").write_bytes(GOOD[:at] + b"\xff\xff" + GOOD[at + 2 :])  # a name that is all of the file
    with pytest.raises(ValueError, match=r"to be an \.npz file") as found:
        read_npz(tmp_path / "a.npz")
    assert len(str(found.value)) < 1000


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file .*a\.npz\. Check the path"):
        read_npz(tmp_path / "a.npz")
