"""Weights of the PyTorch twin (peers/mgno_torch.py) in our MgNO of the same configuration."""

import functools
from collections.abc import Iterator
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from sciml.operators import MgNO


def load(model: MgNO, state: dict[str, np.ndarray]) -> MgNO:
    """The model with the arrays of the twin's state dict."""
    for path, name in list(_convolutions(model)):
        weight = jnp.asarray(state[f"{name}.weight"].transpose(2, 3, 1, 0))
        model = eqx.tree_at(lambda m, path=path: _at(m, path).weight, model, weight)
        if f"{name}.bias" in state:
            bias = jnp.asarray(state[f"{name}.bias"])
            model = eqx.tree_at(lambda m, path=path: _at(m, path).bias, model, bias)
    return model


def _at(model: Any, path: tuple) -> Any:
    return functools.reduce(lambda node, key: node[key] if isinstance(key, int) else getattr(node, key), path, model)


def _convolutions(model: MgNO) -> Iterator[tuple[tuple, str]]:
    """Path of each convolution in our model and its name in the twin."""
    for i, layer in enumerate(model.layers):
        cycle = ("layers", i, "cycle")
        for part in ("pre", "post"):
            for level, steps in enumerate(getattr(layer.cycle, part)):
                for k, step in enumerate(steps):
                    yield (*cycle, part, level, k, "smoother"), f"cycles.{i}.{part}.{level}.{k}.smoother"
                    if step.operator is not None:
                        yield (*cycle, part, level, k, "operator"), f"cycles.{i}.{part}.{level}.{k}.operator"
        for part in ("restrict_state", "restrict_data", "prolong"):
            for level in range(len(getattr(layer.cycle, part))):
                yield (*cycle, part, level), f"cycles.{i}.{part}.{level}"
        yield ("layers", i, "local"), f"local.{i}"
    yield ("head",), "head"
