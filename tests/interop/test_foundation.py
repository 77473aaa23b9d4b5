"""Networks of foundax as operators; a network of our own stands in for one where foundax is not installed."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml import data, experiment, interop, structure, tasks, zoo
from sciml.grid import Grid
from sciml.interop import DPOT, MPP, Foundation, Poseidon, Walrus
from sciml.operators import Normalised

KEY = jax.random.key(0)
SIDE = 32
POSEIDON = {
    "image_size": SIDE,
    "num_channels": 3,
    "num_out_channels": 2,
    "embed_dim": 8,
    "depths": (1, 1),
    "num_heads": (1, 2),
    "skip_connections": (1, 0),
    "window_size": 4,
    "pretrained_window_sizes": (0, 0),
}
DPOT_SIZES = {
    "img_size": SIDE,
    "patch_size": 8,
    "in_channels": 3,
    "out_channels": 2,
    "in_timesteps": 2,
    "n_blocks": 2,
    "embed_dim": 16,
    "out_layer_dim": 4,
    "depth": 1,
    "modes": 4,
}


WALRUS = {
    "hidden_dim": 32,
    "intermediate_dim": 16,
    "n_states": 6,
    "processor_blocks": 1,
    "groups": 4,
    "num_heads": 4,
    "encoder_groups": 4,
    "include_d": (2,),
}


class Stub(eqx.Module):
    """The call of `foundax.dpot`, as `(batch, x, y, time, channels)`: a matrix of all frames and channels."""

    weight: jax.Array
    in_channels: int = eqx.field(static=True)
    out_channels: int = eqx.field(static=True)

    def __call__(self, x):
        y = x.reshape(*x.shape[:3], -1) @ self.weight
        return y[:, :, :, None], jnp.zeros((1, 2))


def stub(frames=2):
    return Stub(jax.random.normal(KEY, (3 * frames, 2)), 3, 2)


def test_channels_of_ones_own_begin_as_those_of_the_network():
    network = stub()
    x = jax.random.normal(KEY, (2, 3, 4, 5))  # two frames of three channels
    expected = jnp.moveaxis(jnp.moveaxis(x.reshape(6, 4, 5), 0, -1) @ network.weight, -1, 0)
    make = functools.partial(Foundation, network, DPOT(), frames=2, key=KEY)
    same = make(in_channels=6, out_channels=2)
    assert same.into is None
    assert same.out is None
    np.testing.assert_allclose(same(x.reshape(6, 4, 5)), expected, rtol=1e-5)
    more = make(in_channels=8, out_channels=3)
    own = jnp.concatenate((x, 7 * x[:, :1]), axis=1).reshape(8, 4, 5)  # a fourth channel, which changes nothing
    y = more(own)
    assert y.shape == (3, 4, 5)
    np.testing.assert_allclose(y[:2], expected, rtol=1e-5)
    np.testing.assert_array_equal(y[2], 0)
    gradient = eqx.filter_grad(lambda model: jnp.sum((model(own) - 1) ** 2))(more)
    assert float(jnp.abs(gradient.into.weight[3]).min()) > 0  # but it is trained
    assert float(jnp.abs(gradient.out.weight[:, 2]).min()) > 0


def test_frames_and_channels_are_checked():
    with pytest.raises(ValueError, match="Expected 2 frames of equal numbers of channels, got 5"):
        Foundation(stub(), DPOT(), in_channels=5, out_channels=2, frames=2, key=KEY)
    model = Foundation(stub(), DPOT(), in_channels=6, out_channels=2, frames=2, key=KEY)
    with pytest.raises(ValueError, match=r"Expected 2 frames of 3 channels, got 3 channels .*in_channels=3"):
        model(jnp.zeros((3, 4, 5)))


def pairs(channels, side=6):
    x = np.random.default_rng(0).normal(size=(10, channels, side, side)).astype(np.float32)
    return data.split(data.Pairs(x, x[:, :1], grid=Grid((side, side))), (0.8, 0.2), seed=0)


def fine_tuned(make, folder, channels, side, steps=3):
    kept, held = pairs(channels, side)
    training = experiment.Training(steps=steps, batch=2)
    task = tasks.fields(zoo.Architecture(make, 1e-3, optimiser="adamw"), tasks.Parts(kept, None, held), training)
    return experiment.run(task, folder)["test"]


@pytest.mark.slow  # test_other_modules.py trains another module in the quick tests
def test_fine_tuning_saves_and_loads(tmp_path):
    network = stub(1)
    errors = fine_tuned(interop.foundation(network, DPOT()), tmp_path / "run", 4, 6)
    assert np.isfinite(errors["relative_l2"])
    model = experiment.load(tmp_path / "run", classes=(Stub,))
    assert isinstance(model, Normalised)
    assert isinstance(model.operator, Foundation)
    assert model.operator.form == DPOT()
    assert float(jnp.abs(model.operator.network.weight - network.weight).max()) > 0


def test_weights_of_equinox_files(tmp_path):
    path = tmp_path / "weights.eqx"
    eqx.tree_serialise_leaves(path, stub())
    empty = jax.tree.map(jnp.zeros_like, stub())
    np.testing.assert_array_equal(interop.read_equinox(path, like=empty).weight, stub().weight)
    interop.write_safetensors(tmp_path / "a", stub())
    np.testing.assert_array_equal(interop.read_equinox(tmp_path / "a", like=empty).weight, stub().weight)
    with pytest.raises(ValueError, match="does not belong to this network") as raised:
        interop.read_equinox(path, like=stub(3))
    assert "\n" not in str(raised.value)
    eqx.tree_serialise_leaves(path, (stub(), stub()))
    with pytest.raises(ValueError, match="holds more arrays than this network has"):
        interop.read_equinox(path, like=stub())
    path.write_bytes(b"something else")
    with pytest.raises(ValueError, match="expected a file of equinox"):
        interop.read_equinox(path, like=stub())
    with pytest.raises(FileNotFoundError, match="There is no file"):
        interop.read_equinox(tmp_path / "none", like=stub())


@pytest.fixture
def foundax():
    """The package, whose code relies on rank promotion."""
    with jax.numpy_rank_promotion("allow"):
        yield pytest.importorskip("foundax", reason="foundax is not installed")


def frames(count, channels):
    return jax.random.normal(jax.random.key(1), (count, channels, SIDE, SIDE))


@pytest.mark.slow
def test_poseidon(foundax):
    network = foundax.poseidon(**POSEIDON)
    x = frames(1, 3)
    call = lambda network, x: network(pixel_values=x, time=jnp.full((1,), 0.5)).output  # its result is no pytree
    expected = eqx.filter_jit(call)(network, jnp.moveaxis(x, 1, -1))
    model = Foundation(network, Poseidon(0.5), in_channels=3, out_channels=2, key=KEY)
    np.testing.assert_allclose(eqx.filter_jit(model)(x[0]), jnp.moveaxis(expected[0], -1, 0), atol=1e-5)


@pytest.mark.slow
def test_dpot(foundax):
    network = foundax.dpot(**DPOT_SIZES)
    x = frames(2, 3)
    expected, _ = eqx.filter_jit(network)(jnp.moveaxis(x, 1, -1)[None])
    model = Foundation(network, DPOT(), in_channels=6, out_channels=2, frames=2, key=KEY)
    y = eqx.filter_jit(model)(x.reshape(6, SIDE, SIDE))
    np.testing.assert_allclose(y, jnp.moveaxis(expected[0, 0], -1, 0), atol=1e-5)


@pytest.mark.slow
def test_mpp(foundax):
    network = foundax.mpp(embed_dim=24, processor_blocks=1, n_states=6, num_heads=3)
    x, form = frames(2, 3), MPP((0, 2, 5), (True, False))
    call = eqx.filter_jit(network)
    expected = call(jnp.moveaxis(x, 1, -1)[None], jnp.asarray(form.labels), jnp.asarray([[1, 0]]))
    model = Foundation(network, form, in_channels=6, out_channels=3, frames=2, key=KEY)
    y = eqx.filter_jit(model)(x.reshape(6, SIDE, SIDE))
    np.testing.assert_allclose(y, jnp.moveaxis(expected[0], -1, 0), atol=1e-5)


@pytest.mark.slow
def test_walrus(foundax):
    network = foundax.walrus(**WALRUS)
    form = Walrus((3, 5), strides=((4, 4, 1), (2, 2, 1)))
    model = Foundation(network, form, in_channels=4, out_channels=3, frames=2, key=KEY)
    y = eqx.filter_jit(model)(frames(2, 2).reshape(4, SIDE, SIDE))
    assert y.shape == (3, SIDE, SIDE)
    assert bool(jnp.isfinite(y).all())
    np.testing.assert_array_equal(y[2], 0)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["poseidon", "dpot", "mpp", "walrus"])
def test_smoke_fine_tuning_of_random_weights(name, foundax, tmp_path):
    network, form = {
        "poseidon": lambda: (foundax.poseidon(**POSEIDON), Poseidon()),
        "dpot": lambda: (foundax.dpot(**DPOT_SIZES | {"in_timesteps": 1}), DPOT()),
        "walrus": lambda: (foundax.walrus(**WALRUS), Walrus((3, 4), strides=((4, 4, 1), (2, 2, 1)))),
        "mpp": lambda: (foundax.mpp(embed_dim=24, processor_blocks=1, n_states=6, num_heads=3), MPP((0, 1))),
    }[name]()
    errors = fine_tuned(interop.foundation(network, form), tmp_path / "run", 2, SIDE)
    assert np.isfinite(errors["relative_l2"])
    inner = __import__(f"jax_{name}")
    model = experiment.load(tmp_path / "run", classes=structure.modules_of(inner))
    assert eqx.filter_jit(model)(jnp.zeros((2, SIDE, SIDE))).shape == (1, SIDE, SIDE)
