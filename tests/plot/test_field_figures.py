"""Figures: what they show, atomic writing, errors."""

import numpy as np
import pytest

from sciml import plot


def test_a_row_per_sample_and_two_panels_per_model():
    x = np.random.default_rng(0).random((3, 5, 4))
    figure = plot.predictions(x, x + 1, {"one": x + 1.1, "two": x + 1})
    panels = [axes for axes in figure.axes if axes.get_title()]
    assert len(panels) == 3 * 6
    titles = [axes.get_title() for axes in panels[:6]]
    assert titles[:3] == ["input", "truth", "one"]
    relative = 0.1 * np.sqrt(x[0].size) / np.linalg.norm(x[0] + 1)
    assert titles[3] == f"one error ({relative:.2%})"
    image = panels[1].get_images()[0].get_array()
    np.testing.assert_array_equal(image, (x[0] + 1).T)  # the first axis of the field runs to the right


@pytest.mark.parametrize("space", [(7,), (5, 4), (5, 4, 6)])
@pytest.mark.parametrize("inputs", [1, 3])
def test_a_row_for_each_channel_in_any_dimension(space, inputs):
    rng = np.random.default_rng(0)
    x, y = rng.random((2, inputs, *space)), rng.random((2, 3, *space))
    figure = plot.fields(x, y, {"one": y + 0.1}, names=("u", "v", "w"))
    cut = lambda field: field[..., 3] if len(space) == 3 else field
    if len(space) == 1:
        assert len(figure.axes) == 2 * 3 * 2
        drawn = [(axes.get_lines()[0].get_ydata(), axes.get_lines()[1].get_ydata()) for axes in figure.axes[::2]]
        names = [axes.get_title(loc="left") for axes in figure.axes[::2]]
    else:
        panels = [axes for axes in figure.axes if axes.get_title()]
        assert len(panels) == 2 * 3 * 4
        image = lambda axes: axes.get_images()[0].get_array().T
        drawn = [(image(first), image(second)) for first, second in zip(panels[::4], panels[1::4], strict=True)]
        names = [axes.get_ylabel() for axes in panels[::4]]
    assert names == ["u", "v", "w"] * 2
    for row, (given, truth) in enumerate(drawn):
        sample, channel = divmod(row, 3)
        np.testing.assert_array_equal(given, cut(x[sample, min(channel, inputs - 1)]))
        np.testing.assert_array_equal(truth, cut(y[sample, channel]))


def test_chosen_channels_alone(tmp_path):
    y = np.random.default_rng(0).random((2, 3, 5, 4, 6))
    figure = plot.fields(y, y, {}, channels=(2,))
    panels = [axes for axes in figure.axes if axes.get_title()]
    np.testing.assert_array_equal(panels[1].get_images()[0].get_array(), y[0, 2, :, :, 3].T)
    assert (len(panels), panels[0].get_ylabel()) == (4, "")
    plot.save(figure, tmp_path / "a.png")


def test_fields_of_other_ranks_are_refused():
    with pytest.raises(ValueError, match=r"images \(samples, n, m\), got inputs \(1, 5, 4, 3\) .* by plot\.fields"):
        plot.predictions(np.ones((1, 5, 4, 3)), np.ones((1, 5, 4, 3)), {})
    with pytest.raises(ValueError, match=r"one to three dimensions, got inputs \(1, 5\).*missing channel axis"):
        plot.fields(np.ones((1, 5)), np.ones((1, 5)), {})


def test_curves_have_a_logarithmic_axis_and_a_legend():
    figure = plot.curves({"loss": ([1, 2], [0.1, 0.01])}, x="step", y="error")
    (axes,) = figure.axes
    assert axes.get_yscale() == "log"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["loss"]


def test_saving_leaves_the_figure_alone_in_its_folder(tmp_path):
    path = plot.save(plot.curves({"a": ([1], [1.0])}, x="x", y="y"), tmp_path / "figures" / "a.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    assert [one.name for one in path.parent.iterdir()] == ["a.png"]


def test_a_prediction_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"prediction of a has shape \(1, 4, 4\), the truth has \(1, 5, 4\)"):
        plot.predictions(np.ones((1, 5, 4)), np.ones((1, 5, 4)), {"a": np.ones((1, 4, 4))})


def test_profiles_show_truth_and_errors_of_each_model():
    x = np.random.default_rng(0).random((2, 7))
    figure = plot.profiles(x, x + 1, {"one": x + 1.1, "two": x + 1})
    assert len(figure.axes) == 2 * 2
    fields, errors = figure.axes[:2]
    assert [text.get_text() for text in fields.get_legend().get_texts()] == ["input", "truth", "one", "two"]
    relative = 0.1 * np.sqrt(7) / np.linalg.norm(x[0] + 1)
    assert errors.get_legend().get_texts()[0].get_text() == f"one ({relative:.2%})"
    np.testing.assert_allclose(errors.get_lines()[0].get_ydata(), 0.1, rtol=1e-12)
    titled = plot.profiles(x, x, {"a": x}, titles=["u = 0", "a\n" + "b " * 60])
    assert titled.axes[0].get_title(loc="left") == "u = 0"
    assert titled.axes[2].get_title(loc="left").count("\n") == 2  # long lines are broken
    with pytest.raises(ValueError, match="prediction of a has shape"):
        plot.profiles(x, x, {"a": x[:1]})


