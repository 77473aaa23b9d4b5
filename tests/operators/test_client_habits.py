"""What other people do with an operator in JAX, Equinox and Flax, over the table `helpers.OPERATORS`.

A habit that fails is in `EXCEPTIONS` with its reason, which `equinox.nn` shares: that is a test as well.
"""

import copy
import io
import pickle
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from helpers import OPERATORS
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from sciml import operators
from sciml.grid import Grid
from sciml.nn import partition
from sciml.operators import _flax

BATCH, IN, OUT = 4, 3, 2
GRID = Grid((16, 12))
batched = eqx.filter_jit(lambda operator, x: jax.vmap(operator)(x))
loss = lambda operator, x: jnp.mean(jax.vmap(operator)(x) ** 2)


def made(name, seed=0):
    return OPERATORS[name].make(IN, OUT, GRID, jax.random.key(seed))


def inputs():
    return jax.random.normal(jax.random.key(1), (BATCH, IN, *GRID.shape))


def close(found, expected, tolerance=1e-5):
    """Equal up to float32's rounding (6e-8) through all layers; 1e-4 where the operations come in another order."""
    scale = float(jnp.abs(expected).max())
    np.testing.assert_allclose(np.asarray(found, np.float32), expected, atol=tolerance * scale)


def other_types(name, operator, x, y):
    """The result has the common type of the input and the parameters, as in `jax.numpy`."""
    for kind in (jnp.bfloat16, jnp.float16, jnp.int32):
        given = (4 * x).astype(kind)
        found = batched(operator, given)
        assert found.dtype == jnp.float32
        close(found, batched(operator, given.astype(jnp.float32)))


def double_precision(name, operator, x, y):
    with jax.enable_x64(True):
        found = batched(operator, np.asarray(x, np.float64))
    assert found.dtype == jnp.float64
    close(found, y, 1e-4)


def half_precision(name, operator, x, y):
    """Parameters in bfloat16 give results in bfloat16."""
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16) if eqx.is_inexact_array(leaf) else leaf, operator)
    found = batched(half, x.astype(jnp.bfloat16))
    assert found.dtype == jnp.bfloat16
    assert np.isfinite(np.asarray(found, np.float32)).all()


def on_a_mesh(kind):
    def habit(name, operator, x, y):
        mesh = jax.make_mesh((1,), ("batch",), axis_types=(kind,))
        placed = jax.device_put(x, NamedSharding(mesh, PartitionSpec("batch")))
        model = eqx.filter_shard(operator, NamedSharding(mesh, PartitionSpec()))
        found = batched(model, placed)
        assert jax.typeof(found).sharding.spec[0] == ("batch" if kind == AxisType.Explicit else None)
        close(found, y)
        close(batched(operator, placed), y)
        slopes = lambda *both: jax.tree.leaves(eqx.filter_jit(eqx.filter_grad(loss))(*both))
        for one, other in zip(
            *(jax.tree.leaves(slopes(*both)) for both in ((model, placed), (operator, x))), strict=True
        ):
            np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5 * max(1.0, float(jnp.abs(other).max())))

    return habit


def pickled(name, operator, x, y):
    close(batched(pickle.loads(pickle.dumps(operator)), x), y)


def copied(name, operator, x, y):
    close(batched(copy.deepcopy(operator), x), y)


def serialised(name, operator, x, y):
    file = io.BytesIO()
    eqx.tree_serialise_leaves(file, operator)
    file.seek(0)
    like = eqx.filter_eval_shape(lambda: made(name, seed=2))
    close(batched(eqx.tree_deserialise_leaves(file, like), x), y)


def ensembled(name, operator, x, y):
    """Operators that are made and called by `filter_vmap`."""
    several = eqx.filter_vmap(lambda key: OPERATORS[name].make(IN, OUT, GRID, key))(
        jnp.stack([jax.random.key(0), jax.random.key(3)])
    )
    found = eqx.filter_jit(eqx.filter_vmap(lambda one, x: jax.vmap(one)(x), in_axes=(eqx.if_array(0), None)))(
        several, x
    )
    assert found.shape == (2, *y.shape)
    close(found[0], y, 1e-4)


def partitioned(name, operator, x, y):
    """`jax.jit` of a function of the arrays."""
    arrays, rest = eqx.partition(operator, eqx.is_array)
    close(jax.jit(lambda arrays, x: jax.vmap(eqx.combine(arrays, rest))(x))(arrays, x), y)


def jitted(name, operator, x, y):
    close(jax.jit(operator)(x[0]), y[0])


