"""ResidualMgNO against its formula."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml.grid import Dirichlet, Grid, Neumann, Periodic
from sciml.nn import CycleConfig, VCycle
from sciml.operators import ResidualMgNO

GRID = Grid((16, 12), boundary=(Periodic(), (Dirichlet(), Neumann())))


def at_points(conv, u):
    """A matrix of the channels and a constant, for fields with the channels first."""
    y = jnp.einsum("io,i...->o...", conv.weight[0, 0], u)
    return y if conv.bias is None else y + conv.bias.reshape(-1, 1, 1)


def test_output_is_that_of_the_formula(getkey):
    model = ResidualMgNO(2, 3, grid=GRID, width=5, depth=2, levels=2, key=getkey())
    x = jax.random.normal(getkey(), (2, *GRID.shape))
    u = at_points(model.lifting, x)
    for layer in model.layers:
        assert layer.hidden.weight.shape[-1] == 20
        cycled = jnp.moveaxis(layer.cycle.channels_last(jnp.moveaxis(u, 0, -1)[None])[0], -1, 0)
        hidden = at_points(layer.hidden, cycled)
        gelu = 0.5 * hidden * (1 + jax.scipy.special.erf(hidden / np.sqrt(2)))
        u = u + at_points(layer.out, gelu)
    expected = at_points(model.projection, u)
    np.testing.assert_allclose(model(x), expected, atol=2e-6 * float(jnp.abs(expected).max()))


def test_cycles_have_a_step_on_each_level_two_on_the_coarsest_and_the_parts_that_were_asked_for(getkey):
    model = ResidualMgNO(1, 1, grid=GRID, levels=3, cycle=CycleConfig(shared=True), key=getkey())
    assert len(model.layers) == 5
    for layer in model.layers:
        assert isinstance(layer.cycle, VCycle)
        assert [len(steps) for steps in layer.cycle.pre] == [1, 1, 2]
        assert not any(layer.cycle.post)
        assert all(step.smoother.bias is None for steps in layer.cycle.pre for step in steps)


@pytest.mark.parametrize("sizes", [{"depth": 0}, {"levels": 0}])
def test_no_layer_and_no_level_are_refused(sizes, getkey):
    with pytest.raises(ValueError, match="at least one layer and one level"):
        ResidualMgNO(1, 1, grid=GRID, key=getkey(), **sizes)


def test_other_channels_and_grids_are_refused(getkey):
    model = eqx.filter_eval_shape(lambda key: ResidualMgNO(2, 1, grid=GRID, levels=2, key=key), getkey())
    with pytest.raises(ValueError, match="Expected a field"):
        eqx.filter_eval_shape(model, jax.ShapeDtypeStruct((3, *GRID.shape), jnp.float32))
    with pytest.raises(ValueError, match="16, 12"):
        eqx.filter_eval_shape(model, jax.ShapeDtypeStruct((2, 16, 16), jnp.float32))