def test_densities_stand_beside_the_samples_of_each_model():
    rng = np.random.default_rng(0)
    found = {name: (rng.random((4, 3)), rng.normal(size=(5, 2))) for name in ("one", "two")}
    figure = plot.densities(rng.normal(size=(7, 2)), found, extent=(-4.0, 4.0, -3.0, 3.0))
    titles = ["data", "one density", "one samples", "two density", "two samples"]
    assert [axes.get_title() for axes in figure.axes] == titles
    np.testing.assert_array_equal(figure.axes[3].get_images()[0].get_array(), found["two"][0].T)
    np.testing.assert_array_equal(figure.axes[4].collections[0].get_offsets(), found["two"][1])
    assert figure.axes[0].get_xlim() == (-4, 4)


def test_trajectories_show_what_is_given_true_and_predicted_in_the_colour_of_the_component():
    times = np.linspace(0, 1, 5)
    paths = [(times, np.outer(times, (1.0, 2.0)) + shift) for shift in (0.0, 3.0)]
    predicted = [(times[2:], states[2:] + 1) for times, states in paths]
    figure = plot.trajectories(paths, paths[:1], {"ours": predicted}, titles=["du_0/dt = 1.0", "a\nb"])
    first, second = figure.axes
    assert [len(axes.lines) for axes in (first, second)] == [2 * 3 + 1, 2 * 2 + 1]  # the last one for the legend
    given, truth, ours = first.lines[3:6]  # of the second component
    for line, (x, y) in ((given, paths[0]), (truth, paths[0]), (ours, predicted[0])):
        np.testing.assert_array_equal(line.get_xdata(), x)
        np.testing.assert_array_equal(line.get_ydata(), y[:, 1])
        assert line.get_color() == "C1"
    assert [text.get_text() for text in second.get_legend().get_texts()] == ["u_0", "u_1", "ours"]
    assert second.get_title(loc="left") == "a\nb"


@pytest.mark.parametrize("space", [(7,), (5, 4), (5, 4, 6)])
def test_every_channel_has_a_row_in_one_of_several_figures(space):
    rng = np.random.default_rng(0)
    x, y = rng.random((2, 3, *space)), rng.random((2, 6, *space))
    figures = plot.all_fields(x, y, {"one": y + 0.1}, names="abcdef")
    if len(space) == 1:
        titles = [[axes.get_title(loc="left") for axes in figure.axes[::2]] for figure in figures]
    else:
        titles = [[axes.get_ylabel() for axes in figure.axes if axes.get_title() == "input"] for figure in figures]
    assert titles == [list("abcd") * 2, list("ef") * 2]


def test_figures_of_one_kind_are_numbered_and_those_of_earlier_calls_removed(tmp_path):
    figures = [plot.curves({"a": ([1, 2], [1.0, 2.0])}, x="x", y="y")] * 3
    paths = plot.save_each(figures, tmp_path / "all.png")
    assert [path.name for path in paths] == ["all.png", "all-2.png", "all-3.png"]
    plot.save_each(figures[:1], tmp_path / "all.png")
    assert [path.name for path in tmp_path.iterdir()] == ["all.png"]


def test_the_best_the_median_and_the_worst_sample_are_rows():
    y = np.random.default_rng(0).random((5, 2, 6, 4))
    errors = np.array([0.3, 0.1, np.nan, 0.2, 0.4])
    assert plot.ranks(errors) == {"best": 1, "median": 0, "worst": 2}
    (figure,) = plot.best_to_worst(y, y, {"one": y}, errors=errors, names=["u", "v"])
    rows = [axes for axes in figure.axes if axes.get_title() == "truth"]
    labels = [axes.get_ylabel() for axes in figure.axes if axes.get_title() == "input"]
    assert labels == [
        f"{rank}\n{name}" for rank in ("best: sample 1", "median: sample 0", "worst: sample 2") for name in "uv"
    ]
    np.testing.assert_array_equal(rows[4].get_images()[0].get_array(), y[2, 0].T)
    assert plot.ranks(np.array([2.0])) == {"best": 0}
    assert plot.ranks(np.array([2.0, 1.0])) == {"best": 1, "worst": 0}
    with pytest.raises(ValueError, match="error of at least one sample, got none"):
        plot.ranks(np.zeros(0))
    with pytest.raises(ValueError, match="Expected an error for each of 5 samples, got 4"):
        plot.best_to_worst(y, y, {}, errors=errors[:4])


def test_predictions_that_are_not_finite_and_truths_of_zero_are_drawn(tmp_path):
    y = np.zeros((2, 1, 5, 4))
    y[0] = 1
    figure = plot.fields(y, y, {"one": np.full_like(y, np.nan), "two": y + 1}, names=["u"])
    titles = [axes.get_title() for axes in figure.axes if "error" in axes.get_title()]
    assert titles == [
        "one error (not finite)",
        "two error (100.00%)",
        "one error (not finite)",
        "two error (truth is zero)",
    ]
    plot.save(figure, tmp_path / "a.png")