def differentiated_twice(name, operator, x, y):
    """A product of the Hessian of a loss in the input with a vector, forward over reverse."""
    slope = jax.grad(lambda x: jnp.sum(operator(x) ** 2))
    product = jax.jit(lambda x, v: jax.jvp(slope, (x,), (v,))[1])
    a, b = product(x[0], x[1]), product(x[0], x[2])
    rounding = 1e-5 * float(jnp.linalg.norm(a) * jnp.linalg.norm(x[2]))  # of float32, through all layers
    np.testing.assert_allclose(jnp.vdot(a, x[2]), jnp.vdot(b, x[1]), atol=rounding, rtol=0)  # the Hessian is symmetric


def scanned(name, operator, x, y):
    """A rollout by `jax.lax.scan`."""
    step = lambda u, _: (jnp.concatenate((operator(u), u[:1])), None)
    found = jax.jit(lambda u: jax.lax.scan(step, u, None, length=2)[0])(x[0])
    assert found.shape == x[0].shape
    assert np.isfinite(found).all()


def of_nnx(name, operator, x, y):
    """A module of Flax NNX, and a step of its optimiser."""
    module = operators.nnx_module(operator)
    close(jax.vmap(module)(x), y)
    optimiser = nnx.Optimizer(module, optax.sgd(0.1), wrt=nnx.Param)
    slopes = nnx.grad(lambda module: jnp.mean(jax.vmap(module)(x) ** 2))(module)
    optimiser.update(module, slopes)
    trainable, rest = partition(operator)
    slopes = eqx.filter_jit(eqx.filter_grad(lambda trainable, x: loss(eqx.combine(trainable, rest), x)))(trainable, x)
    expected = eqx.apply_updates(operator, jax.tree.map(lambda g: -0.1 * g, slopes))
    close(batched(module.operator(), x), batched(expected, x), 1e-4)


HABITS = {
    "inputs of other types": other_types,
    "float64": double_precision,
    "bfloat16 parameters": half_precision,
    "an Explicit mesh": on_a_mesh(AxisType.Explicit),
    "an Auto mesh": on_a_mesh(AxisType.Auto),
    "pickle": pickled,
    "deepcopy": copied,
    "tree_serialise_leaves": serialised,
    "filter_vmap": ensembled,
    "jit of arrays": partitioned,
    "jit of the operator": jitted,
    "hessian-vector product": differentiated_twice,
    "scan": scanned,
    "nnx": of_nnx,
}
NO_NAME = "pickle finds functions by name, and activations of jax.nn have none that it finds; cloudpickle takes them"
STATIC = "jax.jit of a module hashes its arrays: use equinox.filter_jit, or a lambda"
WITH_RELU = ("ffno", "galerkin", "unet", "dilated resnet", "convnet")
EXCEPTIONS = {("jit of the operator", name): STATIC for name in OPERATORS} | {
    ("pickle", name): NO_NAME for name in WITH_RELU
}


QUICK = {
    ("fno", "inputs of other types"),
    ("fno", "an Explicit mesh"),
    ("fno", "pickle"),
    ("fno", "filter_vmap"),
    ("mgno", "an Explicit mesh"),  # multigrid cycles
    ("unet", "an Explicit mesh"),  # convolutions
    ("mgno", "pickle"),
    ("unet", "pickle"),
    ("deeponet", "nnx"),
}
CASES = [(name, habit) for name in OPERATORS for habit in HABITS]


@pytest.mark.parametrize(
    ("name", "habit"), [case if case in QUICK else pytest.param(*case, marks=pytest.mark.slow) for case in CASES]
)
def test_habit(name, habit):
    operator, x = made(name), inputs()
    if (habit, name) in EXCEPTIONS:
        with pytest.raises((TypeError, pickle.PicklingError, AttributeError)):
            HABITS[habit](name, operator, x, batched(operator, x))
    else:
        HABITS[habit](name, operator, x, batched(operator, x))


def test_a_missing_flax_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "flax", None)
    _flax._nnx_class.cache_clear()
    with pytest.raises(ModuleNotFoundError, match=r"Flax, which is not installed: pip install 'sciml-jax\[flax\]'"):
        operators.nnx_module(made("fno"))


def test_equinox_shares_the_exceptions():
    network = eqx.nn.MLP(2, 2, 4, 1, activation=jax.nn.relu, key=jax.random.key(0))
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(network)
    with pytest.raises(TypeError, match="unhashable"):
        jax.jit(network)(jnp.ones(2))
