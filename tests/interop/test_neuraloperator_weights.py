"""State dicts of neuraloperator 2.0.0 against its outputs.

`neuraloperator_2_0.npz` and `neuraloperator_2_0_state_dict.pt` were made by an interpreter that has torch 2.13 and
neuraloperator 2.0.0, all parameters random:

    python benchmarks/interop_parity.py --fixture tests/interop/neuraloperator_2_0.npz

Larger sizes, and float64, are in benchmarks/results/interop_parity.json.
"""

import json
import pathlib

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_trees_close

from sciml import files, interop, structure
from sciml.interop import NeuraloperatorFNO, NeuraloperatorUNO, PublishedSpectralConv
from sciml.nn import SpectralConv
from sciml.operators import FNO, TFNO

HERE = pathlib.Path(__file__).parent
FIXTURE = HERE / "neuraloperator_2_0.npz"
CHECKPOINT = HERE / "neuraloperator_2_0_state_dict.pt"
ROUNDING = 3e-6  # of float32, through norms; in float64 the same cases differ by 1e-14


def cases():
    """For each case its kind, config, state dict, inputs and outputs."""
    with np.load(FIXTURE) as archive:
        index, numbers = json.loads(str(archive["index"])), archive["numbers"]
    found, start = {}, 0
    for name, entry in index.items():
        arrays = {}
        for key, dtype, shape in entry["arrays"]:
            count = int(np.prod(shape)) * np.dtype(dtype).itemsize // 4
            arrays[key] = numbers[start : start + count].view(dtype).reshape(shape)
            start += count
        state = {key[6:]: array for key, array in arrays.items() if key.startswith("array ")}
        found[name] = entry["kind"], entry["config"], state, arrays
    return found


CASES = cases()
OURS = {"fno 1-d": FNO, "fno": FNO, "fno 3-d": FNO, "tucker": TFNO, "cp": FNO, "tt": FNO}


def built(name, spectral_layer=SpectralConv):
    kind, config, state, _ = CASES[name]
    if kind == "UNO":
        return interop.uno_from_neuraloperator(state, config)
    return interop.fno_from_neuraloperator(state, config, spectral_layer=spectral_layer)


@eqx.filter_jit
def run(model, x):
    return jax.vmap(model)(x)


def error(model, x, y):
    found = run(model, jnp.asarray(x))
    assert found.shape == y.shape
    return float(np.linalg.norm(found - y) / np.linalg.norm(y))


@pytest.mark.parametrize("name", CASES)
def test_outputs_are_those_of_neuraloperator(name):
    model, arrays = built(name), CASES[name][3]
    expected = NeuraloperatorUNO if name.startswith("uno") else OURS.get(name, NeuraloperatorFNO)
    assert type(model) is expected
    for i in range(sum(key.startswith("x ") for key in arrays)):
        x, y = arrays[f"x {i}"], arrays[f"y {i}"]
        if f"unshifted {i}" not in arrays:
            assert error(model, x, y) < ROUNDING


def test_on_odd_axes_neuraloperator_shifts_its_modes_and_we_do_not():
    arrays = CASES["fno"][3]
    x, y, unshifted = (arrays[f"{kind} 3"] for kind in ("x", "y", "unshifted"))
    assert x.shape[2] % 2 == 1
    ours, published = built("fno"), built("fno", PublishedSpectralConv)
    assert error(ours, x, y) > 1e-3
    assert error(ours, x, unshifted) < ROUNDING  # neuraloperator with ifftshift after fftshift
    assert error(published, x, y) < ROUNDING
    assert type(published) is NeuraloperatorFNO
    assert error(published, arrays["x 0"], arrays["y 0"]) < ROUNDING  # an even grid, where both forms are one


@pytest.mark.parametrize("name", ["fno", "tucker", "instance norm first", "uno 2-d"])
def test_models_are_saved_and_loaded(name, tmp_path):
    model = built(name)
    card = {"model": structure.describe(model), "channels": ["a", "u"]}
    interop.write_safetensors(tmp_path / "model.safetensors", model, card)
    found = files.read_safetensors(tmp_path / "model.safetensors")[1]
    like = structure.rebuild(json.loads(json.dumps(found["model"])))
    again, read = interop.read_safetensors(tmp_path / "model.safetensors", like=like)
    assert read == card
    assert_trees_close(again, model, rtol=0)


