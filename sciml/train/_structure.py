"""The structure of a model as JSON: enough to rebuild it without the script that made it, and without running code.

Classes and functions are stored by name and looked up in a few trusted packages; arrays are stored as shape and dtype,
their values are in the checkpoints.
"""

import dataclasses
import enum
import functools
import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from sciml.train import _old_names

_TRUSTED = ("sciml", "jax", "equinox", "diffrax", "lineax", "optimistix", "flax", "optax", "numpy")
# Public homes of objects whose own module is private and may move between versions.
_HOMES = ("jax.nn", "jax.nn.initializers", "jax.numpy", "jax.lax", "jax.tree_util", "jax", "equinox.nn", "flax.linen")


def describe(model: PyTree) -> Any:
    """A description of `model` that `json` can write.

    Raises:
        ValueError: If a part has no name or value that could be written, such as a lambda; it names the part.
    """
    description = _describe(model, "model")
    arrays = sum(eqx.is_array(leaf) for leaf in jax.tree.leaves(model))
    if _count_arrays(description) != arrays:
        raise ValueError(
            f"The model has {arrays} arrays in its pytree and {_count_arrays(description)} in its fields: arrays in "
            "static fields are not saved. Keep them in ordinary fields, wrapped in nn.Frozen if they are not trained."
        )
    return description


def rebuild(description: Any, classes: Sequence[Any] = ()) -> PyTree:
    """The model of a description, with zeros in all arrays.

    Args:
        description: From `describe`.
        classes: Classes and functions of the model that are not part of sciml, jax, equinox, flax, optax or numpy.

    Raises:
        ValueError: If a class or function is not known, or not of the described kind.
    """
    return _rebuild(description, classes)


def _describe(node: Any, path: str) -> Any:
    if node is None or type(node) in (bool, int, str):
        return node
    if type(node) is float:
        return node if np.isfinite(node) else {"float": repr(node)}
    if eqx.is_array(node):
        if jnp.issubdtype(node.dtype, jax.dtypes.prng_key):
            return {"array": list(node.shape), "key": str(jax.random.key_impl(node))}
        return {"array": list(node.shape), "dtype": node.dtype.name}
    if isinstance(node, functools.partial):
        return {
            "partial": _name(type(node), path),
            "function": _describe(node.func, f"{path}.func"),
            "arguments": _describe(list(node.args), f"{path}.args"),
            "keywords": _describe(node.keywords, f"{path}.keywords"),
        }
    if isinstance(node, enum.Enum):
        return {"enum": _name(type(node), path), "member": node.name}
    if isinstance(node, complex):
        return {"complex": [node.real, node.imag]}
    if isinstance(node, np.dtype):
        return {"dtype": node.name}
    if isinstance(node, tuple | list | Mapping):
        return _describe_container(node, path)
    if dataclasses.is_dataclass(node) and not isinstance(node, type):
        return _describe_fields(node, path)
    if callable(node):
        return {"name": _name(node, path)}
    raise ValueError(
        f"{path} is a {type(node).__module__}.{type(node).__qualname__}, which cannot be written to model.json. "
        "Use numbers, strings, arrays, tuples, dicts, functions of a module, frozen dataclasses or Equinox modules."
    )


def _describe_container(node: Any, path: str) -> Any:
    if type(node) is list:
        return [_describe(item, f"{path}[{i}]") for i, item in enumerate(node)]
    if isinstance(node, Mapping):
        items = [[_describe(key, path), _describe(value, f"{path}[{key!r}]")] for key, value in node.items()]
        return {"dict": items} if type(node) is dict else {"mapping": _name(type(node), path), "items": items}
    items = [_describe(item, f"{path}[{i}]") for i, item in enumerate(node)]
    return {"tuple": items} if type(node) is tuple else {"namedtuple": _name(type(node), path), "items": items}


def _describe_fields(node: Any, path: str) -> Any:
    fields = {}
    for field in dataclasses.fields(node):
        if not (field.init or isinstance(node, eqx.Module)):
            continue  # derived in __post_init__, which runs again
        value = getattr(node, field.name)
        try:
            fields[field.name] = _describe(value, f"{path}.{field.name}")
        except ValueError:
            if _default(type(node), field.name) is not value:
                raise
            fields[field.name] = {"default": field.name}  # such as the lambda in the signature of equinox.nn.MLP
    return {"class": _name(type(node), path), "fields": fields}


def _default(cls: type, argument: str) -> Any:
    known = inspect.signature(cls.__init__).parameters
    return known[argument].default if argument in known else inspect.Parameter.empty


def _name(item: Any, path: str) -> str:
    """The public name of a class or function, or its own if it is not of a trusted package."""
    module, name = getattr(item, "__module__", None) or "", getattr(item, "__name__", "<unnamed>")
    qualified = getattr(item, "__qualname__", name)
    own = module.split(".")
    public = next((i for i, part in enumerate(own) if part.startswith("_")), len(own))
    homes = [".".join(own[:end]) for end in range(public, 0, -1)]
    homes += [home for home in _HOMES if own[0] in (home.split(".")[0], "")]
    for home in filter(None, homes):
        if getattr(_module(home), name, None) is item:
            return f"{home}.{name}"
    if not module or "<" in qualified:
        raise ValueError(
            f"{path} is {item!r}, which has no name to find it again. Use a function defined at the top of a module "
            "(functools.partial fixes its arguments), or an Equinox module in place of a closure."
        )
    return f"{module}.{qualified}"


def _count_arrays(node: Any) -> int:
    if isinstance(node, list):
        return sum(map(_count_arrays, node))
    if isinstance(node, dict):
        return 1 if "array" in node else sum(map(_count_arrays, node.values()))
    return 0


