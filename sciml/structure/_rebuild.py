"""From a description to the model, with zeros in all arrays."""

import dataclasses
import enum
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_type_hints

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import typeguard
from jaxtyping import PyTree

from sciml.structure import _vocabulary
from sciml.structure._describe import FORMAT, default_of

_LARGEST = 1 << 44  # bytes of one array
_MOST_KEYS = 1 << 20  # of random numbers in one array, which take memory at once
_REMEDY = "Load the run with the version of the code that saved it (see run.json)."

_OLD_NAMES: dict[str, str] = {
    **{place: name for name, place in _vocabulary.INNER.items()},
    "sciml.operators._unet._ResidualBlock": "sciml.operators.ResidualUNetBlock",
    "sciml.nde.SumPenalty": "sciml.nde.SumRegulariser",
    "sciml.nde.ScaledPenalty": "sciml.nde.ScaledRegulariser",
    "sciml.prose.all_rows": "sciml.prose.all_embeddings",
    "sciml.prose.data_rows": "sciml.prose.data_embeddings",
    "sciml.prose.symbol_rows": "sciml.prose.symbol_embeddings",
}
"""Old name of a class or function -> the present one."""

_OLD_FIELDS: dict[str, dict[str, str]] = {
    "sciml.nde.Solve": {"penalty": "regulariser"},
    "sciml.nde.ScaledRegulariser": {"penalty": "regulariser"},
}
"""Present name of a class -> its old fields -> their present names."""

_NAMED = ("class", "name", "partial", "namedtuple", "mapping", "enum")

Rule = Callable[[dict[str, Any], "_Names"], Any]


def rebuild(description: Any, classes: Sequence[Any] = ()) -> PyTree:
    """The model of a description, with zeros in all arrays.

    Nothing is imported or called because the description names it: names stand for objects of the table of
    `sciml.structure` or of `classes`. Modules are filled without their constructors; those of other dataclasses
    run after the types of their fields are checked.

    Args:
        description: From `describe`, of this version or of an earlier one.
        classes: The caller's own classes and functions that the model consists of.

    Raises:
        ValueError: If a class or function is not known, or the description is not one of `describe`.
    """
    if not (isinstance(description, dict) and "format" in description):
        description = {"format": FORMAT, "model": _converted(description)}
    if set(description) != {"format", "model"} or description["format"] != FORMAT:
        raise ValueError(
            f"Expected a description of a model in format {FORMAT}, got format {description['format']!r} with the "
            f"entries {', '.join(map(str, description))}. A newer version of sciml may read it."
        )
    try:
        return _rebuild(description["model"], _Names(classes))
    except RecursionError:
        raise ValueError("The description of the model is nested too deeply to be one of `describe`.") from None


def _converted(node: Any) -> Any:
    """A description of version 0.1 in the present format: other names, nothing else."""
    if isinstance(node, list):
        return [_converted(item) for item in node]
    if not isinstance(node, dict):
        return node
    new = {key: _converted(value) for key, value in node.items()}
    kind = next(iter(new), None)
    if kind in _NAMED and isinstance(new[kind], str):
        new[kind] = _OLD_NAMES.get(new[kind], new[kind])
        if kind == "class" and isinstance(new.get("fields"), dict):
            fields = _OLD_FIELDS.get(new[kind], {})
            new["fields"] = {fields.get(name, name): value for name, value in new["fields"].items()}
    return new


class _Names:
    """What names stand for: objects of the table, or of the caller's."""

    def __init__(self, classes: Sequence[Any]):
        self._own: dict[str, list[Any]] = {}
        for item in dict.fromkeys(classes):
            own = getattr(item, "__qualname__", getattr(item, "__name__", ""))
            for name in (f"{getattr(item, '__module__', '')}.{own}", own):
                self._own.setdefault(name, []).append(item)

    def find(self, name: Any) -> Any:
        """The object of a name.

        Raises:
            ValueError: If there is none, or the caller has given several of that name.
        """
        if not isinstance(name, str):
            raise ValueError(f"Expected the name of a class or function in the model's description, got {name!r:.80}.")
        listed = name in _vocabulary.known_names()
        found = [] if listed else self._own.get(name) or self._own.get(name.rsplit(".", 1)[-1], [])
        if len(found) == 1:
            return found[0]
        if found:
            raise ValueError(f"The model uses {name}, and several of the given classes have that name.")
        if not listed:
            raise ValueError(
                f"The model uses {name:.200}, which is not in the table of sciml.structure. If you trust it, import it "
                f"and pass it along: load(folder, classes=({name.rsplit('.', 1)[-1]:.80},)). "
                "structure.modules_of(package) has all of a package."
            )
        item = _vocabulary.find(name)
        if item is None and name.startswith("flax."):
            raise ValueError(f"The model uses {name}, and Flax is not installed: pip install 'sciml-jax[flax]'.")
        if item is None:
            raise ValueError(f"{name} does not exist in this version. See run.json for those that saved the model.")
        return item


