import json
import pathlib
import shutil

import h5py
import numpy as np
import pytest
from hdf5_files import change_hdf5, flipped

import sciml
from sciml.systems import Mixture, Solutions, draw_trajectories, generate_trajectories, read_trajectories

LANES = 8
SOLUTIONS = Solutions(initial_conditions=3, candidates=12, points=121, end=3.0)
MIXTURE = Mixture(families=("lorenz_96_5d",), solutions=SOLUTIONS)
SYSTEMS, PER_SHARD = 5, 2


def generate(folder, **settings):
    settings = {"count": SYSTEMS, "seed": 7, "per_shard": PER_SHARD, "lanes": LANES} | settings
    generate_trajectories(MIXTURE, folder, **settings)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("set")
    generate(folder / "new")
    return {path.name: path.read_bytes() for path in (folder / "new").iterdir()}


@pytest.fixture
def folder(made, tmp_path):
    for name, content in made.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


def test_files_hold_what_is_drawn(folder):
    assert sorted(path.name for path in folder.iterdir()) == [f"0000{i}-of-00003.h5" for i in range(3)]
    parts, drawn = read_trajectories(folder), draw_trajectories(MIXTURE, range(SYSTEMS), seed=7, lanes=LANES)
    np.testing.assert_allclose(np.concatenate([part.states for part in parts]), drawn.states, rtol=1e-5, atol=1e-6)
    for name in ("equations", "families"):
        assert sum((getattr(part, name) for part in parts), ()) == getattr(drawn, name)
    np.testing.assert_array_equal(np.concatenate([part.tried for part in parts]), drawn.tried)
    assert [len(part.states) for part in parts] == [2, 2, 1]
    for part in parts:
        assert isinstance(part.states, np.memmap)  # rows are read when they are used
        np.testing.assert_array_equal(part.times, MIXTURE.solutions.times)
        assert part.attributes == json.loads(json.dumps(drawn.attributes)) | {"count": SYSTEMS, "per_shard": PER_SHARD}
        assert part.attributes["sciml_version"] == sciml.__version__


def test_an_interrupted_set_is_continued(tmp_path, made):
    seen = []

    def interrupt(done, shards):
        seen.append((done, shards))
        if done == 2 and len(seen) < 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(tmp_path, progress=interrupt)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["00000-of-00003.h5", "00001-of-00003.h5"]
    with pytest.raises(FileNotFoundError, match=r"Expected 3 files .*, got 2, \[2\] missing\. Run the same"):
        read_trajectories(tmp_path)
    before = (tmp_path / "00000-of-00003.h5").stat().st_mtime_ns
    generate(tmp_path, progress=interrupt)
    assert seen == [(0, 3), (1, 3), (2, 3), (2, 3), (3, 3)]
    assert (tmp_path / "00000-of-00003.h5").stat().st_mtime_ns == before
    assert {path.name for path in tmp_path.iterdir()} == set(made)
    (tmp_path / "00001-of-00003.h5").unlink()
    generate(tmp_path, only=[1, 2], progress=interrupt)
    assert seen[-2:] == [(1, 2), (2, 2)]


def test_a_truncated_file_is_refused_wherever_it_ends(folder, made):
    path, whole = folder / "00001-of-00003.h5", made["00001-of-00003.h5"]
    for kept in (30, 100, 800, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:kept])
        for use in (lambda: read_trajectories(folder), lambda: generate(folder)):
            with pytest.raises(OSError, match=r"00001-of-00003\.h5 is truncated or damaged .*Remove it and run"):
                use()
    path.unlink()
    generate(folder)
    assert len(read_trajectories(folder)) == 3


def test_every_flipped_bit_is_noticed(folder, made):
    path, whole = folder / "00000-of-00003.h5", made["00000-of-00003.h5"]
    draw_bits = np.random.default_rng(0)
    for bit in (0, 8 * 511 + 7, *draw_bits.integers(8 * 512, size=50), *draw_bits.integers(8 * len(whole), size=250)):
        path.write_bytes(flipped(whole, int(bit)))
        with pytest.raises(OSError, match=r"00000-of-00003\.h5 is truncated or damaged .*Remove it and run"):
            read_trajectories(folder)


@pytest.fixture
def old(tmp_path):
    """A set that was written before files had digests."""
    name = "00000-of-00001.h5"
    shutil.copyfile(pathlib.Path(__file__).resolve().parent / "trajectories_version_1.h5", tmp_path / name)
    return tmp_path / name


def test_files_without_a_digest_are_read(old):
    (part,) = read_trajectories(old.parent)
    np.testing.assert_array_equal(part.states, np.sin(np.arange(72, dtype=np.float32)).reshape(2, 2, 6, 3))
    np.testing.assert_array_equal(part.times, np.linspace(0, 1, 6))
    assert (part.equations, part.families, part.tried.tolist()) == (("a", "b"), ("f", "g"), [2, 3])


