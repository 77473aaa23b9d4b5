import dataclasses
import json

import h5py
import numpy as np
import pytest

import sciml
from sciml import train
from sciml.data import Dataset, rows
from sciml.prose import EquationData, known_equations, skeleton_equations
from sciml.symbolic import ode_vocabulary, skeleton, system_from_tokens, system_to_tokens
from sciml.systems import (
    FAMILIES,
    Mixture,
    Solutions,
    Trajectories,
    draw_trajectories,
    generate_trajectories,
    read_trajectories,
)

LANES = 8
SOLUTIONS = Solutions(initial_conditions=3, candidates=12, points=121, end=3.0)
MIXTURE = Mixture(families=("fabrikant", "lorenz_96_5d"), solutions=SOLUTIONS)
ONE = dataclasses.replace(MIXTURE, families=("lorenz_96_5d",))
SYSTEMS, PER_SHARD, STARTS = 5, 2, 3


def generate(folder, **settings):
    settings = {"count": SYSTEMS, "seed": 7, "per_shard": PER_SHARD, "lanes": LANES} | settings
    generate_trajectories(ONE, folder, **settings)


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
    parts, drawn = read_trajectories(folder), draw_trajectories(ONE, range(SYSTEMS), seed=7, lanes=LANES)
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


def part(names, first, times=4):
    """States that tell their system, start, time and component; the first constant tells the system."""
    systems = [FAMILIES[name].system() for name in names]
    states = np.zeros((len(names), STARTS, times, 5), np.float32)
    for i, system in enumerate(systems):
        shape = (STARTS, times, len(system))
        states[i, ..., : len(system)] = 1000 * (first + i) + 1 + np.arange(np.prod(shape)).reshape(shape)
    return Trajectories(
        np.linspace(0, 1, times),
        states,
        equations=tuple(" ".join(system_to_tokens(system)) for system in systems),
        families=tuple(names),
        tried=np.full(len(names), STARTS),
    )


PARTS = (part(("rossler", "lorenz_96_5d"), 0), part(("double_pendulum", "rossler", "thomas"), 2))
NAMES = ("rossler", "lorenz_96_5d", "double_pendulum", "rossler", "thomas")
VOCABULARY = ode_vocabulary(5)


def test_samples():
    data = EquationData(PARTS, VOCABULARY, guess=skeleton_equations)
    assert isinstance(data, Dataset)
    assert len(data) == 15
    assert data.families == ("rossler", "lorenz_96_5d", "double_pendulum", "thomas")
    for row in (0, 5, 8, 11, 14):
        sample = data[np.array([row])]
        name, start = NAMES[row // STARTS], row % STARTS
        family = FAMILIES[name]
        words = system_to_tokens(family.system())
        assert sample.components[0].tolist() == [i < family.dimension for i in range(5)]
        assert VOCABULARY.decode(sample.equation[0][sample.equation_mask[0]]) == ["<BOS>", *words, "<EOS>"]
        assert VOCABULARY.decode(sample.tokens[0][sample.tokens_mask[0]]) == system_to_tokens(skeleton(family.system()))
        for ids, mask in ((sample.equation[0], sample.equation_mask[0]), (sample.tokens[0], sample.tokens_mask[0])):
            assert (ids[~mask] == VOCABULARY.pad).all()
            assert mask.tolist() == sorted(mask.tolist(), reverse=True)
        expected = [*PARTS[0].states, *PARTS[1].states][row // STARTS][start]
        np.testing.assert_array_equal(sample.states[0], expected)
        np.testing.assert_allclose(sample.times[0], [0, 1 / 3, 2 / 3, 1], rtol=1e-7)
        assert data.families[sample.family[0]] == name
        assert data.structures[sample.system[0]] == (name, skeleton(family.system()))
        assert sample.index.tolist() == [row]
    assert data[np.array([0])].equation.shape[1] == 102  # of the pendulum: 100, and two more


def test_rows_in_any_order_and_the_engine():
    data = EquationData(PARTS, VOCABULARY, guess=known_equations)
    every = data[np.arange(15)]
    assert all(len(leaf) == 15 for leaf in every)
    for chosen in (np.array([14, 0, 7, 7]), slice(1, 15, 4), np.array([-1])):
        for leaf, whole in zip(data[chosen], every, strict=True):
            np.testing.assert_array_equal(leaf, whole[chosen])
    with pytest.raises(IndexError):
        data[np.array([15])]
    # The known equations are the true ones without the words at the ends.
    lengths = every.tokens_mask.sum(axis=1)
    np.testing.assert_array_equal(lengths, every.equation_mask.sum(axis=1) - 2)
    np.testing.assert_array_equal(every.tokens[every.tokens_mask], every.equation[:, 1:-1][every.tokens_mask])
    for limit in (0, None):
        batches = train.batches(data, lambda k: rows(15, 4, 0, k), limit=limit)
        fetched = batches.fetch(batches.source, batches.item(1))
        for leaf, whole in zip(fetched, data[rows(15, 4, 0, 1)], strict=True):
            np.testing.assert_array_equal(leaf, whole)


def test_bad_parts():
    with pytest.raises(ValueError, match="Expected at least one part, got none"):
        EquationData((), VOCABULARY, guess=known_equations)
    with pytest.raises(ValueError, match=r"same times .* shapes \(2, 3, 4, 5\) and \(1, 3, 5, 5\)\. Generate them"):
        EquationData((PARTS[0], part(("thomas",), 2, times=5)), VOCABULARY, guess=known_equations)
    with pytest.raises(ValueError, match="'u_4' is not in the vocabulary"):
        EquationData(PARTS, ode_vocabulary(3), guess=known_equations)
    large = dataclasses.replace(PARTS[0], equations=("mul + N100 E11 u_0", "u_0"))
    with pytest.raises(ValueError, match="'E11' is not in the vocabulary"):
        EquationData((large,), VOCABULARY, guess=known_equations)
    assert system_from_tokens(skeleton_equations(["mul", "-", "N100", "E9", "u_0"])) == skeleton(
        system_from_tokens(["mul", "+", "N123", "E0", "u_0"])
    )
