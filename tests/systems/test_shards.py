import json

import h5py
import numpy as np
import pytest

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
    for kept in (0, 50, 800, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:kept])
        for use in (lambda: read_trajectories(folder), lambda: generate(folder)):
            with pytest.raises(OSError, match=r"00001-of-00003\.h5 is truncated or damaged .*Remove it and run"):
                use()
    path.unlink()
    generate(folder)
    assert len(read_trajectories(folder)) == 3


def test_changed_states_are_refused(folder, made):
    path = folder / "00002-of-00003.h5"
    with h5py.File(path) as file:
        place = file["states"].id.get_offset() + 1000
    changed = bytearray(made[path.name])
    changed[place] ^= 1
    path.write_bytes(changed)
    with pytest.raises(OSError, match=r"00002-of-00003\.h5 is truncated or damaged \(the states differ from"):
        read_trajectories(folder)


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
    with h5py.File(path, "r+") as file:
        file.attrs["attributes"] = file.attrs["attributes"].replace('"seed": 7', '"seed": 8')
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
    with pytest.raises(ValueError, match=r"is not a file of .*expected format 'sciml trajectories' in version 1, got"):
        read_trajectories(tmp_path)
