"""Errors over time and energy spectra against exact values."""

import numpy as np
import pytest

from sciml import plot

STEPS, SAMPLES = 4, 9


def test_quartiles_are_errors_of_samples_and_diverged_samples_are_the_largest():
    errors = np.arange(1.0, 1 + SAMPLES)[:, None] * np.array([1.0, 10.0])
    np.testing.assert_array_equal(plot.quartiles(errors), [[3, 30], [5, 50], [7, 70]])
    errors[0, 1], errors[1, 1] = np.nan, np.inf  # of 9 samples the two smallest diverge: the order moves by two
    np.testing.assert_array_equal(plot.quartiles(errors)[:, 1], [50, 70, 90])
    errors[:7, 0] = np.nan
    np.testing.assert_array_equal(plot.quartiles(errors)[:, 0], [np.inf, np.inf, np.inf])


def test_medians_are_lines_and_quartiles_bands_that_end_where_they_are_not_finite():
    values = np.array([[1.0, 2, 3, 4], [2, 3, 4, np.inf], [3, 4, np.inf, np.inf]])
    figure = plot.error_over_time(
        [1, 2, 3, 4],
        {"one": values, "persistence": values * 2},
        y="error",
        notes={"one": "2 diverged"},
        baselines=("persistence",),
        windows=((2, 3),),
    )
    (axes,) = figure.axes
    one, other = [line for line in axes.get_lines() if len(line.get_xdata()) == STEPS]
    np.testing.assert_array_equal(one.get_ydata(), [2, 3, 4, np.nan])
    np.testing.assert_array_equal(other.get_ydata(), [4, 6, 8, np.nan])
    assert (one.get_color(), other.get_color()) == ("C0", "0.35")
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["one (2 diverged)", "persistence"]
    assert axes.get_yscale() == "log"
    marks = [line.get_xdata()[0] for line in axes.get_lines() if len(line.get_xdata()) == 2]
    assert sorted(marks) == [2, 3]
    band = np.concatenate([path.vertices for path in axes.collections[0].get_paths()])
    assert {(1.0, 1.0), (1.0, 3.0), (2.0, 2.0), (2.0, 4.0)} <= {tuple(map(float, point)) for point in band}
    assert band[:, 0].max() == 2  # the upper quartile of step 3 is not finite


def test_errors_that_are_not_three_for_each_step_are_refused():
    with pytest.raises(ValueError, match=r"Expected 3 quartiles for 4 steps of one, got \(3, 2\)"):
        plot.error_over_time(range(STEPS), {"one": np.ones((3, 2))}, y="error")


@pytest.mark.parametrize(("shape", "wave"), [((16,), (3,)), ((16, 12), (3, 4)), ((16, 12, 10), (2, 3, 1))])
def test_a_wave_has_its_energy_at_its_wavenumber(shape, wave):
    grids = np.meshgrid(*(np.arange(n) / n for n in shape), indexing="ij")
    phase = 2 * np.pi * sum(k * x for k, x in zip(wave, grids, strict=True))
    u = np.stack([3 * np.cos(phase), np.full(shape, 2.0)])
    k, energy = plot.energy_spectrum(u)
    at = round(float(np.linalg.norm(wave)))
    expected = np.zeros((2, len(k)))
    expected[0, at] = 9 / 4  # half of the mean of (3 cos)^2, which is 9 / 2
    expected[1, 0] = 2.0
    np.testing.assert_allclose(energy, expected, atol=1e-13)  # rounding of float64
    np.testing.assert_array_equal(k, np.arange(len(k)))


def test_shells_hold_the_whole_energy_and_shorter_sides_have_higher_wavenumbers():
    u = np.random.default_rng(0).normal(size=(3, 15, 8))
    _, energy = plot.energy_spectrum(u)
    np.testing.assert_allclose(energy.sum(1), 0.5 * (u**2).mean((1, 2)), rtol=1e-13)  # Parseval
    wave = np.cos(2 * np.pi * np.arange(8) / 8)[None, None] * np.ones((1, 16, 1))
    _, energy = plot.energy_spectrum(wave, lengths=(4.0, 1.0))
    assert energy[0].argmax() == 4  # one period along a quarter of the longest side
    with pytest.raises(ValueError, match="Expected a positive length of each side"):
        plot.energy_spectrum(u, lengths=(1.0,))


def test_spectra_have_a_row_for_each_channel_and_say_what_diverged():
    truth = np.random.default_rng(0).normal(size=(3, 5, 6, 16, 12))
    one = truth * 2
    one[0, 4] = np.nan
    figures = plot.spectra(truth, {"one": one}, steps=(0, 4), names="abcdef")
    assert [len(figure.axes) for figure in figures] == [8, 4]
    last = figures[0].axes[1]
    assert last.get_title() == "step 5\none: 1 of 3 not finite"
    true_line, model_line = last.get_lines()
    expected = plot.energy_spectrum(truth[:, 4, 0])[1].mean(0)[1:7]  # up to 6, which both sides resolve
    np.testing.assert_allclose(true_line.get_ydata(), expected, rtol=1e-12)
    kept = plot.energy_spectrum(2 * truth[1:, 4, 0])[1].mean(0)[1:7]
    np.testing.assert_allclose(model_line.get_ydata(), kept, rtol=1e-12)
    assert figures[1].axes[0].get_ylabel() == "energy  e"


def test_impossible_steps_and_shapes_of_rollouts_are_refused():
    truth = np.ones((3, 5, 1, 8))
    with pytest.raises(ValueError, match=r"Expected steps from 0 to 4, got \[5\]"):
        plot.spectra(truth, {}, steps=(5,))
    with pytest.raises(ValueError, match=r"The rollouts of a have shape \(3, 4, 1, 8\), the true ones \(3, 5, 1, 8\)"):
        plot.spectra(truth, {"a": truth[:, :4]}, steps=(0,))
