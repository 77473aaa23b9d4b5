"""Animations: what the frames show, their number and size, files written whole, errors."""

import sys

import numpy as np
import pytest
from PIL import Image

from sciml import plot
from sciml.plot import _animation

TIME, CHANNELS = 7, 2


def rollout(space, time=TIME, channels=CHANNELS, seed=0):
    return np.random.default_rng(seed).normal(size=(time, channels, *space))


def frames_of(path):
    with Image.open(path) as film:
        found = []
        for k in range(film.n_frames):
            film.seek(k)
            found.append((np.asarray(film.convert("RGB")), film.info["duration"]))
    return found


@pytest.mark.parametrize(("space", "files"), [((9,), 1), ((6, 5), 1), ((6, 5, 4), 2)])
def test_a_rollout_in_any_dimension_has_a_frame_for_each_time(space, files, tmp_path):
    truth = rollout(space)
    paths = plot.animation(truth, {"one": truth + 0.1, "two": truth * 0.9}, tmp_path / "a" / "film.gif")
    names = ["film.gif", "film-2.gif"][:files]  # in three dimensions a file for each channel: three planes fill it
    assert [path.name for path in paths] == names
    assert sorted(one.name for one in (tmp_path / "a").iterdir()) == sorted(names)
    for path in paths:
        found = frames_of(path)
        assert len(found) == TIME
        assert found[-1][1] > found[0][1]  # the last one stays
        assert not np.array_equal(found[0][0], found[1][0])


def test_every_channel_is_drawn_and_files_of_earlier_calls_are_removed(tmp_path):
    truth = rollout((6, 5), channels=9)
    paths = plot.animation(truth, {}, tmp_path / "film.gif")
    assert [path.name for path in paths] == ["film.gif", "film-2.gif", "film-3.gif"]
    plot.animation(truth[:, :4], {}, tmp_path / "film.gif")
    assert [path.name for path in tmp_path.iterdir()] == ["film.gif"]


def test_colours_are_those_of_the_true_range_over_all_times_and_errors_share_a_scale():
    truth = np.zeros((3, 1, 4, 5))
    truth[0, 0, 1, 2], truth[2, 0, 3, 4] = -2.0, 6.0
    one, two = truth + 0.25, truth - 1.0
    (row,) = _animation._rows(truth, {"one": one, "two": two}, ["u"])
    assert row.limits() == (-2.0, 6.0)
    assert row.largest_error() == 1.0
    one[1] = 1e9
    assert row.largest_error() == 8.0  # a diverged rollout does not make all other errors white
    one[1] = np.nan
    assert row.largest_error() == 1.0
    figure, moving, show = _animation._images([row], ["step 1"])
    show(2)
    images = [artist for artist in moving if hasattr(artist, "get_clim")]
    assert [image.get_clim() for image in images] == [(-2, 6), (-2, 6), (-1, 1), (-2, 6), (-1, 1)]
    np.testing.assert_array_equal(images[0].get_array(), truth[2, 0].T)  # the first axis of the field runs to the right
    np.testing.assert_array_equal(images[4].get_array(), np.full((5, 4), -1.0))
    assert [axes.get_title() for axes in figure.axes[:5]] == ["truth", "one", "one error", "two", "two error"]


def test_fields_in_three_dimensions_are_cut_in_the_middle_of_each_axis():
    truth = rollout((6, 5, 4), channels=1)
    rows = _animation._rows(truth, {}, ["u"])
    assert [row.title for row in rows] == ["u x1-x2", "u x1-x3", "u x2-x3"]
    for row, cut in zip(rows, (truth[:, 0, :, :, 2], truth[:, 0, :, 2], truth[:, 0, 3]), strict=True):
        np.testing.assert_array_equal(row.truth, cut)


def test_lines_of_a_rollout_in_one_dimension_move():
    truth = rollout((9,), channels=1)
    (row,) = _animation._rows(truth, {"one": truth + 0.5}, [""])
    _, moving, show = _animation._lines([row], ["step 1"])
    show(3)
    drawn = [line.get_ydata() for line in moving]
    for found, expected in zip(drawn, (truth[3, 0], truth[3, 0] + 0.5, np.full(9, 0.5)), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-12)


def test_captions_give_time_and_errors():
    truth = np.ones((2, 1, 4))
    models = {"one": truth * 1.5, "two": np.full_like(truth, np.inf)}
    assert _animation._caption(truth, models, 1, "t = 0.5") == "t = 0.5     one 50.00%     two not finite"


@pytest.mark.slow
def test_noise_that_does_not_compress_fits_into_three_megabytes(tmp_path):
    truth = rollout((64, 48), time=150, channels=4)
    (path,) = plot.animation(truth, {"one": truth + 1}, tmp_path / "film.gif")
    assert path.stat().st_size <= _animation.MOST_BYTES


def test_long_rollouts_have_sixty_frames_and_the_last_one(tmp_path):
    (path,) = plot.animation(np.ones((150, 1, 4)), {}, tmp_path / "flat.gif", times=np.linspace(0, 1, 150))
    assert len(frames_of(path)) == _animation.MOST_FRAMES
    assert path.stat().st_size < 100_000  # frames that differ in the caption alone


def test_constant_and_undefined_rollouts_are_drawn(tmp_path):
    truth = np.zeros((3, 1, 4, 5))
    plot.animation(truth, {"one": truth, "two": np.full_like(truth, np.nan)}, tmp_path / "film.gif")
    plot.animation(truth[..., 0], {"one": np.full((3, 1, 4), np.inf)}, tmp_path / "lines.gif", names=["u"])


def test_what_is_no_rollout_is_refused(tmp_path):
    truth = rollout((6, 5))
    with pytest.raises(ValueError, match=r"prediction of a has shape \(3, 2, 6, 5\), the truth has \(7, 2, 6, 5\)"):
        plot.animation(truth, {"a": truth[:3]}, tmp_path / "film.gif")
    with pytest.raises(
        ValueError, match=r"a rollout \(time, channels, \*space\) in one to three dimensions, got \(0, 2"
    ):
        plot.animation(truth[:0], {}, tmp_path / "film.gif")
    with pytest.raises(ValueError, match=r"Expected a file \.gif or \.mp4 for an animation, got .*film\.avi"):
        plot.animation(truth, {}, tmp_path / "film.avi")
    with pytest.raises(ValueError, match="Expected a name for each of 2 channels, got 1: u"):
        plot.animation(truth, {}, tmp_path / "film.gif", names=["u"])
    assert not list(tmp_path.iterdir())


def test_a_missing_encoder_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(ImportError, match=r"pip install 'sciml-jax\[video\]', or write a \.gif"):
        plot.animation(rollout((6,)), {}, tmp_path / "film.mp4")


@pytest.mark.skipif(not plot.can_write_mp4(), reason="imageio-ffmpeg is not installed (extra video)")
def test_a_film_has_all_frames(tmp_path):
    import imageio_ffmpeg

    truth = rollout((6, 5))
    (path,) = plot.animation(truth, {"one": truth}, tmp_path / "film.mp4")
    assert imageio_ffmpeg.count_frames_and_secs(str(path))[0] == TIME
    assert [one.name for one in tmp_path.iterdir()] == ["film.mp4"]
