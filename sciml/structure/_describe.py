"""From a model to its description."""

import dataclasses
import enum
import functools
import inspect
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from sciml.structure import _vocabulary

FORMAT = 2
"""Version of the descriptions that `describe` makes."""


def describe(model: PyTree) -> dict[str, Any]:
    """A description of `model` that `json` can write: `{"format": 2, "model": ...}`.

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
    return {"format": FORMAT, "model": description}


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
    listed = _vocabulary.names()
    for field in dataclasses.fields(node):
        if not (field.init or isinstance(node, eqx.Module)):
            continue  # derived in __post_init__, which runs again
        value = getattr(node, field.name)
        unlisted = callable(value) and not dataclasses.is_dataclass(value) and id(value) not in listed
        if unlisted and default_of(type(node), field.name) is value:
            fields[field.name] = {"default": field.name}  # such as the lambda in the signature of equinox.nn.MLP
        else:
            fields[field.name] = _describe(value, f"{path}.{field.name}")
    return {"class": _name(type(node), path), "fields": fields}


def default_of(cls: type, argument: str) -> Any:
    """The default of a parameter of a class; `inspect.Parameter.empty` if it has none."""
    known = inspect.signature(cls.__init__).parameters
    return known[argument].default if argument in known else inspect.Parameter.empty


def _name(item: Any, path: str) -> str:
    """The name of a class or function in the table, or its own if it is not listed there."""
    listed = _vocabulary.names().get(id(item))
    if listed is not None:
        return listed
    module, name = getattr(item, "__module__", None), getattr(item, "__qualname__", getattr(item, "__name__", "<>"))
    if not module or "<" in name:
        raise ValueError(
            f"{path} is {item!r}, which has no name to find it again. Use a function defined at the top of a module "
            "(functools.partial fixes its arguments), or an Equinox module in place of a closure."
        )
    return f"{module}.{name}"


def _count_arrays(node: Any) -> int:
    if isinstance(node, list):
        return sum(map(_count_arrays, node))
    if isinstance(node, dict):
        return 1 if "array" in node else sum(map(_count_arrays, node.values()))
    return 0
