import builtins
import enum
import functools
import importlib
import inspect
import json
import operator
import sys
import typing

import equinox as eqx
import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml import nn, structure, train
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
    return structure.rebuild(json.loads(json.dumps(structure.describe(model))), classes)


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
    [jax.nn.gelu, jax.nn.relu, jnp.tanh, jnp.add, jnp.float16, jax.lax.Precision.HIGHEST, nn.gelu, Kind.FIRST],
)
def test_functions_come_back_as_themselves(function):
    assert through_json(function) is function


@pytest.mark.parametrize("network", [Network(4), flax.linen.Sequential([flax.linen.Dense(3), flax.linen.gelu])])
def test_flax_networks_come_back_as_equal_ones(network):
    assert through_json(network) == network


def test_a_flax_network_without_flax_is_refused_with_the_remedy(monkeypatch):
    description = structure.describe(flax.linen.Dense(3))
    for module in ("flax", "flax.linen"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ValueError, match=r"Flax is not installed: pip install 'sciml-jax\[flax\]'"):
        structure.rebuild(description)


def test_names_are_public_and_survive_a_move_of_private_modules():
    description = json.dumps(structure.describe(model()))
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
        structure.describe(eqx.tree_at(lambda model: model.rest["y"], model(), eqx.nn.Lambda(part)))


def test_other_objects_are_refused_with_their_place():
    with pytest.raises(ValueError, match=r"model\[1\] is a builtins\.object, which cannot be written"):
        structure.describe((1, object()))


def test_arrays_in_static_fields_are_refused():
    with pytest.warns(UserWarning, match="static"):
        static = Static((np.ones(2),))
    with pytest.raises(ValueError, match="0 arrays in its pytree and 1 in its fields: arrays in static fields"):
        structure.describe(static)


def test_unknown_classes_are_refused_with_the_remedy():
    description = structure.describe(model())
    with pytest.raises(ValueError, match=r"test_structure\.Model, which is not in the table .*classes=\(Model,\)"):
        structure.rebuild(description)


def of(tree):
    return {"format": 2, "model": tree}


def field(name, value):
    return {"class": "sciml.grid.Neumann", "fields": {name: value}}


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"name": "sciml.nn.Nothing"}, "sciml.nn.Nothing, which is not in the table"),
        ({"name": ["sciml.nn.gelu"]}, "Expected the name of a class"),
        ({"class": "jax.nn.relu", "fields": {"shape": 3}}, "jax.nn.relu is not a dataclass"),
        ({"class": "sciml.nn.Frozen", "fields": {"values": 3}}, r"has the fields \['value'\], the saved model has"),
        ({"class": "sciml.nn.Frozen"}, "Expected the entries class, fields in the model's description, got class"),
        ({"class": "sciml.nn.Frozen", "fields": [1]}, "Expected a dict"),
        (field("gap", "0.5"), r"The field gap of sciml.grid.Neumann .*: str is neither float or int"),
        (
            {"class": "sciml.grid.Grid", "fields": {"shape": {"tuple": [-1]}}},
            "sciml.grid.Grid cannot be made from the model's description",
        ),
        ({"partial": "jax.nn.relu", "function": None, "arguments": [], "keywords": {"dict": []}}, "not a functools"),
        (
            {"partial": "functools.partial", "function": 3, "arguments": [], "keywords": {"dict": []}},
            "Expected a function",
        ),
        ({"namedtuple": "jax.numpy.sin", "items": []}, "is not a namedtuple"),
        ({"mapping": "sciml.grid.Grid", "items": []}, "is not a mapping"),
        ({"enum": "sciml.grid.Grid", "member": "x"}, "is not an enumeration"),
        ({"enum": "jax.lax.Precision", "member": "__class__"}, "Expected one of the members of jax.lax.Precision"),
        ({"array": [1 << 60], "dtype": "float32"}, "Expected arrays that fit into memory"),
        ({"array": [1 << 30], "key": "threefry2x32"}, "Expected up to 1048576 random keys, got an array of shape"),
        ({"array": [-1], "dtype": "float32"}, "Expected the shape of an array"),
        ({"array": [1], "dtype": "object"}, "Expected one of the types of arrays .* got 'object'"),
        ({"array": [1], "key": "other"}, "Expected one of the kinds of random keys"),
        ({"float": "1e5"}, "Expected one of the floats"),
        ({"dict": [[1, 2, 3]]}, "Expected pairs"),
        ({"dict": [[{"dict": []}, 2]]}, "A key in the model's description"),
        ({"strange": 1}, "Expected one of .* got 'strange'"),
    ],
)
def test_descriptions_that_were_tampered_with_run_no_code(tree, message):
    with pytest.raises(ValueError, match=message):
        structure.rebuild(of(tree))


