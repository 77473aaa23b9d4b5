import dataclasses
import json
import pathlib
import resource
import tracemalloc
from typing import ClassVar

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hdf5_files import change_hdf5, flipped

import sciml
from sciml.data import GENERATORS, Parametrised, Problem, cached, draw, generate, read
from sciml.data._hdf5 import describe
from sciml.files import write_hdf5
from sciml.grid import Dirichlet, Grid, Neumann, Periodic
from sciml.pdes import Burgers, Darcy


@dataclasses.dataclass(frozen=True)
class Noise:
    """White noise and its negative and square; samples above `limit` on average are NaN."""

    inputs: ClassVar[tuple[str, ...]] = ("noise",)
    outputs: ClassVar[tuple[str, ...]] = ("negative", "square")
    size: int = 5
    limit: float = 1e9

    @property
    def grid(self):
        return Grid((self.size, 8), (1.0, 2.0), ((Dirichlet(0.5), Neumann(0.0)), Periodic()))

    def sample(self, key):
        x = jax.random.normal(key, (1, self.size, 8), float)
        return x, jnp.where(jnp.mean(x) < self.limit, jnp.concatenate((-x, x**2)), jnp.nan)


@dataclasses.dataclass(frozen=True)
class Scaled:
    """White noise and its product with two factors that differ from sample to sample."""

    inputs: ClassVar[tuple[str, ...]] = ("noise",)
    outputs: ClassVar[tuple[str, ...]] = ("once", "twice")
    parameters: ClassVar[tuple[str, ...]] = ("first", "second")
    grid: ClassVar[Grid] = Grid((6,))

    def draw_parameters(self, key):
        return jax.random.uniform(jax.random.fold_in(key, 7), (2,), float, jnp.array([0.0, 5.0]), jnp.array([1.0, 9.0]))

    def sample(self, key):
        x = jax.random.normal(key, (1, 6), float)
        return x, x * self.draw_parameters(key)[:, None]


@dataclasses.dataclass(frozen=True)
class Liar(Noise):
    """Promises more channels than it draws."""

    inputs: ClassVar[tuple[str, ...]] = ("noise", "more noise")


@pytest.fixture
def file(tmp_path):
    generate(Noise(), tmp_path / "new" / "noise.h5", n=10, seed=4, batch=3)
    return tmp_path / "new" / "noise.h5"


def test_a_file_holds_what_draw_gives(file):
    drawn, stored = draw(Noise(), n=10, seed=4, batch=10), read(file)
    assert stored.x.dtype == stored.y.dtype == np.float32
    np.testing.assert_array_equal(stored.x, drawn.x)
    np.testing.assert_array_equal(stored.y, drawn.y)
    assert (stored.grid, stored.inputs, stored.outputs) == (drawn.grid, drawn.inputs, drawn.outputs)
    assert stored.attributes == drawn.attributes
    assert stored.attributes["settings"] == {"size": 5, "limit": 1e9}
    assert (stored.attributes["seed"], stored.attributes["sciml_version"]) == (4, sciml.__version__)
    assert [path.name for path in file.parent.iterdir()] == ["noise.h5"]


def test_the_file_explains_itself(file):
    with h5py.File(file) as content:
        assert [dim.label for dim in content["x"].dims] == ["sample", "channel", "x1", "x2"]
        for name, axis, points in (("x", 2, 0), ("x", 3, 1), ("y", 2, 0), ("y", 3, 1)):
            np.testing.assert_array_equal(content[name].dims[axis][0][:], Noise().grid.points()[points])
        assert json.loads(content["y"].attrs["channels"]) == ["negative", "square"]
        assert content["x1"].attrs["units"] == content["x"].attrs["units"] == "1"
        assert content["x"].chunks == (1, 1, 5, 8)


def test_sample_i_depends_on_seed_and_i_only():
    problem = Darcy(resolution=16)
    long, short = draw(problem, n=7, seed=1, batch=4), draw(problem, n=3, seed=1, batch=2)
    np.testing.assert_array_equal(long.x[:3], short.x)
    np.testing.assert_allclose(long.y[:3], short.y, rtol=2.5e-7)  # two roundings to float32
    with jax.enable_x64(True):
        a, u = jax.jit(problem.sample)(jax.random.fold_in(jax.random.key(1), 5))
    np.testing.assert_array_equal(long.x[5], a)
    np.testing.assert_allclose(long.y[5], u, rtol=2.5e-7)
    assert not np.array_equal(long.x, draw(problem, n=7, seed=2).x)
    assert len(np.unique(long.x, axis=0)) == 7
    assert jnp.ones(1).dtype == jnp.float32  # float64 was on inside only


