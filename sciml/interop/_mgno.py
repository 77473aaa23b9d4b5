"""State dicts of the MgNO published as PyTorch code."""

from collections.abc import Iterator, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from sciml.nn import FieldNorm, VCycle
from sciml.operators import MgNO, PointwiseHead


def mgno_from_torch(model: MgNO, arrays: Mapping[str, np.ndarray | Array]) -> MgNO:
    """The model with the arrays of a state dict of the published code, of its classes for each of its problems.

    A state dict becomes such a mapping by `{name: tensor.numpy() for name, tensor in model.state_dict().items()}`;
    kept with `numpy.savez`, it is read back as `dict(numpy.load(path))`.

    Args:
        model: Built with the settings of the published model, see `MgNOConfig` and `sciml.zoo`.
        arrays: By the names of the state dict. The stencil A that the published Helmholtz class holds for the first
            step of each cycle and never uses may be there. Both arrays of a normalisation inside of a cycle may be
            missing, as they are with `elementwise_affine=False`: its gain is then 1 and its shift 0.

    Returns:
        A model whose arrays have the data type of those of `model`.

    Raises:
        ValueError: If arrays are missing or left over, or one has another shape than the model's.
    """
    found = {name.split(".")[0] for name in arrays}
    head = next((name for name in ("linear", "mlp") if name in found), "last_layer")
    expected = mgno_to_torch(model, head=head)
    arrays = _without_affine(expected, arrays) | dict(arrays)
    missing = sorted(set(expected) - set(arrays))
    unused = {name for name in arrays if ".layer0.0.A." in f".{name}"}
    left = sorted(set(arrays) - set(expected) - unused)
    if missing or left:
        raise ValueError(
            f"Expected the {len(expected)} arrays of this model; missing: {missing[:5]} ({len(missing)}), left over: "
            f"{left[:5]} ({len(left)}). Build the model with the config, levels and depth of the published one."
        )
    for name, array in expected.items():
        if arrays[name].shape != array.shape:
            raise ValueError(
                f"Expected {name} of shape {array.shape}, got {arrays[name].shape}. "
                "Build the model with the channels and the grid of the published one."
            )

    new = {}
    for part, name in _parts(model, head):
        for leaf, (own, axes) in zip(jax.tree.leaves(part), _torch_leaves(part, name), strict=True):
            new[id(leaf)] = jnp.asarray(np.transpose(np.asarray(arrays[own]), np.argsort(axes)), leaf.dtype)
    return jax.tree.map(lambda leaf: new[id(leaf)], model)


def mgno_to_torch(model: MgNO, *, head: str = "linear") -> dict[str, np.ndarray]:
    """The arrays of a model under the names and in the layout of the published code's state dict.

    Args:
        model: Of a variant that the published code has. A gradient, which has the model's structure, is taken as well.
        head: Name of the output layer: `linear` in the class for Darcy, `mlp` in the second one for Helmholtz,
            `last_layer` in the others.
    """
    return {
        own: np.transpose(np.asarray(leaf), axes)
        for part, name in _parts(model, head)
        for leaf, (own, axes) in zip(jax.tree.leaves(part), _torch_leaves(part, name), strict=True)
    }


def _without_affine(expected: Mapping[str, np.ndarray], arrays: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Gains 1 and shifts 0 of normalisations inside of cycles that have neither."""
    new = {}
    for name in expected:
        inner, _, kind = name.rpartition(".")
        absent = not {f"{inner}.weight", f"{inner}.bias"} & set(arrays)
        if ".norm_layer_list." in name and absent:
            new[name] = np.full(expected[name].shape, float(kind == "weight"), np.float32)
    return new


def _parts(model: MgNO, head: str) -> Iterator[tuple[eqx.Module, str]]:
    for i, layer in enumerate(model.layers):
        yield from _cycle_parts(layer.cycle, f"conv_list.{i}")
        if layer.local is not None:
            yield layer.local, f"linear_list.{i}"
        if layer.norm is not None:
            yield layer.norm, f"norm_layer_list.{i}"
    if isinstance(model.head, VCycle):
        yield from _cycle_parts(model.head, head)
    elif isinstance(model.head, PointwiseHead):
        yield model.head.hidden, f"{head}.0"
        yield model.head.out, f"{head}.2"
    else:
        yield model.head, head


def _cycle_parts(cycle: VCycle, name: str) -> Iterator[tuple[eqx.Module, str]]:
    for level, steps in enumerate(cycle.pre):
        own = f"{name}.layer{level}"
        if level:  # the transition to a level is the first entry of its list, before the steps
            parts = (cycle.restrict_state, "Pi"), (cycle.restrict_data, "R"), (cycle.operator, "A")
            for kind, letter in parts:
                part = kind[level - 1]
                if part is not None:
                    yield part, f"{own}.0.{letter}"
        for k, step in enumerate(steps, start=min(level, 1)):
            yield from _step_parts(step, f"{own}.{k}")
    for level, steps in enumerate(cycle.post):
        for k, step in enumerate(steps):
            yield from _step_parts(step, f"{name}.post_smooth_layer{level}.{k}")
    for level, part in enumerate(cycle.prolong):
        yield part, f"{name}.RTlayers.{level}"
    for level, part in enumerate(cycle.norm):
        if part is not None:
            yield part, f"{name}.norm_layer_list.{level}"


def _step_parts(step, name: str) -> Iterator[tuple[eqx.Module, str]]:
    yield step.smoother, f"{name}.S"
    if step.operator is not None:
        yield step.operator, f"{name}.A"


def _torch_leaves(part: eqx.Module, name: str) -> list[tuple[str, tuple[int, ...]]]:
    """Name in the state dict, and the axes of our array in the order of PyTorch's, for each array of a part."""
    first, *rest = jax.tree.leaves(part)
    d = first.ndim
    if isinstance(part, FieldNorm):
        axes = (d - 1, *range(d - 1))
        return [(f"{name}.weight", axes), (f"{name}.bias", axes)]
    kernel = (d - 1, d - 2, *range(d - 2))
    return [(f"{name}.weight", kernel), *((f"{name}.bias", (0,)) for _ in rest)]
