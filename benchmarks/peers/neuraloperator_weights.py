"""Copies the weights of a neuraloperator 2.0 FNO, given as NumPy arrays, into `sciml.operators.FNO`."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from sciml.operators import FNO


def load(model: FNO, state: dict[str, np.ndarray]) -> FNO:
    """The model with the weights of `state` (names as in neuraloperator's `state_dict`, weights of dense kernels)."""

    def dense(name: str) -> tuple[np.ndarray, np.ndarray | None]:
        return state[f"{name}.weight"][..., 0].T, state.get(f"{name}.bias")

    def set_dense(layer, name):
        weight, bias = dense(name)
        layer = eqx.tree_at(lambda d: d.weight, layer, jnp.asarray(weight))
        return layer if bias is None else eqx.tree_at(lambda d: d.bias, layer, jnp.asarray(bias))

    def set_block(block, i):
        kernel = np.moveaxis(state[f"fno_blocks.convs.{i}.weight.tensor"], (0, 1), (-2, -1))
        pairs = np.stack([kernel.real, kernel.imag], axis=-2)
        mixing = tuple(set_dense(d, f"fno_blocks.channel_mlp.{i}.fcs.{j}") for j, d in enumerate(block.mixing))
        return eqx.tree_at(
            lambda b: (b.spectral.weight, b.spectral.bias, b.skip, b.mixing, b.gate),
            block,
            (
                jnp.asarray(pairs),
                jnp.asarray(state[f"fno_blocks.convs.{i}.bias"].reshape(-1)),
                set_dense(block.skip, f"fno_blocks.fno_skips.{i}.conv"),
                mixing,
                jnp.asarray(state[f"fno_blocks.channel_mlp_skips.{i}.weight"].reshape(-1)),
            ),
        )

    lifting = tuple(set_dense(d, f"lifting.fcs.{j}") for j, d in enumerate(model.lifting))
    projection = tuple(set_dense(d, f"projection.fcs.{j}") for j, d in enumerate(model.projection))
    blocks = tuple(set_block(block, i) for i, block in enumerate(model.blocks))
    return eqx.tree_at(lambda m: (m.lifting, m.blocks, m.projection), model, (lifting, blocks, projection))