def test_parameters_of_samples_are_stored(tmp_path):
    assert isinstance(Scaled(), Parametrised)
    generate(Scaled(), tmp_path / "a.h5", n=7, seed=2, batch=3)
    drawn, stored = draw(Scaled(), n=7, seed=2, batch=7), read(tmp_path / "a.h5")
    assert stored.parameters.shape == (7, 2)
    assert stored.parameters.dtype == np.float32
    np.testing.assert_array_equal(stored.parameters, drawn.parameters)
    assert stored.parameter_names == drawn.parameter_names == ("first", "second")
    np.testing.assert_allclose(stored.y, stored.x * stored.parameters[:, :, None], rtol=1e-6)  # float32
    assert (stored.parameters[:, 1] > 5).all()
    with h5py.File(tmp_path / "a.h5") as content:
        assert content.attrs["version"] == 2
        assert json.loads(content["parameters"].attrs["names"]) == ["first", "second"]


def test_a_range_of_viscosities(tmp_path):
    fixed = Burgers(resolution=16, frames=2, step=0.1)
    varied = dataclasses.replace(fixed, viscosity=(0.02, 0.5))
    pairs = cached(varied, tmp_path, n=4, seed=0)
    assert pairs.parameter_names == ("viscosity",)
    assert pairs.attributes["settings"]["viscosity"] == [0.02, 0.5]
    assert ((pairs.parameters > 0.02) & (pairs.parameters < 0.5)).all()
    again = draw(fixed, n=4, seed=0)
    assert again.parameters is None
    np.testing.assert_allclose(pairs.x, again.x, atol=1e-6)  # the same initial fields
    one = dataclasses.replace(fixed, viscosity=float(pairs.parameters[3, 0]))
    np.testing.assert_allclose(pairs.y[3], draw(one, n=4, seed=0).y[3], atol=1e-6)  # float32
    np.testing.assert_array_equal(cached(varied, tmp_path, n=4, seed=0).parameters, pairs.parameters)
    with pytest.raises(ValueError, match=r"a range of positive numbers, smallest first, for viscosity, got \(0\.5, 0"):
        Burgers(viscosity=(0.5, 0.02))
    with pytest.raises(ValueError, match=r"Expected a number, got the range"):
        varied.residual(jnp.ones((1, 3, 16)))


def test_progress(tmp_path):
    seen = []
    generate(Noise(), tmp_path / "a.h5", n=7, seed=0, batch=3, progress=lambda done, n: seen.append((done, n)))
    assert seen == [(0, 7), (3, 7), (6, 7), (7, 7)]


@dataclasses.dataclass(frozen=True)
class Large:
    """White noise, which no file format makes smaller, on many points."""

    inputs: ClassVar[tuple[str, ...]] = ("noise",)
    outputs: ClassVar[tuple[str, ...]] = ("noise",)
    grid: ClassVar[Grid] = Grid((128, 128))

    def sample(self, key):
        x = jax.random.normal(key, (1, 128, 128), float)
        return x, x


def test_a_file_is_not_built_in_memory(tmp_path):
    tracemalloc.start()
    generate(Large(), tmp_path / "a.h5", n=128, seed=0, batch=4)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < (tmp_path / "a.h5").stat().st_size / 4  # 15 MB


@dataclasses.dataclass(frozen=True)
class Frames:
    """A level that stays: a frame of 2 MiB and 16 later ones."""

    inputs: ClassVar[tuple[str, ...]] = ("level t=0",)
    outputs: ClassVar[tuple[str, ...]] = tuple(f"level t={i}" for i in range(1, 17))
    frames: ClassVar[int] = 16
    grid: ClassVar[Grid] = Grid((1024, 512))

    def sample(self, key):
        level = jax.random.normal(key, (), jnp.float32)
        return jnp.full((1, 1024, 512), level), jnp.full((16, 1024, 512), level)


