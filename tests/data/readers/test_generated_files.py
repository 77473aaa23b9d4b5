import dataclasses
import json

import h5py
import numpy as np
import pytest
from hdf5_files import change_hdf5

from sciml.data import GENERATORS, Channel, draw, generate, joined_frames, open_data
from sciml.data._readers import _pairs
from sciml.files import Damaged
from sciml.pdes import Darcy, FitzHughNagumo, Heat, KdV, NavierStokes

SHORT = {
    "kdv": KdV(resolution=16, frames=3, time=0.03, step=0.01),
    "navier": NavierStokes(resolution=8, frames=3, interval=0.02, step=0.01),
    "fitzhugh": FitzHughNagumo(resolution=8, frames=2, interval=0.02),
}
TIMES = {"kdv": [0, 0.01, 0.02, 0.03], "navier": [0.02, 0.04, 0.06], "fitzhugh": [0, 0.02, 0.04]}


@pytest.mark.parametrize("name", SHORT)
def test_trajectories(tmp_path, name):
    path, problem = tmp_path / "a", SHORT[name]
    generate(problem, path, n=3, seed=0)
    data = open_data(path)
    with h5py.File(path) as file:
        both = np.concatenate((file["x"][:], file["y"][:]), axis=1)
        c = file["x"].shape[1]
    frames = both.reshape(3, -1, c, *both.shape[2:])
    np.testing.assert_array_equal(data[:]["frames"], frames)
    for times in (slice(1, 3), slice(0, 3, 2), slice(0, 1)):
        np.testing.assert_array_equal(data.reader.frames(slice(1, 3), times), frames[1:3, times])
    np.testing.assert_allclose(data.layout.times, TIMES[name], rtol=1e-12)  # rounding of float64
    assert data.grid == problem.grid
    np.testing.assert_array_equal(joined_frames(draw(problem, n=3, seed=0)), frames)
    assert all(" t=" not in one.name for one in data.layout.channels)


def test_maps(tmp_path):
    path = tmp_path / "a"
    generate(Darcy(resolution=8), path, n=3, seed=0)
    data = open_data(path)
    with h5py.File(path) as file:
        np.testing.assert_array_equal(data.pairs().x, file["x"][:])
        np.testing.assert_array_equal(data.pairs().y, file["y"][:])
    assert data.layout.fixed == (Channel("permeability"),)
    assert data.layout.format == "sciml pairs"


def with_parameters(names, array):
    def change(file):
        if "parameters" in file:
            del file["parameters"]
        file["parameters"] = array
        file["parameters"].attrs["names"] = names

    return change


def test_parameters(tmp_path):
    path = tmp_path / "a"
    generate(Darcy(resolution=8), path, n=3, seed=0)
    table = np.arange(6, dtype="f4").reshape(3, 2)
    change_hdf5(path, with_parameters(json.dumps(["nu", "beta"]), table))
    data = open_data(path)
    assert data.layout.parameters == ("nu", "beta")
    np.testing.assert_array_equal(data[1:]["parameters"], table[1:])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (with_parameters('["nu"]', np.ones((3, 2))), "expected real numbers .sample, parameter. in parameters"),
        (with_parameters("{", np.ones((3, 2))), "and names None"),
        (with_parameters('["nu", 3]', np.ones((3, 2))), "expected real numbers .sample, parameter. in parameters"),
        (
            lambda file: file.attrs.__setitem__("samples", 4),
            "is not a data set of `sciml generate`.*expected x of shape",
        ),
        (lambda file: file.attrs.__setitem__("version", 1), "expected version 2 of a file with a digest"),
        (lambda file: file["y"].attrs.__setitem__("channels", '["a", "b"]'), "expected y of shape"),
    ],
)
def test_contradictions_are_named(tmp_path, change, message):
    path = tmp_path / "a"
    generate(Darcy(resolution=8), path, n=3, seed=0)
    change_hdf5(path, change)
    with pytest.raises(ValueError, match=message) as caught:
        open_data(path)
    assert str(caught.value).startswith(str(path))


def test_the_digest_is_compared_first(tmp_path):
    path = tmp_path / "a"
    generate(Darcy(resolution=8), path, n=3, seed=0)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(Damaged, match=r"its bytes differ from its digest"):
        open_data(path)


def test_files_of_the_first_version(request):
    path = request.path.parents[1] / "pairs_version_1.h5"
    data = open_data(path)
    with h5py.File(path) as file:
        np.testing.assert_array_equal(data[:]["frames"][:, 0], file["y"][:])
        np.testing.assert_array_equal(data[:]["fixed"], file["x"][:])


def test_files_that_are_joined(tmp_path):
    for seed in (0, 1):
        generate(SHORT["kdv"], tmp_path / f"{seed}.h5", n=2 + seed, seed=seed)
    data = open_data(tmp_path)
    assert data.layout.shape == (5, 4, 1, 16)
    np.testing.assert_array_equal(data[2:]["frames"], open_data(tmp_path / "1.h5")[:]["frames"])


@pytest.mark.parametrize("name", GENERATORS)
def test_times_of_all_generators(name):
    problem = GENERATORS[name]()
    settings = json.loads(json.dumps(dataclasses.asdict(problem)))
    found = _pairs.Description(1, problem.grid, problem.inputs, problem.outputs, settings)
    if "frames" not in settings:
        assert not _pairs._frames(settings)
        return
    frames = len(problem.outputs) // len(problem.inputs) + 1
    times = _pairs._times(found, frames)
    named = [float(one.partition(" t=")[2]) for one in problem.outputs[:: len(problem.inputs)]]
    np.testing.assert_allclose(times[1:], named, rtol=1e-5)  # names have six digits
    if frames > 2:
        np.testing.assert_allclose(np.diff(times), times[2] - times[1], rtol=1e-4)


def test_constants_that_differ_between_samples(tmp_path):
    path, problem = tmp_path / "a", Heat(dimensions=1, resolution=16, frames=2, diffusivity=(0.001, 0.003))
    generate(problem, path, n=3, seed=0)
    data = open_data(path)
    assert data.layout.parameters == problem.parameters == ("diffusivity",)
    np.testing.assert_array_equal(data[:]["parameters"], draw(problem, n=3, seed=0).parameters)