def test_descriptions_of_other_formats_and_too_deep_ones_are_refused():
    with pytest.raises(ValueError, match="in format 2, got format 3"):
        structure.rebuild({"format": 3, "model": None})
    deep = None
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(ValueError, match="nested too deeply"):
        structure.rebuild(of(deep))


FOUND = """
    numpy.testing.measure numpy.save numpy.load numpy.savetxt numpy.fromfile numpy.memmap numpy.ctypeslib.load_library
    numpy.f2py.__main__.x numpy.f2py.main numpy.os.system jax.experimental.serialize_executable.deserialize_and_load
    sciml.experiment.load_file sciml.experiment.run_file sciml.data.generate sciml.plot.save jax.pure_callback
    jax.debug.callback jax.experimental.io_callback jax.numpy.save jax.numpy.load functools.reduce operator.attrgetter
    builtins.eval builtins.exec builtins.open builtins.__import__ os.system subprocess.run importlib.import_module
    sciml.operators._cno._Block sciml.nn._multigrid.SmoothingStep sciml.nn.gelu.__globals__ jax.numpy.sin.__call__
    diffrax.TqdmProgressMeter diffrax.importlib.import_module equinox.nn.Linear.__init__ lineax.importlib
    """.split()  # noqa: SIM905
"""Names that an earlier version accepted or that somebody may try."""


def other_names():
    """Every public callable of these modules that is not in the table, of their own and of those below them."""
    modules = (builtins, functools, operator, np, np.linalg, np.random, np.testing, jax, jax.lax, jnp, jax.nn, eqx)
    listed = structure.known_names()
    names = {f"{m.__name__}.{name}" for m in modules for name in dir(m) if callable(getattr(m, name, None))}
    return sorted(names - listed)


@pytest.mark.parametrize("kind", ["name", "class", "partial", "namedtuple", "mapping", "enum"])
def test_no_name_outside_of_the_table_is_accepted(kind):
    rest = {
        "name": {},
        "class": {"fields": {}},
        "partial": {"function": {"name": "jax.nn.relu"}, "arguments": [], "keywords": {"dict": []}},
        "namedtuple": {"items": []},
        "mapping": {"items": []},
        "enum": {"member": "x"},
    }[kind]
    names = [*FOUND, *other_names()]
    assert len(names) > 1500
    before = set(sys.modules)
    for name in names:
        with pytest.raises(ValueError, match="not in the table of"):
            structure.rebuild(of({kind: name, **rest}))
        if name not in structure.known_names() and "._" not in name:
            with pytest.raises(ValueError, match="not in the table of"):  # the format of version 0.1
                structure.rebuild({kind: name, **rest})
    assert set(sys.modules) == before


def test_a_partial_function_of_a_name_outside_of_the_table_is_refused():
    function = {"name": "numpy.testing.measure"}
    partial = {"partial": "functools.partial", "function": function, "arguments": [], "keywords": {"dict": []}}
    with pytest.raises(ValueError, match=r"numpy\.testing\.measure, which is not in the table"):
        structure.rebuild(of(partial))


def test_the_callers_objects_are_found_by_their_own_names_alone():
    assert structure.rebuild(of({"name": "elsewhere.module_function"}), (module_function,)) is module_function
    assert structure.rebuild(of({"name": "jax.nn.relu"}), (module_function,)) is jax.nn.relu
    for name in ("elsewhere.module_function.__globals__", "module_function_", "function"):
        with pytest.raises(ValueError, match="not in the table"):
            structure.rebuild(of({"name": name}), (module_function,))

    def module_function_twice():
        pass

    module_function_twice.__qualname__ = "module_function"
    module_function_twice.__module__ = "elsewhere.b"
    with pytest.raises(ValueError, match="several of the given classes have that name"):
        structure.rebuild(of({"name": "elsewhere.module_function"}), (module_function, module_function_twice))


def test_every_name_of_the_table_exists_and_is_found_again():
    for name in structure.known_names():
        item = structure.rebuild(of({"name": name}))
        assert structure.rebuild(structure.describe(item)) is item, name


@pytest.mark.parametrize("area", ["nn", "operators", "nde", "preconditioners", "prose", "symbolic", "pdes", "tasks"])
def test_every_public_layer_and_model_is_in_the_table(area):
    module = importlib.import_module(f"sciml.{area}")
    for name, item in vars(module).items():
        if isinstance(item, type) and issubclass(item, eqx.Module) and item.__module__.startswith(f"sciml.{area}"):
            assert (
                inspect.isabstract(item)
                or name.startswith("Abstract")
                or f"sciml.{area}.{name}" in (structure.known_names())
            )


def test_arrays_that_the_system_refuses_are_an_error(monkeypatch):
    def refuse(*_):
        raise MemoryError

    monkeypatch.setattr(np, "zeros", refuse)
    with pytest.raises(ValueError, match=r"Expected arrays that fit into memory, got one of shape \[1048576\]"):
        structure.rebuild({"format": 2, "model": {"array": [1 << 20], "dtype": "float32"}})