def test_large_samples_are_drawn_one_by_one_and_stored_frame_by_frame(tmp_path):
    seen = []
    generate(Frames(), tmp_path / "a.h5", n=5, seed=0, batch=4, progress=lambda done, n: seen.append(done))
    assert seen == [0, 4, 5]  # 2^25 values at once are 4 samples
    with h5py.File(tmp_path / "a.h5") as content:
        assert content["y"].chunks == (1, 1, 1024, 512)
    with h5py.File(tmp_path / "b.h5", "w") as content:
        _, y = describe(content, 3, grid=Grid((256, 64)), inputs=("a",), outputs=("b",) * 40, attributes={})
        assert y.chunks == (1, 16, 256, 64)  # 1 MiB


def test_an_existing_file_is_kept_unless_asked(file):
    before = file.read_bytes()
    with pytest.raises(FileExistsError, match=r"noise\.h5 exists and is kept"):
        generate(Noise(), file, n=2, seed=0)
    assert file.read_bytes() == before
    generate(Noise(), file, n=2, seed=0, overwrite=True)
    assert len(read(file)) == 2


@pytest.mark.parametrize("overwrite", [True, False])
def test_nothing_is_left_after_an_interrupt(overwrite, tmp_path):
    path = tmp_path / "a.h5"
    if overwrite:
        path.write_bytes(b"old")

    def interrupt(done, n):
        if done >= 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(Noise(), path, n=10, seed=0, batch=2, overwrite=overwrite, progress=interrupt)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == ({"a.h5": b"old"} if overwrite else {})


def open_files():
    return h5py.h5f.get_obj_count(h5py.h5f.OBJ_ALL, h5py.h5f.OBJ_FILE)


@pytest.mark.parametrize("when", [0, 300])
def test_a_full_disk_leaves_the_old_file(when, file):
    before, limits = file.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill_the_disk(done, n):
        seen.append(done)
        if done == when:  # from here on writes beyond the limit fail as on a full disk
            resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))

    seen = []
    try:
        with pytest.raises(OSError, match=r"noise\.h5 could not be written \(File too large\).*Free some"):
            generate(Noise(), file, n=400, seed=0, batch=100, overwrite=True, progress=fill_the_disk)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert seen[-1] == when  # nothing is computed afterwards
    assert open_files() == 0
    assert [path.name for path in file.parent.iterdir()] == ["noise.h5"]
    assert file.read_bytes() == before


