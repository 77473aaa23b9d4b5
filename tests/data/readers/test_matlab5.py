import struct

import numpy as np
import pytest
import scipy.io
from reading import assert_reads, opened, values

from sciml.data._readers._matlab5 import FORMAT
from sciml.files import Damaged
from sciml.grid import Dirichlet, Grid, Periodic


def data(tmp_path, arrays, *, compressed=True, **hints):
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, arrays, do_compression=compressed)
    return opened(FORMAT, path, **hints)


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("space", [(9,), (9, 7), (5, 4, 3)])
def test_darcy(tmp_path, space, compressed):
    coeff, sol = values(6, *space).astype(np.float64), values(6, *space, seed=1)
    found = data(tmp_path, {"coeff": coeff, "sol": sol, "Kcoeff": coeff}, compressed=compressed)
    assert_reads(found, sol[:, None, None], coeff[:, None])
    assert found.grid == Grid(space, 1.0, Dirichlet(0.0))
    np.testing.assert_allclose(found.grid.points()[0], np.linspace(0, 1, space[0]), rtol=1e-14)
    assert "Arrays that are not read: Kcoeff." in found.layout.notes


def test_burgers_states(tmp_path):
    a, u = values(1203, 16), values(1203, 16, seed=1)
    found = data(tmp_path, {"a": a, "u": u, "a_smooth": a})
    assert_reads(found, u[:, None, None], a[:, None])
    assert found.grid == Grid((16,), 1.0, Periodic())
    np.testing.assert_array_equal(found.layout.splits["train"], np.arange(1000))
    np.testing.assert_array_equal(found.layout.splits["test"], np.arange(1003, 1203))
    assert data(tmp_path, {"a": a[:1199], "u": u[:1199]}).layout.splits == {}


@pytest.mark.parametrize("space", [(8,), (8, 6), (5, 4, 3)])
@pytest.mark.parametrize("held", ["aut", "au", "ut"])
def test_vorticity(tmp_path, space, held):
    u = values(3, *space, 7)
    arrays = {"a": values(3, *space), "u": u, "t": np.arange(1.0, 8.0)[None]}
    found = data(tmp_path, {name: arrays[name] for name in held})
    assert_reads(found, np.moveaxis(u, -1, 1)[:, :, None])
    assert found.grid == Grid(space, 1.0, Periodic())
    if "t" in held:
        np.testing.assert_array_equal(found.layout.times, np.arange(1.0, 8.0))


def test_burgers_trajectories(tmp_path):
    y = values(4, 5, 16)
    arrays = {"output": y, "visc": 0.01, "tspan": np.linspace(0, 1, 5), "x": np.arange(16) / 16}
    found = data(tmp_path, {"input": y[:, 0], **arrays})
    assert_reads(found, y[:, :, None], parameters=np.full((4, 1), 0.01))
    np.testing.assert_array_equal(found.layout.times, np.linspace(0, 1, 5))
    assert found.grid == Grid((16,), 1.0, Periodic())
    before = values(4, 16, seed=3)
    found = data(tmp_path, {"input": before, **arrays, "x": np.linspace(0, 1, 17)})
    assert_reads(found, np.concatenate([before[:, None], y], axis=1)[:, :, None])
    assert "The times of the frames are not known." in found.layout.notes
    assert "The 17 coordinates x do not belong to the 16 points: not read." in found.layout.notes


def test_hints_of_other_arrays(tmp_path):
    arrays = {"w": values(3, 5, 8), "k": values(3, 8), "note": "a text", "cells": np.array([{}, 1], dtype=object)}
    found = data(tmp_path, arrays, y="w", x="k", axes=("sample", "time", "x"))
    assert_reads(found, arrays["w"][:, :, None], arrays["k"][:, None])
    with pytest.raises(ValueError, match=r"a\.mat: expected x and y.*--y w --axes"):
        data(tmp_path, arrays)
    with pytest.raises(ValueError, match=r"a\.mat: expected arrays of numbers, got note \(char\)\. Save plain arrays"):
        data(tmp_path, {"note": "a text"})