def _rebuild(node: Any, names: _Names) -> Any:
    if isinstance(node, list):
        return [_rebuild(item, names) for item in node]
    if not isinstance(node, dict):
        return node
    kind = next(iter(node), None)
    if kind not in _RULES:
        raise ValueError(f"Expected one of {', '.join(_RULES)} in the model's description, got {kind!r:.80}.")
    rule, entries = _RULES[kind]
    if set(node) not in entries:
        raise ValueError(
            f"Expected the entries {', '.join(sorted(entries[0]))} in the model's description, got "
            f"{', '.join(sorted(map(str, node)))[:200]}."
        )
    return rule(node, names)


def _array(node: dict[str, Any], names: _Names) -> Any:
    shape = _as(node["array"], list)
    if not all(type(size) is int and 0 <= size < 1 << 62 for size in shape):
        raise ValueError(f"Expected the shape of an array in the model's description, got {shape!r:.80}.")
    if "key" in node:
        kind = _one_of(node["key"], _vocabulary.KEYS, "kinds of random keys")
        if math.prod(shape) > _MOST_KEYS:
            raise ValueError(f"Expected up to {_MOST_KEYS} random keys, got an array of shape {shape!r:.80}.")
        words = jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0, impl=kind))).shape
        return jax.random.wrap_key_data(jnp.zeros(_fitting((*shape, *words), 4), jnp.uint32), impl=kind)
    dtype = _dtype(node, names)
    try:
        return np.zeros(_fitting(shape, dtype.itemsize), dtype)  # NumPy's zeros take no memory until they are written
    except MemoryError:
        raise ValueError(f"Expected arrays that fit into memory, got one of shape {shape!r:.80}.") from None


def _fitting(shape: Sequence[int], itemsize: int) -> tuple[int, ...]:
    if len(shape) > 32 or math.prod(size for size in shape if size) * itemsize > _LARGEST:
        raise ValueError(f"Expected arrays that fit into memory in the model's description, got {list(shape)!r:.80}.")
    return tuple(shape)


def _dtype(node: dict[str, Any], names: _Names) -> np.dtype:
    return np.dtype(jnp.dtype(_one_of(node["dtype"], _vocabulary.DTYPES, "types of arrays")))


def _fields(node: dict[str, Any], names: _Names) -> Any:
    cls = names.find(node["class"])
    if not (isinstance(cls, type) and dataclasses.is_dataclass(cls)):
        raise ValueError(f"{node['class']} is not a dataclass or an Equinox module. The run was saved by other code.")
    fields = {}
    for name, value in _as(node["fields"], dict).items():
        if isinstance(value, dict) and "default" in value:
            fields[name] = default_of(cls, _as(value["default"], str))
        else:
            fields[name] = _rebuild(value, names)
    known = {field.name for field in dataclasses.fields(cls)}
    missing = known - set(fields) if issubclass(cls, eqx.Module) else set()
    if missing or set(fields) - known:
        raise ValueError(
            f"{node['class']} has the fields {sorted(known)}, the saved model has {sorted(fields)}. {_REMEDY}"
        )
    if not issubclass(cls, eqx.Module):
        return _constructed(cls, node["class"], fields)
    new = object.__new__(cls)  # without __init__, as unflattening does: it would make new random parameters
    for name, value in fields.items():
        object.__setattr__(new, name, value)
    return new


