import numpy as np
import pytest

from sciml.data import Arrays, Dataset, Pairs, Windows, split, subsample
from sciml.grid import Dirichlet, Grid, Neumann, Periodic

N, IN, OUT, NX, NY = 20, 2, 3, 6, 9


def pairs(**more):
    x = np.arange(float(N * IN * NX * NY)).reshape(N, IN, NX, NY)
    y = -np.arange(float(N * OUT * NX * NY)).reshape(N, OUT, NX, NY)
    return Pairs(x, y, **more)


def test_rows_of_pairs():
    data = pairs()
    assert isinstance(data, Dataset)
    assert len(data) == N
    for rows in (np.array([3, 0, 3]), slice(4, 9)):
        x, y = data[rows]
        np.testing.assert_array_equal(x, data.x[rows])
        np.testing.assert_array_equal(y, data.y[rows])
    x, y = Pairs(np.ones((4, 1, 5), bool), np.ones((4, 1, 5), int))[:2]
    assert x.dtype == y.dtype == np.float32


def spoiled(shape, *samples, value=np.nan):
    array = np.ones(shape)
    for sample in samples:
        array[sample, -1, 0] = value
    return array


@pytest.mark.parametrize(
    ("x", "y", "more", "message"),
    [
        (spoiled((9, 1, 4), 3, 5), np.ones((9, 1, 4)), {}, "x has NaN or infinite values in 2 of 9 samples.* sample 3"),
        (np.ones((9, 1, 4)), spoiled((9, 1, 4), 8, value=np.inf), {}, "y has NaN or infinite .* 1 of 9.* sample 8"),
        (np.ones((9, 1, 4)), np.ones((8, 1, 4)), {}, "x has 9 samples and y has 8"),
        (np.ones((9, 4)), np.ones((9, 1, 4)), {}, r"\(samples, channels, \*space\).* got shape \(9, 4\).*x\[:, None\]"),
        (np.ones((0, 1, 4)), np.ones((0, 1, 4)), {}, "not be empty"),
        (
            np.ones((9, 1, 4)),
            1j * np.ones((9, 1, 4)),
            {},
            "y must hold real numbers, got dtype complex128.* two channels",
        ),
        (np.ones((9, 1, 4)), np.full((9, 1, 4), "a"), {}, "y must hold real numbers"),
        (np.ones((9, 1, 4)), np.ones((9, 1, 4)), {"inputs": ("a", "b")}, "x has 1 channels, got the names"),
        (np.ones((9, 1, 4)), np.ones((9, 1, 4)), {"grid": Grid((5,))}, r"x has the spatial shape \(4,\), its grid has"),
        (np.ones((9, 1, 4)), np.ones((9, 1, 5)), {"grid": Grid((4,))}, r"y has the spatial shape \(5,\), its grid has"),
        *(
            (np.ones((9, 1, 4)), np.ones((9, 1, 4)), {"parameters": parameters, "parameter_names": ("a", "b")}, message)
            for parameters, message in (
                (np.ones((9, 3)), r"real parameters of shape \(9, 2\), .* got float64 of shape \(9, 3\)"),
                (np.ones(9), r"got float64 of shape \(9,\)"),
                (1j * np.ones((9, 2)), "got complex128"),
                (None, r"got object of shape \(\)"),
                (np.array([[1, 2]] * 8 + [[np.inf, 1]]), "infinite values in 1 of 9 samples, the first is sample 8"),
            )
        ),
    ],
)
def test_bad_arrays(x, y, more, message):
    with pytest.raises(ValueError, match=message):
        Pairs(x, y, **more)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [((12, 5, 3), (12, 5, 3)), ((12, None), (12, 8)), ((0.5, 0.33, 0.17), (10, 7, 3)), ((None, 0.25), (15, 5))],
)
def test_split_keeps_every_sample_once(sizes, expected):
    data = pairs(inputs=("a", "b"))
    for seed in (0, None):
        parts = split(data, sizes, seed=seed)
        assert tuple(len(part) for part in parts) == expected
        together = np.concatenate([part.x for part in parts])
        np.testing.assert_array_equal(np.sort(together, axis=0), data.x)
        assert (seed is None) == np.array_equal(together, data.x)
        for part in parts:
            np.testing.assert_array_equal(part.y[:, 0, 0, 0] * IN, -part.x[:, 0, 0, 0] * OUT)
            assert part.inputs == ("a", "b")