def test_the_published_layer_is_trained():
    layer = built("uno 2-d").blocks[1].spectral  # from 8 x 6 to 4 x 3 points
    x = jax.random.normal(jax.random.key(0), (8, 6, 1, layer.weight.shape[-3]))
    value = lambda layer: jnp.sum(layer.multiply(x, (4, 3)) ** 2)
    gradient = eqx.filter_grad(value)(layer)
    direction = jax.tree.map(lambda leaf: jax.random.normal(jax.random.key(1), leaf.shape), layer)
    slope = sum(jnp.sum(a * b) for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(direction), strict=True))
    moved = lambda h: value(jax.tree.map(lambda leaf, d: leaf + h * d, layer, direction))
    assert float(moved(0.5) - moved(-0.5)) == pytest.approx(float(slope), rel=1e-4)  # exact: the value is quadratic


def test_a_checkpoint_of_neuraloperator():
    arrays, config = interop.read_arrays(CHECKPOINT), interop.neuraloperator_config(CHECKPOINT)
    assert config["non_linearity"] == "torch._C._nn.relu" or "relu" in config["non_linearity"]
    assert config["conv_module"] == "neuralop.layers.spectral_convolution.SpectralConv"
    assert_trees_close(interop.fno_from_neuraloperator(arrays, config), built("group norm, relu"), rtol=0)


def test_arguments_by_their_place():
    _, config, state, _ = CASES["fno"]
    first = ("n_modes", "in_channels", "out_channels", "hidden_channels")
    rest = {name: value for name, value in config.items() if name not in first}
    placed = rest | {"args": tuple(config[name] for name in first), "_name": "FNO", "_version": "0.1.0"}
    assert_trees_close(interop.fno_from_neuraloperator(state, placed), built("fno"), rtol=0)
    with pytest.raises(ValueError, match="Expected in_channels=7 as in the config, got arrays with 1"):
        interop.fno_from_neuraloperator(state, placed | {"args": ([4, 3], 7)})


def test_sizes_are_read_off_the_arrays():
    _, _, state, arrays = CASES["fno 1-d"]
    assert error(interop.fno_from_neuraloperator(state), arrays["x 0"], arrays["y 0"]) < ROUNDING


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"separable": True}, "Expected separable to be one of False, got True"),
        ({"complex_data": True}, "Expected complex_data to be one of False, got True"),
        ({"norm": "ada_in"}, "Expected norm to be one of None, 'instance_norm', .*got 'ada_in'"),
        ({"conv_module": "neuralop.layers.spherical_convolution.SphericalConv"}, "Expected conv_module to be one of"),
        ({"fno_block_precision": "mixed"}, "Expected fno_block_precision to be one of 'full', got 'mixed'"),
        ({"depth": 2}, "Expected options of neuraloperator 2.0, got depth. Known: "),
        ({"non_linearity": "mish2"}, "Expected non_linearity to be one of gelu, .*Pass a function of JAX"),
        ({"n_modes": [4]}, "Expected n_modes of 2 numbers as fno_blocks.convs.0.bias has axes, got"),
        ({"n_modes": [8, 3]}, r"Expected n_modes of at most \(4, 2\) stored modes, got \(8, 3\)"),
        ({"in_channels": 3}, "Expected in_channels=3 as in the config, got arrays with 1"),
        ({"n_layers": 4}, "Expected n_layers=4 as in the config, got arrays with 2"),
        ({"fno_skip": None}, r"left over: \['fno_blocks.fno_skips.0.conv.weight'.*Give the config of"),
        ({"norm": "group_norm"}, "Expected the array fno_blocks.norm.0.weight, got"),
        ({"positional_embedding": [[0, 1]]}, "Expected positional_embedding='grid', None or 2 pairs"),
        ({"domain_padding": [0.1]}, "Expected domain_padding of 2 numbers"),
        ({"domain_padding": 0.1, "resolution_scaling_factor": 2}, "got both"),
        ({"resolution_scaling_factor": [2]}, "Expected resolution_scaling_factor of 2 layers"),
    ],
)
def test_what_is_not_taken_is_named(change, message):
    _, config, state, _ = CASES["fno"]
    with pytest.raises(ValueError, match=message) as raised:
        interop.fno_from_neuraloperator(state, {**config, **change})
    assert "\n" not in str(raised.value)


def test_what_a_uno_needs():
    _, config, state, _ = CASES["uno 2-d"]
    for change, message in (
        ({"uno_n_modes": None}, "Expected uno_n_modes in the config"),
        ({"uno_scalings": [[1, 1]]}, "Expected uno_scalings of 3 rows of 2 numbers"),
        ({"non_linearity": "relu"}, "Expected non_linearity=gelu of a UNO"),
        ({"horizontal_skip": None}, "Expected horizontal_skip to be one of"),
    ):
        with pytest.raises(ValueError, match=message):
            interop.uno_from_neuraloperator(state, config | change)
