"""State dicts of the published MgNO code; that loaded models compute the same is tested in operators/test_mgno.py."""

import dataclasses

import jax
import numpy as np
import pytest
from helpers import assert_trees_close

from sciml import interop
from sciml.grid import Dirichlet, Grid
from sciml.nn import CycleConfig, FieldNorm
from sciml.operators import HELMHOLTZ, NAVIER_STOKES, MgNO, MgNOConfig

SECOND_HELMHOLTZ = MgNOConfig(cycle=CycleConfig(inner=True, norm=FieldNorm), local=False, head_bias=True)
"""The published class without growing channels: a 1x1 convolution with bias, or a cycle, under the name `mlp`."""
GRID = Grid((80, 96), boundary=Dirichlet())


def make(config, key, levels=((1, 1), (2, 0), (1, 0), (1, 1), (1, 0)), width=3):
    return MgNO(2, 1, grid=GRID, width=width, depth=2, levels=levels, config=config, key=key)


@pytest.mark.parametrize(
    ("config", "head"),
    [
        (MgNOConfig(), "linear"),
        (NAVIER_STOKES, "last_layer"),
        (HELMHOLTZ, "last_layer"),
        (SECOND_HELMHOLTZ, "mlp"),
        (dataclasses.replace(SECOND_HELMHOLTZ, head_bias=False, cycle_head=True), "mlp"),
    ],
)
def test_arrays_go_out_and_come_back(config, head, getkey):
    model, other = make(config, getkey()), make(config, getkey())
    arrays = interop.mgno_to_torch(model, head=head)
    assert sum(array.size for array in arrays.values()) == sum(leaf.size for leaf in jax.tree.leaves(model))
    kernel = arrays["conv_list.1.layer1.0.Pi.weight"]  # (out, in, *kernel)
    assert kernel[1, 2, 0, 1] == model.layers[1].cycle.restrict_state[0].weight[0, 1, 2, 1]
    assert_trees_close(interop.mgno_from_torch(other, arrays), model, rtol=0)


def test_what_does_not_fit_is_named(getkey):
    model = make(MgNOConfig(), getkey())
    arrays = interop.mgno_to_torch(model)
    short = {name: array for name, array in arrays.items() if name != "linear_list.1.bias"}
    with pytest.raises(ValueError, match=r"missing: \['linear_list.1.bias'\] \(1\)"):
        interop.mgno_from_torch(model, short)
    with pytest.raises(ValueError, match=r"left over: \['norm.weight'\] \(1\). Build the model"):
        interop.mgno_from_torch(model, arrays | {"norm.weight": np.ones(3)})
    with pytest.raises(ValueError, match=r"of shape \(4, .*got \(3, .*Build the model with the channels"):
        interop.mgno_from_torch(make(MgNOConfig(), getkey(), width=4), arrays)


def test_the_stencil_that_the_published_code_never_uses_is_left_out(getkey):
    model = make(HELMHOLTZ, getkey())
    arrays = interop.mgno_to_torch(model, head="last_layer")
    unused = {"conv_list.0.layer0.0.A.weight": np.ones((2, 3, 3, 3)), "last_layer.layer0.0.A.bias": np.ones(3)}
    assert_trees_close(interop.mgno_from_torch(model, arrays | unused), model, rtol=0)


def test_normalisations_without_gain_and_shift(getkey):
    """`elementwise_affine=False` of the published code: no arrays, which stands for gain 1 and shift 0."""
    model = make(NAVIER_STOKES, getkey())
    arrays = interop.mgno_to_torch(model, head="last_layer")
    short = {name: array for name, array in arrays.items() if ".norm_layer_list." not in name}
    assert len(short) < len(arrays)
    loaded = interop.mgno_from_torch(make(NAVIER_STOKES, getkey()), short)
    assert_trees_close(loaded, model, rtol=0)  # a new model has gains of 1 and shifts of 0
    half = {name: array for name, array in arrays.items() if name != "conv_list.0.norm_layer_list.1.bias"}
    with pytest.raises(ValueError, match=r"missing: \['conv_list.0.norm_layer_list.1.bias'\]"):
        interop.mgno_from_torch(model, half)
