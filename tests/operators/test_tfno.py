import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import drawn

from sciml.grid import Dirichlet, Grid
from sciml.operators import FNO, TFNO, Pointwise

BATCH, IN, OUT, WIDTH, MODES = 2, 3, 4, 6, (4, 6)
KEY = jax.random.key(0)
GRID = Grid((9, 12), extent=2.0, boundary=(Dirichlet(), Dirichlet()))


def tucker(weight):
    """Core and factors of full rank as real pairs, by the singular vectors of each unfolding."""
    core, factors = np.asarray(weight[..., 0, :] + 1j * weight[..., 1, :]), []
    for _ in range(core.ndim):
        u = np.linalg.svd(core.reshape(core.shape[0], -1), full_matrices=False)[0]
        factors.append(jnp.stack([jnp.asarray(u.real), jnp.asarray(u.imag)]))
        core = np.tensordot(core, u.conj(), axes=(0, 0))  # in turn each axis is the first
    return jnp.stack([jnp.asarray(core.real), jnp.asarray(core.imag)]), tuple(factors)


@eqx.filter_jit
def apply(model, x):
    return jax.vmap(model)(x)


@pytest.mark.parametrize("mixing", [0, 0.5])
def test_equals_the_fno_whose_weights_it_factorises(mixing):
    options = {"modes": MODES, "width": WIDTH, "pointwise": Pointwise(mixing=mixing), "grid": GRID, "key": KEY}
    full = (4, 4, WIDTH, WIDTH)  # (modes ..., in, out): the last axis stores 6 // 2 + 1 frequencies
    with jax.enable_x64(True):
        fno = drawn(lambda: FNO(IN, OUT, depth=2, **options))
        model = eqx.filter_eval_shape(lambda: TFNO(IN, OUT, ranks=(full,) * 2, **options))
        parts = lambda layer: (layer.core, layer.factors, layer.bias)
        spectral = [
            eqx.tree_at(parts, empty.spectral, (*tucker(block.spectral.weight), block.spectral.bias))
            for empty, block in zip(model.blocks, fno.blocks, strict=True)
        ]
        blocks = eqx.tree_at(lambda blocks: [block.spectral for block in blocks], fno.blocks, spectral)
        model = eqx.tree_at(lambda m: (m.lifting, m.blocks, m.projection), model, (fno.lifting, blocks, fno.projection))
        for space in [(9, 12), (5, 4)]:  # the second lacks some of the frequencies
            x = jnp.asarray(np.random.default_rng(0).standard_normal((BATCH, IN, *space)))
            y, expected = apply(model, x), apply(fno, x)
            np.testing.assert_allclose(y, expected, atol=1e-12)


def parameters(model):
    return sum(leaf.size for leaf in jax.tree.leaves(model) if jnp.issubdtype(leaf.dtype, jnp.inexact))


def test_ranks_are_fractions_of_each_layers_parameters():
    sizes = {"modes": (24, 24), "width": 32, "key": KEY}
    spectral = lambda m: [parameters((b.spectral.core, b.spectral.factors)) for b in m.blocks]
    model = eqx.filter_eval_shape(lambda: TFNO(1, 1, ranks=(0.1, 0.5), **sizes))
    share = np.array(spectral(model)) / (24 * 13 * 32 * 32 * 2)
    np.testing.assert_allclose(share, [0.1, 0.5], rtol=0.1)  # ranks are rounded: half of 1 in 7 on the shortest axis
    dense = eqx.filter_eval_shape(lambda: FNO(1, 1, depth=2, **sizes))
    assert parameters(dense) - parameters(model) == 2 * 24 * 13 * 32 * 32 * 2 - sum(spectral(model))


def test_wrong_sizes_are_refused():
    def make(**options):
        return eqx.filter_eval_shape(lambda: TFNO(IN, OUT, modes=(4, 4), width=WIDTH, key=KEY, **options))

    with pytest.raises(ValueError, match=r"Expected a field \(3, 2 axes of space\).*use jax.vmap"):
        make(ranks=(0.5,))(jnp.zeros((IN + 1, 8, 8)))
    with pytest.raises(ValueError, match=r"is for 2 axes, the grid has 1.*one number of modes for each axis"):
        make(grid=Grid((8,)))
    with pytest.raises(ValueError, match=r"rank for each axis.*Give a number"):
        make(ranks=(0.5, (1, 1, 1)))
