"""Layouts in words and numbers, and what refuses parts of fields; one device can hold the only part."""

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, PartitionSpec

from sciml import cut, losses, metrics, nn, operators
from sciml.cli._main import main
from sciml.grid import Grid
from sciml.parallel import Cut, Layout

MESH = jax.make_mesh((1,), (cut.SPACE[0],), axis_types=(AxisType.Auto,), devices=jax.devices()[:1])


def on_a_part(function, field):
    """A function of a field `(channels, n)` or `(channels, n, n)` whose first axis of space is cut."""
    spec = PartitionSpec(None, cut.SPACE[0])
    return jax.shard_map(
        lambda x: jnp.sum(function(x))[None], mesh=MESH, in_specs=spec, out_specs=PartitionSpec("space0")
    )(field)


def test_words_of_a_layout():
    assert Layout.parse("data=8,space=4x2,state=cut") == Layout(8, (4, 2), Cut())
    assert Layout.parse("space=3") == Layout(None, (3,))
    for words in ("data=8,space=4x2,state=cut", "space=3", "data=2"):
        assert Layout.parse(words).words() == words
    assert Layout().words() == ""
    for words, wrong in (
        ("data=x", "'data=x'"),
        ("space=2x", "'space=2x'"),
        ("state=half", "'state=half'"),
        ("", "''"),
    ):
        with pytest.raises(ValueError, match=rf"Expected words like data=8, space=4x2 or state=cut .*, got {wrong}"):
            Layout.parse(words)
    with pytest.raises(ValueError, match=r"up to 3 axes of space, got data=None, space=\(2, 2, 2, 2\)"):
        Layout(space=(2, 2, 2, 2))
    with pytest.raises(ValueError, match=r"Expected a positive number of parts .* got data=None, space=\(0,\)"):
        Layout(space=(0,))


@pytest.mark.parametrize(
    ("layout", "batch", "grid", "message"),
    [
        (Layout(space=(3,)), 4, (16,), "3 parts of the 16 points of axis 0. These fit: 1, 2, 4, 8, 16"),
        (Layout(space=(2, 2)), 4, (16,), r"at most 1 axes of space, as many as the grid has, got \(2, 2\)"),
        (Layout(space=(16,)), 4, (16,), "at least 16 devices for the parts"),
        (Layout(data=3), 8, (), "got data=3. These fit: 1, 2, 4"),
        (Layout(data=5, space=(2,)), 10, (16,), "at most 2 on 4 devices, got data=5. These fit: 1, 2"),
    ],
)
def test_layouts_that_do_not_fit(layout, batch, grid, message):
    with pytest.raises(ValueError, match=message):
        layout.on(batch, grid, devices=[None] * 4)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (
            lambda x: metrics.relative_h1_spectral(x, x, grid=Grid((6, 6))),
            "A Fourier transform of all modes needs whole",
        ),
        (lambda x: metrics.absolute_h1(x, x, spacing=1.0), "The absolute H1 error needs whole fields"),
        (lambda x: metrics.max_error(x, x), "The largest error needs whole fields"),
        (lambda x: losses.transposition(x, jax.random.key(0)), "Expected whole fields for the symmetries"),
        (lambda x: nn.resample(x, Grid((6, 6)), Grid((8, 8))), "A cubic spline needs whole fields"),
        (
            lambda x: nn.max_pool(jnp.moveaxis(x, 0, -1)[None, :5]),
            "Every node number 2 is kept, but a part .* has 5 points",
        ),
        (
            lambda x: nn.DilatedConv(
                2, 2, dilation=8, dimensions=2, boundary=Grid((6, 6)).sides, key=jax.random.key(0)
            )(x),
            "A stencil of dilation 8 needs a periodic axis of at least 8 points, got 6",
        ),
        (
            lambda x: operators.UNO(
                2,
                1,
                width=4,
                stages=tuple(operators.Stage(4, (2, 2), scale) for scale in ((0.25, 0.25), (0.25, 0.25), (1, 1))),
                key=jax.random.key(0),
            )(x),
            "A stage of scale 0.25 needs parts whose number of points it keeps whole, got 6 points",
        ),
    ],
)
def test_what_needs_whole_fields_or_even_parts_says_so(function, message):
    with pytest.raises(ValueError, match=message):
        on_a_part(function, jnp.ones((2, 6, 6)))


def test_the_command_line_refuses_words_that_it_does_not_know(tmp_path, capsys):
    command = (
        "train",
        "darcy",
        "--preset",
        "smoke",
        "--model",
        "fno",
        "--mesh",
        "space=a",
        "--out",
        str(tmp_path / "run"),
    )
    assert main(command) == 2
    assert "--mesh space=a: Expected words like data=8" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_modules_of_others_are_trusted_if_they_say_so():
    class Trusted(eqx.nn.Linear):
        acts_on_parts = True

    own = operators.FNO(1, 1, modes=(4,), width=4, depth=1, key=jax.random.key(0))
    cut.check_model(operators.Residual(own))
    cut.check_model((own, Trusted(2, 2, key=jax.random.key(0))))
    with pytest.raises(
        ValueError, match=r"equinox\.nn\._linear\.Linear may need whole ones. Cut the batch alone, or set"
    ):
        cut.check_model((own, eqx.nn.Linear(2, 2, key=jax.random.key(0))))