def test_parameters_follow_their_samples():
    data = pairs(parameters=np.arange(20).reshape(20, 1), parameter_names=("number",))
    assert data.parameters.dtype == np.float32
    for part in split(data, (12, None), seed=3):
        assert part.parameter_names == ("number",)
        np.testing.assert_array_equal(data.x[part.parameters[:, 0].astype(int)], part.x)
    np.testing.assert_array_equal(subsample(data, 2).parameters, data.parameters)
    assert split(pairs(), (12, None), seed=3)[0].parameters is None


def test_split_depends_on_the_seed_only():
    first, again, other = (split(pairs(), (8, 12), seed=seed)[0].x for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((10, 5), r"must add up to 20 .*they add up to 15. Use None for the rest: \(10, None\)"),
        ((0.5, 0.6), "must add up to 1.0"),
        ((10, 0.5), "numbers of samples or fractions, not both"),
        ((None, None), "Only one part can be None"),
        ((20, None), "at least one of 20 samples"),
        ((0.99, 0.01), r"at least one of 20 samples.* give \[20, 0\]"),
        ((25, -5), "at least one"),
        ((), "must add up to 20"),
    ],
)
def test_bad_splits(sizes, message):
    with pytest.raises(ValueError, match=message):
        split(pairs(), sizes, seed=0)


BOUNDARIES = [
    (Dirichlet(0.5), Neumann(0.0)),
    ((Dirichlet(0.0), Dirichlet(1.0)), Periodic()),
    (Neumann(0.5), (Neumann(0.25), Dirichlet(0.75))),
]


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_subsample_keeps_the_places_of_the_points(boundary):
    data = pairs(grid=Grid((NX, NY), (1.0, 3.0), boundary))
    thin = subsample(data, 3)
    np.testing.assert_array_equal(thin.x, data.x[:, :, ::3, ::3])
    np.testing.assert_array_equal(thin.y, data.y[:, :, ::3, ::3])
    assert thin.grid.lengths == (1.0, 3.0)
    for ours, points in zip(thin.grid.points(), data.grid.points(), strict=True):
        np.testing.assert_allclose(ours, points[::3], rtol=1e-14, atol=1e-15)
    assert [[type(side) for side in pair] for pair in thin.grid.sides] == [
        [type(side) for side in pair] for pair in data.grid.sides
    ]


def test_subsample_without_a_grid():
    x, y = subsample(Pairs(np.arange(6.0).reshape(1, 1, 6), np.arange(8.0).reshape(1, 1, 8)), 4)[:]
    assert (x.ravel().tolist(), y.ravel().tolist()) == ([0, 4], [0, 4])


def test_bad_subsampling():
    with pytest.raises(ValueError, match="at least 1, got 0"):
        subsample(pairs(), 0)
    with pytest.raises(ValueError, match="periodic axis of 9 points"):
        subsample(pairs(grid=Grid((NX, NY))), 2)


def windows():
    frames = np.arange(5.0 * 4 * IN * NX * NY).reshape(5, 4, IN, NX, NY)
    return Windows(frames, history=2, horizon=1, stop=3)


def test_windows_are_split_between_trajectories():
    whole = windows()
    first, second = split(whole, (3, 2), seed=0)
    assert (len(first.trajectories), len(second.trajectories)) == (3, 2)
    assert (first.history, first.horizon, first.stop) == (2, 1, 3)
    together = np.sort(np.concatenate((first.trajectories, second.trajectories)), axis=0)
    np.testing.assert_array_equal(together, whole.trajectories)


def test_windows_are_subsampled_in_space():
    whole = windows()
    thin = subsample(whole, 3)
    np.testing.assert_array_equal(thin.trajectories, whole.trajectories[..., ::3, ::3])
    np.testing.assert_array_equal(thin[:][1], whole[:][1][..., ::3, ::3])


def test_arrays_are_split():
    first, second = split(Arrays(np.arange(7), np.arange(14).reshape(7, 2)), (4, 3), seed=None)
    np.testing.assert_array_equal(first[:][0], [0, 1, 2, 3])
    np.testing.assert_array_equal(second[:][1], [[8, 9], [10, 11], [12, 13]])


def test_other_data_sets_are_refused_in_one_line():
    with pytest.raises(
        TypeError, match=r"Expected Pairs, Windows, Trajectories or Arrays to split, got ndarray\. Wrap arrays"
    ):
        split(np.ones((4, 2)), (2, 2), seed=0)
    with pytest.raises(
        TypeError, match=r"Expected Pairs, Windows or Trajectories to subsample, got Arrays\. Subsample the arrays"
    ):
        subsample(Arrays(np.ones((4, 2))), 2)
