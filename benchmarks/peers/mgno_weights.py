"""Weights of the PyTorch twin (peers/mgno_torch.py) in our MgNO of the same configuration."""

from collections.abc import Iterator

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from sciml.operators import MgNO


def load(model: MgNO, state: dict[str, np.ndarray]) -> MgNO:
    """The model with the arrays of the twin's state dict."""
    values = []
    for conv, name in _convolutions(model):
        values.append(jnp.asarray(state[f"{name}.weight"].transpose(2, 3, 1, 0)))
        if conv.bias is not None:
            values.append(jnp.asarray(state[f"{name}.bias"]))
    return eqx.tree_at(_arrays, model, values)


def _arrays(model: MgNO) -> list:
    return [array for conv, _ in _convolutions(model) for array in (conv.weight, conv.bias) if array is not None]


def _convolutions(model: MgNO) -> Iterator[tuple]:
    for i, layer in enumerate(model.layers):
        for part in ("pre", "post"):
            for level, steps in enumerate(getattr(layer.cycle, part)):
                for k, step in enumerate(steps):
                    yield step.smoother, f"cycles.{i}.{part}.{level}.{k}.smoother"
                    if step.operator is not None:
                        yield step.operator, f"cycles.{i}.{part}.{level}.{k}.operator"
        for part in ("restrict_state", "restrict_data", "prolong"):
            for level, conv in enumerate(getattr(layer.cycle, part)):
                yield conv, f"cycles.{i}.{part}.{level}"
        yield layer.local, f"local.{i}"
    yield model.head, "head"
