import enum
import functools
import json
import sys
import typing

import equinox as eqx
import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml import nn, train
from sciml.grid import Dirichlet, Grid, Neumann, Periodic


class Kind(enum.Enum):
    FIRST = 1


class Pair(typing.NamedTuple):
    left: object
    right: object


class Model(eqx.Module):
    """Nested parts of every kind."""

    part: object
    grid: Grid = eqx.field(static=True)
    keys: jax.Array
    statistics: nn.Frozen
    rest: dict
    activation: typing.Callable = jnp.tanh
    options: object = eqx.field(static=True, default=None)


class Static(eqx.Module):
    values: tuple = eqx.field(static=True)


class Network(flax.linen.Module):
    width: int

    @flax.linen.compact
    def __call__(self, x):
        return flax.linen.Dense(self.width)(x)


def module_function(x, slope):
    return slope * x


OWN = (Model, Kind, Pair, Network, module_function)


def through_json(model, classes=OWN):
    return train.rebuild(json.loads(json.dumps(train.describe(model))), classes)


def model():
    return Model(
        part=(
            eqx.nn.MLP(3, 2, 5, 1, key=jax.random.key(0)),
            [1, 2.5, None, "a"],
            Pair(jnp.ones(2, jnp.bfloat16), True),
        ),
        grid=Grid((4, 5, 6), (1.0, 2.0, 3.0), ((Dirichlet(), Neumann(0.5)), Periodic(), Neumann())),
        keys=jax.random.split(jax.random.key(3, impl="rbg"), 2),
        statistics=nn.Frozen(np.ones((2, 3))),
        rest={"x": jnp.zeros((), jnp.int32), "y": {"z": eqx.nn.Lambda(jax.nn.silu)}},
        activation=functools.partial(module_function, slope=0.1),
        options=(Kind.FIRST, float("inf"), 1 + 2j, np.dtype("float32"), jnp.float16),
    )


def test_nested_models_come_back_with_their_structure_shapes_and_types():
    before, after = model(), through_json(model())
    assert after.grid == before.grid
    assert after.options == before.options
    assert type(after.rest["y"]["z"]) is eqx.nn.Lambda
    assert after.activation.func is module_function
    assert after.activation.keywords == {"slope": 0.1}
    assert type(after.statistics) is nn.Frozen
    after = eqx.tree_at(
        lambda model: model.activation, after, before.activation
    )  # partials are only equal to themselves
    assert jax.tree.structure(after) == jax.tree.structure(before)
    for one, other in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        assert getattr(one, "dtype", one) == getattr(other, "dtype", other)
        assert getattr(one, "shape", None) == getattr(other, "shape", None)


@pytest.mark.parametrize(
    "function",
    [jax.nn.gelu, jax.nn.relu, jnp.tanh, jnp.add, np.sin, jax.lax.Precision.HIGHEST, jax.lax.add, nn.gelu, Kind.FIRST],
)
def test_functions_come_back_as_themselves(function):
    assert through_json(function) is function


@pytest.mark.parametrize("network", [Network(4), flax.linen.Sequential([flax.linen.Dense(3), flax.linen.gelu])])
def test_flax_networks_come_back_as_equal_ones(network):
    assert through_json(network) == network


def test_a_flax_network_without_flax_is_refused_with_the_remedy(monkeypatch):
    description = train.describe(flax.linen.Dense(3))
    for module in ("flax", "flax.linen"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ValueError, match=r"Flax is not installed: pip install 'sciml-jax\[flax\]'"):
        train.rebuild(description)


def test_names_are_public_and_survive_a_move_of_private_modules():
    description = json.dumps(train.describe(model()))
    assert "._" not in description
    assert '"sciml.nn.Frozen"' in description
    assert '"sciml.grid.Neumann"' in description


def test_the_model_saved_is_the_model_loaded(tmp_path):
    import optax

    trained = eqx.nn.MLP(3, 2, 5, 1, activation=jax.nn.gelu, key=jax.random.key(7))
    checkpoints = train.Checkpoints(tmp_path)
    checkpoints.save(train.init(trained, optax.sgd(0.1)))
    checkpoints.wait()
    loaded = checkpoints.restore_model(through_json(trained))
    checkpoints.close()
    np.testing.assert_array_equal(loaded(jnp.arange(3.0)), trained(jnp.arange(3.0)))


@pytest.mark.parametrize("part", [lambda x: x, functools.partial(lambda x: x), jax.jit(lambda x: x)])
def test_closures_are_refused_with_their_place(part):
    with pytest.raises(ValueError, match=r"model\.rest\['y'\]\.fn.* is .* no name to find it again\. Use a function"):
        train.describe(eqx.tree_at(lambda model: model.rest["y"], model(), eqx.nn.Lambda(part)))


def test_other_objects_are_refused_with_their_place():
    with pytest.raises(ValueError, match=r"model\[1\] is a builtins\.object, which cannot be written"):
        train.describe((1, object()))


def test_arrays_in_static_fields_are_refused():
    with pytest.warns(UserWarning, match="static"):
        static = Static((np.ones(2),))
    with pytest.raises(ValueError, match="0 arrays in its pytree and 1 in its fields: arrays in static fields"):
        train.describe(static)


def test_unknown_classes_are_refused_with_the_remedy():
    description = train.describe(model())
    with pytest.raises(ValueError, match=r"test_structure\.Model, which is not part of .*classes=\(Model,\)"):
        train.rebuild(description)


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ({"name": "os.system"}, r"os\.system, which is not part of"),
        ({"name": "numpy.os.system"}, "numpy.os.system does not exist in this version"),
        ({"name": "sciml.nn.Nothing"}, "sciml.nn.Nothing does not exist in this version"),
        ({"class": "jax.numpy.zeros", "fields": {"shape": 3}}, "jax.numpy.zeros is not a dataclass"),
        ({"class": "sciml.nn.Frozen", "fields": {"values": 3}}, r"has the fields \['value'\], the saved model has"),
        (
            {"partial": "jax.jit", "function": None, "arguments": [], "keywords": {"dict": []}},
            "not a functools.partial",
        ),
        ({"namedtuple": "jax.numpy.zeros", "items": []}, "is not a namedtuple"),
        ({"strange": 1}, "Expected one of .* got 'strange'"),
    ],
)
def test_descriptions_that_were_tampered_with_run_no_code(description, message):
    with pytest.raises(ValueError, match=message):
        train.rebuild(description)
