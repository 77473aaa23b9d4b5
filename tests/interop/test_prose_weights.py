"""State dicts of the published PROSE code; prose/test_prose_fixtures.py tests that loaded models compute the same."""

import equinox as eqx
import jax
import numpy as np
import pytest
from helpers import assert_trees_close, size_of, stirred

from sciml import interop, prose
from sciml.nn import sinusoidal_table

WORDS = 11
SIZES = prose.ProseSizes(8, 2, 12, 1, 2, 1, 1, 2, positions=9)
KEY = jax.random.key(0)
MODELS = {
    "ode": lambda: prose.prose_ode(3, symbols_in=WORDS, symbols_out=WORDS, sizes=SIZES, key=KEY),
    "ode 2-to-1": lambda: prose.prose_ode(3, symbols_in=WORDS, sizes=SIZES, key=KEY),
    "pde": lambda: prose.prose_pde(6, symbols_in=WORDS, symbols_out=WORDS, sizes=SIZES, key=KEY),
    "fd": lambda: prose.prose_fd(2, symbols_in=WORDS, patches=prose.PatchSizes((4, 6), 2, 1, 5), sizes=SIZES, key=KEY),
}


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_arrays_go_out_and_come_back(make):
    model = stirred(make)
    arrays = interop.prose_to_torch(model)
    if model.symbol_decoder is not None:
        name = next(
            name for name in arrays if name.endswith("decoder.proj.weight") and name != "data_decoder.proj.weight"
        )
        np.testing.assert_array_equal(arrays.pop(name), model.symbol_decoder.embedding.table)  # a second copy
    tables = sum(array.size for name, array in arrays.items() if "position_embeddings.weight" in name or ".pe" in name)
    assert sum(array.size for array in arrays.values()) - tables == size_of(make)
    again = interop.prose_from_torch(eqx.filter_eval_shape(make), arrays)
    assert_trees_close(again, model, rtol=0)


def test_layouts():
    ode, fd = stirred(MODELS["ode"]), stirred(MODELS["fd"])
    arrays = interop.prose_to_torch(ode)
    attention = ode.symbol_decoder.transformer.layers[1].other[1]
    packed = arrays["text_decoder.encoder_attn.1.attn.in_proj_weight"]  # rows of query, key, value
    assert packed[8 + 3, 5] == attention.key.weight[5, 3]
    assert arrays["text_decoder.encoder_attn.1.attn.in_proj_bias"][16 + 2] == attention.value.bias[2]
    arrays = interop.prose_to_torch(fd)
    kernel = arrays["embedder.conv_proj.0.weight"]  # (out, in, x, y)
    assert kernel[7, 1, 0, 1] == fd.data_encoder.embedding.network.layers[0].weight[4 + 1, 7]
    assert arrays["embedder.post_proj.1.weight"].shape == (8, 5, 1, 1)


def test_our_table_of_positions_is_the_published_one(reference):
    weights = np.load(reference / "prose" / "ode_2to2_weights.npz")
    published = weights["text_decoder.position_embeddings.weight"]
    np.testing.assert_allclose(sinusoidal_table(*published.shape), published, atol=1e-7)  # stored in float32


def test_what_does_not_fit_is_named():
    model = stirred(MODELS["ode 2-to-1"])
    arrays = interop.prose_to_torch(model)
    short = {name: array for name, array in arrays.items() if name != "embedder.0.bias"}
    with pytest.raises(
        ValueError, match=r"missing: \['embedder.0.bias'\] \(1\), left over: \[\] \(0\). Build the model"
    ):
        interop.prose_from_torch(model, short)
    with pytest.raises(ValueError, match=r"left over: \['norm.weight'\] \(1\). Build the model"):
        interop.prose_from_torch(model, arrays | {"norm.weight": np.ones(3)})
    wrong = arrays | {"embedder.0.bias": np.ones(3)}
    with pytest.raises(ValueError, match=r"Expected embedder.0.bias of shape \(8,\), got \(3,\). Build the model with"):
        interop.prose_from_torch(model, wrong)
    improved = eqx.filter_eval_shape(lambda: prose.improved_ode(3, symbols_in=WORDS, sizes=SIZES, key=KEY))
    with pytest.raises(
        ValueError, match=r"The published models have nothing like model.*Build the model with prose_ode"
    ):
        interop.prose_to_torch(improved)
