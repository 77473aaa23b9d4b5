"""Arrays by name from files of other programs, and models in safetensors."""

import os
import pathlib
import zipfile
from collections.abc import Mapping
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from sciml import files

Path = str | os.PathLike[str]
Model = TypeVar("Model", bound=PyTree)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file by their names: safetensors, `.npz`, or `.pt` and `.pth` of PyTorch 1.6 and later.

    The kind is told by what the file holds. Nothing in it is executed: of the pickle inside of a PyTorch file an
    interpreter of this package builds arrays, numbers, texts and containers of these, and refuses all else by name.
    Dictionaries inside of one another, as in a checkpoint with `model` and `optimizer`, give names with dots, such as
    `model.lifting.weight`; what is no array is left out. Safetensors and PyTorch arrays are mapped into memory.

    Raises:
        FileNotFoundError: If the file is missing.
        ValueError: If it is of another kind or holds something else.
        files.Damaged: If it is cut off or has changed.
    """
    return _flat(_read(pathlib.Path(path)), "")


def neuraloperator_config(path: Path) -> dict[str, Any]:
    """The constructor's arguments that neuraloperator stores with its models: `config` of `fno_from_neuraloperator`.

    Args:
        path: `NAME_state_dict.pt` or `NAME_metadata.pkl` as `save_checkpoint` writes them. Functions and classes in
            them are returned as their names.

    Raises:
        FileNotFoundError: If the file is missing.
        ValueError: If it holds no such arguments, or something else than arrays, numbers and texts.
        files.Damaged: If it is cut off or has changed.
    """
    found = _read(pathlib.Path(path))
    config = found.get("_metadata", found)
    if "_name" not in config:
        raise ValueError(
            f"{path} has no arguments of a constructor of neuraloperator. Give NAME_state_dict.pt or NAME_metadata.pkl "
            "of its save_checkpoint, or write the config by hand."
        )
    return dict(config)


def write_safetensors(path: Path, model: PyTree, card: Mapping[str, Any] | None = None) -> None:
    """Writes the arrays of a model under their paths in it, such as `blocks.0.spectral.weight`.

    The file appears complete or not at all. It holds the SHA-256 of its data, so that damage is noticed.

    Args:
        path: The file.
        model: Any pytree. Only its arrays are stored: who reads them needs a model of the same structure. The card may
            hold it, as `{"model": structure.describe(model)}`.
        card: What describes the model, JSON: channels, units, grid, training data, errors.

    Raises:
        ValueError: If an array is of a type that the format does not have, such as random keys, or the card is no JSON.
        OSError: If the file cannot be written.
    """
    arrays = {name: np.asarray(leaf) for name, leaf in _named(model).items()}
    files.write_safetensors(pathlib.Path(path), arrays, card or {})


def read_safetensors(path: Path, *, like: Model) -> tuple[Model, dict[str, Any]]:
    """The model `like` with the arrays of a file of `write_safetensors`, and its card.

    Args:
        path: The file.
        like: A model of the same structure, whose arrays may also be their shapes, from `equinox.filter_eval_shape`, or
            zeros, from `structure.rebuild(card["model"])`.

    Raises:
        FileNotFoundError: If the file is missing.
        files.Damaged: If it is cut off or has changed.
        ValueError: If arrays are missing or left over, or one has another shape or type than in `like`.
    """
    arrays, card = files.read_safetensors(pathlib.Path(path))
    expected = _named(like)
    missing, left = sorted(set(expected) - set(arrays)), sorted(set(arrays) - set(expected))
    if missing or left:
        raise ValueError(
            f"Expected the {len(expected)} arrays of the model in {path}; missing: {missing[:5]} ({len(missing)}), "
            f"left over: {left[:5]} ({len(left)}). Build `like` with the options of the model that was written."
        )
    for name, leaf in expected.items():
        if arrays[name].shape != leaf.shape or arrays[name].dtype != leaf.dtype:
            raise ValueError(
                f"Expected {name} of shape {leaf.shape} and type {leaf.dtype}, got {arrays[name].shape} and "
                f"{arrays[name].dtype} in {path}. Build `like` with the sizes of the model that was written."
            )
    new = {id(leaf): jnp.asarray(arrays[name]) for name, leaf in expected.items()}
    return jax.tree.map(lambda leaf: new.get(id(leaf), leaf), like), card


def _is_array(leaf: Any) -> bool:
    return eqx.is_array(leaf) or isinstance(leaf, np.ndarray | jax.ShapeDtypeStruct)


def _named(model: PyTree) -> dict[str, Any]:
    """The arrays of a pytree by their paths."""
    found = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(model):
        if _is_array(leaf):
            name = jax.tree_util.keystr(path, simple=True, separator=".")
            if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
                raise ValueError(
                    f"Expected arrays of numbers, got random keys in {name}. Store jax.random.key_data of them."
                )
            found[name] = leaf
    return found


def _read(path: pathlib.Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    with path.open("rb") as file:
        start = file.read(9)
    if start[:4] == b"PK\x03\x04":
        try:
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise files.Damaged(f"{path} is truncated or damaged ({error}). Copy or download it again.") from None
        return files.read_torch(path) if files.torch_archive(names) else _npz(path)
    if start[8:9] == b"{":
        return dict(files.read_safetensors(path)[0])
    raise ValueError(
        f"{path}: expected safetensors, a zip archive of numpy.savez, or one of torch.save of PyTorch 1.6 or later. "
        "Save it again by one of them."
    )


def _npz(path: pathlib.Path) -> dict[str, Any]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, NotImplementedError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{path}: expected arrays of numbers as of numpy.savez, got {reason:.200}. Write it again."
        ) from None


def _flat(found: Mapping[Any, Any], prefix: str) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    for key, value in found.items():
        if isinstance(value, np.ndarray):
            arrays[f"{prefix}{key}"] = value
        elif isinstance(value, dict):
            arrays |= _flat(value, f"{prefix}{key}.")
    return arrays