@pytest.mark.parametrize("kind", ["f4", "f8", "i1", "u2", "i8", "?"])
def test_types(tmp_path, kind):
    coeff = (values(3, 5, 4) * 100 > 0).astype(kind)
    assert_reads(data(tmp_path, {"coeff": coeff, "sol": coeff}), coeff[:, None, None], coeff[:, None])


def test_complex_numbers_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"a\.mat: expected real numbers in sol, got complex128"):
        data(tmp_path, {"coeff": values(3, 5), "sol": values(3, 5) * 1j})


@pytest.mark.parametrize("kind", range(16))
def test_types_of_values_that_are_not_there_are_refused(tmp_path, kind):
    data(tmp_path, {"coeff": values(4, 5), "sol": values(4, 5)}, compressed=False)
    path = tmp_path / "a.mat"
    content, tag = path.read_bytes(), struct.pack("<II", 7, 80)
    assert content.count(tag) == 2
    path.write_bytes(content.replace(tag, struct.pack("<II", kind, 80)))
    if kind in (5, 6, 7):  # other values of 4 bytes
        assert opened(FORMAT, path).layout.shape == (4, 1, 1, 5)
    else:
        with pytest.raises(Damaged, match=r"a\.mat is truncated or damaged \((sol|coeff): "):
            opened(FORMAT, path)[:]


def test_zero_samples_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"a\.mat: expected values in sol, got none: its shape is \(0, 5, 4\)"):
        data(tmp_path, {"coeff": values(0, 5, 4), "sol": values(0, 5, 4)})


def test_nan_is_refused_when_it_is_read(tmp_path):
    sol = values(4, 5)
    sol[2, 1] = np.nan
    with pytest.raises(ValueError, match="the first is sample 2"):
        data(tmp_path, {"coeff": values(4, 5), "sol": sol})[:]


@pytest.mark.parametrize("compressed", [True, False])
def test_cut_off_files_are_refused(tmp_path, compressed):
    data(tmp_path, {"coeff": values(4, 5), "sol": values(4, 5)}, compressed=compressed)
    path = tmp_path / "a.mat"
    content = path.read_bytes()
    for size in (130, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:size])
        with pytest.raises(Damaged, match=r"a\.mat is truncated or damaged \(.*Copy or download it again"):
            opened(FORMAT, path)


def test_changed_bytes_are_refused(tmp_path):
    data(tmp_path, {"coeff": values(40, 50), "sol": values(40, 50)})
    path = tmp_path / "a.mat"
    content = bytearray(path.read_bytes())
    content[300:310] = bytes(10)
    path.write_bytes(content)
    with pytest.raises(Damaged, match="truncated or damaged"):
        opened(FORMAT, path)[:]
    path.write_bytes(content[:128] + b"\x63" + content[129:])
    with pytest.raises(Damaged, match="a part of the unknown type 99"):
        opened(FORMAT, path)


def test_huge_declared_shapes_are_refused(tmp_path):
    data(tmp_path, {"coeff": values(4, 5), "sol": values(4, 5)}, compressed=False)
    path = tmp_path / "a.mat"
    content, shape = path.read_bytes(), struct.pack("<ii", 4, 5)
    assert content.count(shape) == 2
    path.write_bytes(content.replace(shape, struct.pack("<ii", 2**30, 2**30)))
    with pytest.raises(Damaged, match="are more values than it can hold"):
        opened(FORMAT, path)


def test_two_variables_of_one_name_are_refused(tmp_path):
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"aa": values(4, 5), "bb": values(4, 5)})
    path.write_bytes(path.read_bytes().replace(b"bb", b"aa"))
    with pytest.raises(ValueError, match=r"a\.mat: expected variables of different names, got aa, aa\. Rename one"):
        opened(FORMAT, path)
