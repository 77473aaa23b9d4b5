"""What every operator promises, over the table `helpers.OPERATORS`: a new operator is one row there."""

import json

import equinox as eqx
import helpers
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import OPERATORS, assert_trees_close

from sciml import structure, train
from sciml.grid import Dirichlet, Grid, Neumann, Periodic
from sciml.nn import partition

BATCH, IN, OUT, NX, NY = 2, 3, 5, 16, 24  # no two equal: a swapped axis cannot pass
GRID = Grid((NX, NY), extent=(1.0, 2.0), boundary=((Dirichlet(), Neumann()), Periodic()))

# Each shares its parts with another row: "unet", "fno", or the global residual network.
SLOW = ("residual unet", "convnext unet", "convnet", "modern resnet", "padded", "rematerialised")
every_operator = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in OPERATORS]
)
apply = eqx.filter_jit(lambda operator, x: operator(x))  # operation by operation most of the time is compilation


def make(name, grid=GRID, seed=0):
    return OPERATORS[name].make(IN, OUT, grid, jax.random.key(seed))


def inputs(getkey, grid=GRID):
    return jax.random.normal(getkey(), (BATCH, IN, *grid.shape))


@every_operator
def test_vmap_equals_a_loop(name, getkey):
    operator, x = make(name), inputs(getkey)
    y = eqx.filter_jit(lambda operator, x: jax.vmap(operator)(x))(operator, x)
    assert y.shape == (BATCH, OUT, NX, NY)
    assert y.dtype == x.dtype
    looped = jnp.stack([apply(operator, one) for one in x])
    np.testing.assert_allclose(y, looped, atol=2e-5 * float(jnp.abs(looped).max()))  # float32, sums in another order


@every_operator
def test_gradients_reach_every_parameter_and_that_of_a_batch_is_the_sum_of_its_samples(name, getkey):
    x = inputs(getkey)
    trainable, rest = partition(make(name))

    def loss(trainable, x):
        return jnp.sum(eqx.combine(trainable, rest)(x) ** 2)

    together = jax.jit(jax.grad(lambda t: jnp.sum(jax.vmap(loss, (None, 0))(t, x))))(trainable)
    for path, leaf in jax.tree_util.tree_leaves_with_path(together):
        assert np.isfinite(leaf).all(), jax.tree_util.keystr(path)
        assert np.abs(leaf).max() > 0, f"{jax.tree_util.keystr(path)} has no influence"
    apart = jax.jit(jax.vmap(jax.grad(loss), (None, 0)))(trainable, x)
    scale = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(together))
    assert_trees_close(jax.tree.map(lambda leaf: leaf.sum(0), apart), together, rtol=1e-3, atol=2e-5 * scale)


@every_operator
def test_saved_and_rebuilt_without_its_constructor(name, getkey, tmp_path):
    operator, x = make(name), inputs(getkey)[0]
    checkpoints = train.Checkpoints(tmp_path)
    checkpoints.save(train.init(operator, optax.sgd(0.1)))
    checkpoints.wait()
    like = structure.rebuild(json.loads(json.dumps(structure.describe(operator))), classes=(helpers._Network,))
    restored = checkpoints.restore_model(like)
    checkpoints.close()
    np.testing.assert_array_equal(apply(restored, x), apply(operator, x))


@every_operator
def test_one_compilation_serves_a_shape(name, getkey):
    operator = make(name)
    traces = []

    @eqx.filter_jit
    def over_batch(operator, x):
        traces.append(x.shape)
        return jax.vmap(operator)(x)

    over_batch(operator, inputs(getkey))
    over_batch(make(name, seed=1), inputs(getkey))
    assert len(traces) == 1


@every_operator
def test_other_resolutions_work_or_are_refused_with_a_remedy(name, getkey):
    x = jax.random.normal(getkey(), (IN, NX + 8, NY - 4))
    if OPERATORS[name].any_resolution:
        assert apply(make(name), x).shape == (OUT, NX + 8, NY - 4)
    else:
        with pytest.raises(ValueError, match=r"Expected a field \(channels, 16, 24\).*Resampled"):
            make(name)(x)


@every_operator
def test_a_wrong_number_of_channels_is_refused(name, getkey):
    if name in ("flax",):
        pytest.skip("Flax checks its own shapes")
    with pytest.raises(ValueError, match=r"(?i)expected.*3.*channels|expected a field \(3"):
        make(name)(jax.random.normal(getkey(), (IN + 1, NX, NY)))


@pytest.mark.parametrize("name", [name for name, case in OPERATORS.items() if case.shift])
def test_shifts_commute_on_periodic_grids(name, getkey):
    grid = Grid((NX, NY))
    operator, shift = make(name, grid), OPERATORS[name].shift
    x = inputs(getkey, grid)[0]
    y = apply(operator, x)
    for axis in (1, 2):
        moved = apply(operator, jnp.roll(x, shift, axis))
        np.testing.assert_allclose(moved, jnp.roll(y, shift, axis), atol=1e-5 * float(jnp.abs(y).max()))