def test_a_disk_that_is_full_on_closing(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, limits[1]))
    try:
        with (
            pytest.raises(OSError, match=r"a\.h5 could not be written \(File too large\)"),
            write_hdf5(tmp_path / "a.h5", overwrite=False) as content,
        ):
            content["x"] = np.ones(1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert open_files() == 0
    assert not list(tmp_path.iterdir())


def test_a_sample_that_is_not_finite_is_an_error(tmp_path):
    means = draw(Noise(), n=9, seed=0).x.mean(axis=(1, 2, 3))
    limit = float(np.sort(means[2:])[-2] + np.sort(means[2:])[-1]) / 2
    first = int(np.argmax(means > limit))
    with pytest.raises(RuntimeError, match=rf"Sample {first} of Noise\(.*\) with seed 0 is not finite"):
        generate(Noise(limit=limit), tmp_path / "a.h5", n=9, seed=0, batch=2)
    assert not list(tmp_path.iterdir())


def test_cached_samples_are_generated_once(tmp_path):
    seen = []
    first = cached(Noise(), tmp_path, n=6, seed=1, progress=lambda done, n: seen.append(done))
    again = cached(Noise(), tmp_path, n=6, seed=1, progress=lambda done, n: seen.append(done))
    assert seen == [0, 6]
    np.testing.assert_array_equal(first.x, draw(Noise(), n=6, seed=1).x)
    np.testing.assert_array_equal(first.y, again.y)
    others = [cached(Noise(size=6), tmp_path, n=6, seed=1), cached(Noise(), tmp_path, n=7, seed=1)]
    assert [len(other) for other in (*others, cached(Noise(), tmp_path, n=6, seed=2))] == [6, 7, 6]
    files = sorted(tmp_path.glob("noise-*-n6-seed?.h5"))
    assert len(files) == 3
    (one, two) = (path for path in files if path.name[:14] == sorted(tmp_path.glob("*-seed2.h5"))[0].name[:14])
    two.replace(one)
    with pytest.raises(ValueError, match=r"Expected seed 1 in .*seed1\.h5, got 2\. Remove it"):
        cached(Noise(), tmp_path, n=6, seed=1)


@pytest.mark.parametrize("numbers", [{"n": 0}, {"batch": 0}, {"seed": -1}])
def test_bad_numbers(numbers, tmp_path):
    numbers = {"n": 3, "seed": 0, **numbers}
    with pytest.raises(ValueError, match="Expected n >= 1, batch >= 1 and seed >= 0"):
        draw(Noise(), **numbers)
    with pytest.raises(ValueError, match="Expected n >= 1"):
        generate(Noise(), tmp_path / "folder" / "a.h5", **numbers)
    assert not list(tmp_path.iterdir())


def test_a_problem_must_keep_its_promise(tmp_path):
    with pytest.raises(ValueError, match=r"promises x of shape \(2, 5, 8\), its sample has \(1, 5, 8\)"):
        generate(Liar(), tmp_path / "a.h5", n=2, seed=0)


@pytest.mark.parametrize("name", GENERATORS)
def test_generators_of_the_command_line(name):
    problem = GENERATORS[name]()
    assert isinstance(problem, Problem)
    settings = json.loads(json.dumps(dataclasses.asdict(problem)))
    kinds = {field.name: type(field.default) for field in dataclasses.fields(problem)}
    assert GENERATORS[name](**{key: kinds[key](value) for key, value in settings.items()}) == problem
    assert all(f"        {field.name}: " in GENERATORS[name].__doc__ for field in dataclasses.fields(problem))


def test_a_truncated_file_is_refused_wherever_it_ends(file):
    whole = file.read_bytes()
    for kept in (20, 100, 800, len(whole) // 3, len(whole) // 2, len(whole) - 1000, len(whole) - 1):
        file.write_bytes(whole[:kept])
        with pytest.raises(OSError, match=r"noise\.h5 is truncated or damaged .*sciml generate"):
            read(file)


OLD = pathlib.Path(__file__).resolve().parent / "pairs_version_1.h5"


def test_files_without_a_digest_are_read():
    old, drawn = read(OLD), draw(Noise(), n=3, seed=4)
    np.testing.assert_array_equal(old.x, drawn.x)
    np.testing.assert_array_equal(old.y, drawn.y)
    assert (old.grid, old.inputs, old.outputs) == (drawn.grid, drawn.inputs, drawn.outputs)


def test_bytes_of_other_files_are_never_read(tmp_path):
    (tmp_path / "secret").write_bytes(bytes(480))

    def change(content):
        del content["x"]
        elsewhere = [(str(tmp_path / "secret"), 0, 480)]
        content.create_dataset("x", (3, 1, 5, 8), "<f4", external=elsewhere).attrs["channels"] = '["noise"]'

    (tmp_path / "a.h5").write_bytes(OLD.read_bytes())
    change_hdf5(tmp_path / "a.h5", change)
    with pytest.raises(ValueError, match=r"a\.h5: data set /x: expected data in this file, got external storage in"):
        read(tmp_path / "a.h5")


def test_a_damaged_chunk_of_a_file_without_a_digest_is_refused(tmp_path):
    with h5py.File(OLD) as content:
        chunk = content["y"].id.get_chunk_info(2)
    (tmp_path / "a.h5").write_bytes(flipped(OLD.read_bytes(), 8 * (chunk.byte_offset + chunk.size // 2)))
    with pytest.raises(OSError, match=r"a\.h5 is truncated or damaged .*sciml generate"):
        read(tmp_path / "a.h5")


def test_every_flipped_bit_is_noticed(file):
    whole = file.read_bytes()
    draw_bits = np.random.default_rng(0)
    for bit in (0, 8 * 511 + 7, *draw_bits.integers(8 * 512, size=50), *draw_bits.integers(8 * len(whole), size=250)):
        file.write_bytes(flipped(whole, int(bit)))
        with pytest.raises(OSError, match=r"noise\.h5 is truncated or damaged .*sciml generate"):
            read(file)


def test_a_new_file_needs_its_digest_and_an_old_one_has_none(file, tmp_path):
    whole = file.read_bytes()
    file.write_bytes(bytes(512) + whole[512:])
    with pytest.raises(OSError, match=r"begins with neither HDF5 nor a digest"):
        read(file)
    with h5py.File(file) as old, h5py.File(tmp_path / "a.h5", "w") as new:
        for name in old:
            old.copy(name, new)
        new.attrs.update(old.attrs)
    with pytest.raises(ValueError, match=r"expected version 1 of a file without a digest, got 2"):
        read(tmp_path / "a.h5")
    file.write_bytes(whole)
    change_hdf5(file, attribute("version", 1))
    with pytest.raises(ValueError, match=r"expected version 2 of a file with a digest, got 1"):
        read(file)


def remove(name):
    def change(content):
        del content[name]

    return change


def attribute(name, value):
    def change(content):
        content.attrs[name] = value

    return change


def cut(content):
    y = content["y"][:-1]
    del content["y"]
    content["y"] = y
    content["y"].attrs["channels"] = '["negative", "square"]'


def foreign(values):
    def change(content):
        del content["x"]
        content["x"] = values
        content["x"].attrs["channels"] = '["noise"]'

    return change


def spoil(content):
    content["y"][3] = np.nan


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (remove("y"), r"expected the data set y, got none\. Generate the file again"),
        (attribute("version", 3), "expected version 2 of a file with a digest, got 3"),
        (attribute("version", "2"), "expected the attribute version to be int, got '2'"),
        (lambda content: content.attrs.pop("grid"), "expected the attribute grid to be str, got 'None'"),
        (attribute("grid", "{"), "the attribute grid is damaged: expected JSON"),
        (attribute("grid", '{"shape": [5, 8]}'), "the attribute grid holds something else .* `extent`"),
        (attribute("attributes", "[1]"), "the attribute attributes holds something else"),
        (attribute("samples", 11), r"expected x of shape \(11, None, 5, 8\) .*, got float32 of shape \(10, 1, 5, 8\)"),
        (cut, r"expected y of shape \(10, None, 5, 8\) .* got float32 of shape \(9, 2, 5, 8\)"),
        (foreign(np.zeros((10, 1, 5, 8), "S3")), r"expected x of shape .*kind f, got \|S3 of shape"),
        (spoil, "y has NaN or infinite values in 1 of 10 samples, the first is sample 3"),
    ],
)
def test_other_contents_are_refused(change, message, file):
    change_hdf5(file, change)
    with pytest.raises(ValueError, match=rf"noise\.h5 is not a data set of `sciml generate`: .*{message}.*"):
        read(file)


def parameters(values, names='["a", "b"]'):
    def change(content):
        content["parameters"] = values
        content["parameters"].attrs["names"] = names

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (parameters(np.zeros((9, 2))), r"expected parameters of shape \(10, None\) .* got float64 of shape \(9, 2\)"),
        (parameters(np.zeros((10, 3))), r"expected parameters of shape \(10, 2\) .* got float64 of shape \(10, 3\)"),
        (parameters(np.zeros((10, 2), "S3")), r"kind f, got \|S3"),
        (parameters(np.zeros((10, 2)), "{}"), "the attribute names holds something else"),
        (parameters(np.full((10, 2), np.nan)), "parameters has NaN or infinite values in 10 of 10 samples"),
    ],
)
def test_other_parameters_are_refused(change, message, file):
    change_hdf5(file, change)
    with pytest.raises(ValueError, match=rf"noise\.h5 is not a data set of `sciml generate`: .*{message}.*"):
        read(file)


@pytest.mark.parametrize("form", [None, "other"])
def test_a_foreign_file_is_told_what_it_holds(form, tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as content:
        content["tensor"], content["t/coordinate"] = np.ones((3, 2)), np.ones(2)
        if form:
            content.attrs["format"] = form
    with pytest.raises(
        ValueError,
        match=rf"a\.h5 is not .*format 'sciml pairs' and the datasets x and y, got format '{form}' and t/, tensor "
        r"\(3, 2\)\. Load its arrays with h5py and pass them to `sciml.data.Pairs\(x, y\)`",
    ):
        read(tmp_path / "a.h5")


@pytest.mark.parametrize("content", [b"", b"\x89HDF", b"PK\x03\x04 another kind"])
def test_other_kinds_of_files_are_refused(content, tmp_path):
    (tmp_path / "a.h5").write_bytes(content)
    with pytest.raises(ValueError, match=rf"to be an HDF5 file, got {len(content)} bytes of another kind"):
        read(tmp_path / "a.h5")


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file .*a\.h5\. Make it with `sciml generate`"):
        read(tmp_path / "a.h5")
