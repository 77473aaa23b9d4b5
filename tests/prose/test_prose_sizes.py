"""Numbers of parameters of the published models, and their initial values."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import size_of

from sciml import prose
from sciml.prose._model.variants import post_norm

KEY = jax.random.key(0)
DATA_ALONE = prose.ProseSizes(1024, data_encoder=7, data_decoder=12)
FIRST_FD = {"times": prose.time_network, "variant": prose.PDE_VARIANT, "patches": prose.PatchSizes(hidden=64)}


def both(words):
    return {"symbols_in": words, "symbols_out": words}


@pytest.mark.parametrize(
    ("count", "make", "inputs", "settings"),
    [
        (104_357_427, prose.prose_ode, 3, both(1072)),
        (70_174_211, prose.prose_ode, 3, {"symbols_in": 1072}),
        (31_793_667, prose.prose_ode, 3, {}),
        (104_361_527, prose.prose_ode, 5, both(1074)),
        (105_575_124, prose.prose_pde, 128, both(1108)),
        (71_373_440, prose.prose_pde, 128, {"symbols_in": 1108}),
        (32_974_464, prose.prose_pde, 128, {}),
        (165_267_652, prose.prose_fd, 4, {"symbols_in": 1130}),  # published as 165.3 million
        (169_493_892, prose.prose_fd, 4, {"symbols_in": 1130, **FIRST_FD}),  # 169.5 million
        (164_106_436, prose.prose_fd, 4, {"sizes": DATA_ALONE}),  # 164.1 million
    ],
)
def test_the_number_of_parameters_is_the_published_one(count, make, inputs, settings):
    assert size_of(lambda: make(inputs, **settings, key=KEY)) == count  # without the sinusoidal tables


def test_initial_values_are_those_of_the_published_code():
    keys = jax.random.split(KEY)
    layers = post_norm(prose.ProseSizes(24, 2, 40)).decoder(24, 1, key=keys[0])
    layer = layers.layers[0]
    for dense in (layer.own[1].query, layer.own[1].key, layer.other[1].value):  # Xavier's bound for (3 * 24, 24)
        assert 0.95 * np.sqrt(6 / 96) < np.abs(dense.weight).max() <= np.sqrt(6 / 96)
        assert not np.any(dense.bias)
    assert 0.95 / np.sqrt(24) < np.abs(layer.own[1].out.weight).max() <= 1 / np.sqrt(24)
    assert not np.any(layer.own[1].out.bias)
    assert 0.9 / np.sqrt(40) < np.abs(layer.network[1].layers[1].bias).max() <= 1 / np.sqrt(40)
    table = prose.TokenEmbedding(50, 24, positions=7, key=keys[1])
    assert np.std(table.table) == pytest.approx(1 / np.sqrt(24), rel=0.1)  # 1200 numbers: 2 % is one deviation
    assert table.positions.value.shape == (7, 24)


def test_patches_must_fill_a_frame():
    with pytest.raises(ValueError, match=r"Patches of 8 points do not fill \(16, 20\) points. Choose a divisor"):
        prose.prose_fd(2, patches=prose.PatchSizes((16, 20), 4, 8), key=KEY)


def test_precision_of_the_last_norm_of_prose_fd():
    make = lambda: prose.prose_fd(2, patches=prose.PatchSizes((4, 4), 2, 2, 3), sizes=prose.ProseSizes(8, 2), key=KEY)
    stack = eqx.filter_eval_shape(make).data_encoder.transformer
    assert stack.last.epsilon == float(jnp.finfo(jnp.float32).eps)
    assert stack.layers[0].own[0].norm.epsilon == 1e-5