def _constructed(cls: type, name: str, fields: Mapping[str, Any]) -> Any:
    """A dataclass of these fields, after their types are checked, since the constructor runs."""
    hints = get_type_hints(cls)
    for field, value in fields.items():
        try:
            typeguard.check_type(
                value,
                hints.get(field, Any),
                forward_ref_policy=typeguard.ForwardRefPolicy.IGNORE,
                collection_check_strategy=typeguard.CollectionCheckStrategy.ALL_ITEMS,
            )
        except typeguard.TypeCheckError as error:
            raise ValueError(f"The field {field} of {name} in the model's description: {error}. {_REMEDY}") from None
    return _called(cls, name, (), fields)


def _called(constructor: Callable[..., Any], name: Any, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
    try:
        return constructor(*arguments, **keywords)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"{name} cannot be made from the model's description ({reason:.200}). {_REMEDY}") from error


def _partial(node: dict[str, Any], names: _Names) -> Any:
    cls = names.find(node["partial"])
    if not (isinstance(cls, type) and issubclass(cls, functools.partial)):
        raise ValueError(f"{node['partial']} is not a functools.partial.")
    function, arguments, keywords = (_rebuild(node[part], names) for part in ("function", "arguments", "keywords"))
    if not (callable(function) and isinstance(arguments, list) and isinstance(keywords, dict)):
        raise ValueError("Expected a function, a list and names with values for a partial function in the description.")
    return _called(cls, node["partial"], (function, *arguments), keywords)


def _collection(node: dict[str, Any], names: _Names) -> Any:
    kind = next(iter(node))
    cls = names.find(node[kind])
    items = [_rebuild(item, names) for item in _as(node["items"], list)]
    if kind == "namedtuple" and isinstance(cls, type) and issubclass(cls, tuple):
        return _called(cls, node[kind], items, {})
    if kind == "mapping" and isinstance(cls, type) and issubclass(cls, Mapping):
        return _called(cls, node[kind], (_pairs(items),), {})
    raise ValueError(f"{node[kind]} is not a {kind}. The run was saved by other code.")


def _pairs(items: Sequence[Any]) -> dict[Any, Any]:
    if not all(isinstance(item, list) and len(item) == 2 for item in items):
        raise ValueError("Expected pairs of a key and a value in the model's description.")
    try:
        return {tuple(key) if isinstance(key, list) else key: value for key, value in items}
    except TypeError as error:
        raise ValueError(f"A key in the model's description is none ({error}).") from None


def _enum(node: dict[str, Any], names: _Names) -> Any:
    kind = names.find(node["enum"])
    if not (isinstance(kind, type) and issubclass(kind, enum.Enum)):
        raise ValueError(f"{node['enum']} is not an enumeration. The run was saved by other code.")
    return kind[_one_of(node["member"], kind.__members__, f"members of {node['enum']}")]


def _as(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise ValueError(f"Expected a {kind.__name__} in the model's description, got {value!r:.80}.")
    return value


def _one_of(value: Any, known: Any, what: str) -> str:
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"Expected one of the {what} in the model's description, got {value!r:.80}.")
    return value


_RULES: dict[Any, tuple[Rule, tuple[set[str], ...]]] = {
    "array": (_array, ({"array", "dtype"}, {"array", "key"})),
    "class": (_fields, ({"class", "fields"},)),
    "partial": (_partial, ({"partial", "function", "arguments", "keywords"},)),
    "namedtuple": (_collection, ({"namedtuple", "items"},)),
    "mapping": (_collection, ({"mapping", "items"},)),
    "tuple": (lambda node, names: tuple(_rebuild(_as(node["tuple"], list), names)), ({"tuple"},)),
    "dict": (lambda node, names: _pairs(_rebuild(_as(node["dict"], list), names)), ({"dict"},)),
    "enum": (_enum, ({"enum", "member"},)),
    "name": (lambda node, names: names.find(node["name"]), ({"name"},)),
    "dtype": (_dtype, ({"dtype"},)),
    "float": (lambda node, names: float(_one_of(node["float"], ("inf", "-inf", "nan"), "floats")), ({"float"},)),
    "complex": (lambda node, names: complex(*(float(part) for part in _as(node["complex"], list))), ({"complex"},)),
}
"""First entry of a node of the description -> how it is read, and the entries that it may have."""