def _rebuild(node: Any, classes: Sequence[Any]) -> Any:
    if isinstance(node, list):
        return [_rebuild(item, classes) for item in node]
    if not isinstance(node, dict):
        return node
    kind = next(iter(node), None)
    if kind not in _REBUILD:
        raise ValueError(f"Expected one of {', '.join(_REBUILD)} in a model's description, got {kind!r}.")
    return _REBUILD[kind](node, classes)


def _rebuild_array(node: dict[str, Any], classes: Sequence[Any]) -> Any:
    shape = tuple(node["array"])
    if "key" in node:
        words = jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0, impl=node["key"]))).shape
        return jax.random.wrap_key_data(jnp.zeros((*shape, *words), jnp.uint32), impl=node["key"])
    return np.zeros(shape, jnp.dtype(node["dtype"]))  # NumPy's zeros take no memory until they are written


def _rebuild_fields(node: dict[str, Any], classes: Sequence[Any]) -> Any:
    cls = _find(node["class"], classes)
    if not (isinstance(cls, type) and dataclasses.is_dataclass(cls)):
        raise ValueError(f"{node['class']} is not a dataclass or an Equinox module. The run was saved by other code.")
    present: str = _old_names.CLASSES.get(node["class"]) or node["class"]
    old = _old_names.FIELDS.get(present, {})
    fields = {}
    for saved, value in node["fields"].items():
        name = old.get(saved, saved)
        if name is not None:
            given = isinstance(value, dict) and "default" in value
            fields[name] = _default(cls, name) if given else _rebuild(value, classes)
    known = {field.name for field in dataclasses.fields(cls)}
    missing = known - set(fields) if issubclass(cls, eqx.Module) else set()
    if missing or set(fields) - known:
        raise ValueError(
            f"{node['class']} has the fields {sorted(known)}, the saved model has {sorted(fields)}. "
            "Load the run with the version of the code that saved it (see run.json)."
        )
    if not issubclass(cls, eqx.Module):
        return cls(**fields)
    new = object.__new__(cls)  # without __init__, as unflattening does: it would make new random parameters
    for name, value in fields.items():
        object.__setattr__(new, name, value)
    return new


def _rebuild_partial(node: dict[str, Any], classes: Sequence[Any]) -> Any:
    cls = _find(node["partial"], classes)
    if not (isinstance(cls, type) and issubclass(cls, functools.partial)):
        raise ValueError(f"{node['partial']} is not a functools.partial.")
    function, arguments, keywords = (_rebuild(node[part], classes) for part in ("function", "arguments", "keywords"))
    return cls(function, *arguments, **keywords)


def _rebuild_collection(node: dict[str, Any], classes: Sequence[Any]) -> Any:
    kind = next(iter(node))
    cls = _find(node[kind], classes)
    items = [_rebuild(item, classes) for item in node["items"]]
    if kind == "namedtuple" and isinstance(cls, type) and issubclass(cls, tuple):
        return cls(*items)
    if kind == "mapping" and isinstance(cls, type) and issubclass(cls, Mapping):
        return cast(Callable[[Any], Any], cls)({_hashable(key): value for key, value in items})
    raise ValueError(f"{node[kind]} is not a {kind}. The run was saved by other code.")


def _hashable(key: Any) -> Any:
    return tuple(key) if isinstance(key, list) else key


_REBUILD: dict[Any, Callable[[dict[str, Any], Sequence[Any]], Any]] = {
    "array": _rebuild_array,
    "class": _rebuild_fields,
    "partial": _rebuild_partial,
    "namedtuple": _rebuild_collection,
    "mapping": _rebuild_collection,
    "tuple": lambda node, classes: tuple(_rebuild(item, classes) for item in node["tuple"]),
    "dict": lambda node, classes: {_rebuild(key, classes): _rebuild(value, classes) for key, value in node["dict"]},
    "enum": lambda node, classes: _find(node["enum"], classes)[node["member"]],
    "name": lambda node, classes: _find(node["name"], classes),
    "dtype": lambda node, classes: np.dtype(jnp.dtype(node["dtype"])),
    "float": lambda node, classes: float(node["float"]),
    "complex": lambda node, classes: complex(*node["complex"]),
}


def _find(name: str, classes: Sequence[Any]) -> Any:
    """The object of that name, from the caller's or from a trusted package."""
    name = _old_names.CLASSES.get(name, name)
    for item in classes:
        own = getattr(item, "__qualname__", getattr(item, "__name__", ""))
        if name == f"{item.__module__}.{own}" or (name.split(".")[0] not in _TRUSTED and name.endswith(f".{own}")):
            return item
    if name == "functools.partial":
        return functools.partial
    if name.split(".")[0] not in _TRUSTED:
        last = name.rsplit(".", 1)[-1]
        raise ValueError(
            f"The model uses {name}, which is not part of {', '.join(_TRUSTED)}. "
            f"Import it and pass it along: load(folder, classes=({last},))."
        )
    if name.startswith("flax.") and _module("flax") is None:
        raise ValueError(f"The model uses {name}, and Flax is not installed: pip install 'sciml-jax[flax]'.")
    module, _, attribute = name.rpartition(".")
    found = getattr(_module(module), attribute, None)
    home = getattr(found, "__module__", None) or module
    if found is None or not callable(found) or home.split(".")[0] not in (*_TRUSTED, "jaxlib"):
        raise ValueError(f"{name} does not exist in this version. See run.json for the versions that saved the model.")
    return found


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        outer, _, inner = name.rpartition(".")
        return getattr(_module(outer), inner, None) if outer else None