def test_changed_states_of_a_file_without_a_digest_are_refused(old):
    with h5py.File(old) as file:
        place = file["states"].id.get_offset() + 100
    old.write_bytes(flipped(old.read_bytes(), 8 * place))
    with pytest.raises(OSError, match=r"h5 is truncated or damaged \(the states differ from .*Remove it and run"):
        read_trajectories(old.parent)


def other(name, value, **options):
    def change(file):
        del file[name]
        if value is not None:
            file.create_dataset(name, data=value, **options)

    return change


STATES = np.zeros((2, 2, 6, 3), np.float32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (other("states", None), "expected the data set states, got none"),
        (other("states", STATES.astype(np.float64)), "states of the type float32 .* got float64"),
        (other("states", STATES.astype(">f4")), "states of the type float32 .* got >f4"),
        (other("states", STATES.astype("S4")), r"expected states .* of the kind f, got \|S4"),
        (other("states", STATES[0, 0]), r"expected states of shape \(None, .*\) .* got float32 of shape \(6, 3\)"),
        (other("states", STATES.reshape(2, 2, 6, 3, 1, 1, 1, 1)), "float32 with 4 to 7 axes"),
        (other("states", STATES[:0]), "float32 with 4 to 7 axes in one block, got"),
        (other("states", STATES, chunks=(1, 2, 6, 3)), "in one block, got .* in chunks"),
        (other("times", np.array([b"a"] * 6)), r"expected times of shape \(6,\) .* kind f, got \|S1"),
        (other("times", np.zeros(5)), r"expected times of shape \(6,\) .* got float64 of shape \(5,\)"),
        (other("times", np.zeros(6)), "at least 2 times that increase"),
        (other("tried", np.zeros(2)), "expected tried of .* kind i/u, got float64"),
        (other("tried", 3), r"expected tried of shape \(2,\) .* got int64 of shape \(\)"),
        (other("equations", np.arange(2)), "expected equations of .* kind S, got int64"),
        (other("families", np.array([b"\xff", b"a"])), "can't decode byte 0xff"),
        (lambda file: file.attrs.pop("attributes"), "expected the attribute attributes to be str, got 'None'"),
        (lambda file: file.attrs.create("attributes", 3), "expected the attribute attributes to be str, got '3'"),
        (lambda file: file.attrs.create("attributes", "{}"), "the attribute attributes holds something else .*`gen"),
        (lambda file: file.attrs.create("version", np.arange(3)), r"expected format .* in version 1.* \[0 1 2\]"),
        (lambda file: file.attrs.create("version", 2), "in version 1, as of a file without a digest, got"),
    ],
)
def test_parts_of_other_types_are_refused(old, change, message):
    change_hdf5(old, change)
    with pytest.raises(ValueError, match=rf"00000-of-00001\.h5 is not a file of .*: .*{message}.*Remove it and run"):
        read_trajectories(old.parent)


def test_states_that_are_declared_larger_than_the_file(old):
    def change(file):
        del file["states"]
        file.create_dataset("states", (2**40, 2**10, 6, 3), "<f4")

    change_hdf5(old, change)
    with pytest.raises(OSError, match=r"data set /states of shape .* was never written.*Remove it and run"):
        read_trajectories(old.parent)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seed": 8}, r"Expected seed 8 in .*00000-of-00003\.h5, got 7\. Use another folder"),
        ({"count": 6}, r"Expected count 6 in .*got 5"),
    ],
)
def test_another_set_in_the_folder(folder, made, settings, message):
    with pytest.raises(ValueError, match=message):
        generate(folder, **settings)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == made


def test_files_of_two_sets(folder):
    path = folder / "00001-of-00003.h5"
    change_hdf5(
        path,
        lambda file: file.attrs.create("attributes", file.attrs["attributes"].replace('"seed": 7', '"seed": 8')),
    )
    with pytest.raises(ValueError, match=r"Expected seed 7 in .*00001-of-00003\.h5, got 8\. Use another folder"):
        read_trajectories(folder)


def test_bad_calls(tmp_path):
    for settings in ({"count": 0}, {"per_shard": 0}, {"seed": -1}):
        with pytest.raises(ValueError, match="Expected count >= 1, per_shard >= 1 and seed >= 0"):
            generate(tmp_path, **settings)
    with pytest.raises(ValueError, match=r"The set has the files 0 to 2, got only \[1, 3\]"):
        generate(tmp_path, only=[3, 1])
    with pytest.raises(FileNotFoundError, match=r"No trajectories in .*Make them with"):
        read_trajectories(tmp_path)
    with h5py.File(tmp_path / "00000-of-00001.h5", "w") as file:
        file.attrs["format"] = "other"
    with pytest.raises(
        ValueError, match=r"is not a file of .*expected format 'sciml trajectories' in version 1, .* got"
    ):
        read_trajectories(tmp_path)


def test_files_under_the_names_of_others_are_refused(folder):
    (folder / "00000-of-00003.h5").write_bytes((folder / "00001-of-00003.h5").read_bytes())
    with pytest.raises(ValueError, match=r"00000-of-00003\.h5 is not a file of .* got '00001-of-00003\.h5'"):
        read_trajectories(folder)
