"""MgNO against the published implementation: outputs, gradients, parameter counts."""

import dataclasses
import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import REFERENCE

from sciml import interop, losses, train
from sciml.grid import Dirichlet, Grid, Neumann, Periodic
from sciml.nn import CycleConfig
from sciml.operators import HELMHOLTZ, NAVIER_STOKES, MgNO, MgNOConfig, Normalised, Normaliser, Residual

MGNO = REFERENCE / "mgno"
VARIANTS = ("MgNO_DC", "MgNO_DC_smooth", "MgNO_NS", "MgNO_helm")
BOUNDARIES = {"zeros": Dirichlet(), "circular": Periodic(), "reflect": Neumann()}


def described(kind):
    """Names of the fixtures whose description passes the test `kind`."""
    found = {path.stem: json.loads(path.read_text()) for path in sorted(MGNO.glob("*.json"))}
    return [name for name, info in found.items() if kind(name, info)] or ["none"]


FIXTURES = described(lambda name, info: info["variant"] in VARIANTS and not name.startswith("train_traj"))
CYCLES = described(lambda name, info: info["variant"].startswith("MgConv"))
TRAJECTORIES = described(lambda name, info: name.startswith("train_traj"))


def test_every_fixture_is_covered(reference):
    found = {path.stem for path in (reference / "mgno").glob("*.json")}
    assert found == {*FIXTURES, *CYCLES, *TRAJECTORIES} - {"none"}


def read(folder, name):
    """Description, arrays of a fixture, and its weights under the names of the published state dict."""
    info = json.loads((folder / "mgno" / f"{name}.json").read_text())
    arrays = dict(np.load(folder / "mgno" / f"{name}.npz"))
    return info, arrays, {weight["torch_name"]: arrays[weight["name"]] for weight in info["weights"]}


def build(info, shape):
    """Our model with the settings of a fixture."""
    variant = info["variant"]
    mode = next(mode for mode in BOUNDARIES if info["padding_mode"].startswith(mode))
    config = NAVIER_STOKES if variant == "MgNO_NS" else HELMHOLTZ if variant == "MgNO_helm" else MgNOConfig()
    if info.get("activation") == "silu":
        config = dataclasses.replace(config, activation=jax.nn.silu)
    steps = [pair if isinstance(pair, list) else (pair, 0) for pair in info["num_iteration"]]
    options = {"width": info["channels"], "depth": info["layers"], "levels": steps, "config": config}
    model = MgNO(info["in_channels"], 1, grid=Grid(shape, boundary=BOUNDARIES[mode]), key=jax.random.key(0), **options)
    return Residual(model) if "residual_output" in info else model


def network(model):
    return model.operator if isinstance(model, Residual) else model


def with_weights(model, weights):
    loaded = interop.mgno_from_torch(network(model), weights)
    return Residual(loaded) if isinstance(model, Residual) else loaded


def relative(actual, expected):
    return float(np.max(np.abs(np.asarray(actual) - expected)) / np.max(np.abs(expected)))


@pytest.mark.parametrize(("precision", "tolerance"), [("f64", 1e-12), ("f32", 2e-6)])
@pytest.mark.parametrize("name", FIXTURES)
def test_equals_the_published_code(name, precision, tolerance, reference):
    info, arrays, weights = read(reference, name)
    with jax.enable_x64(precision == "f64"):
        dtype = jnp.float64 if precision == "f64" else jnp.float32
        model = with_weights(build(info, arrays["input"].shape[2:]), weights)
        x = jnp.asarray(arrays["input"], dtype)
        scale, shift = decoder(arrays, x)

        def output(model, x):
            return jax.vmap(model)(x) * scale + shift

        @eqx.filter_jit
        def compute(model, x):
            value = lambda both: (lambda y: (jnp.sum(y**2), y))(output(*both))
            return eqx.filter_grad(value, has_aux=True)((model, x))

        (by_model, by_input), y = compute(model, x)
        assert y.dtype == dtype
        assert relative(y, arrays[f"output_{precision}"]) < tolerance
        assert relative(by_input, arrays[f"grad_input_{precision}"]) < tolerance
        head = "linear" if "linear.weight" in weights else "last_layer"
        gradients = interop.mgno_to_torch(network(by_model), head=head)
        for weight in info["weights"]:
            if weight["grad_l2_f64"] == 0:  # held by the published class and never used
                assert weight["torch_name"] not in gradients
                continue
            norm = float(np.linalg.norm(gradients.pop(weight["torch_name"])))
            assert norm == pytest.approx(weight["grad_l2_f64"], rel=10 * tolerance), weight["name"]
        assert not gradients


def published_h1(prediction, truth):
    """The published code's loss on a square grid; for odd n its middle frequency is (n + 1) / 2, not (n - 1) / 2."""
    n = truth.shape[-1]
    k = np.abs(np.concatenate((np.arange(n // 2), np.arange(-((n + 1) // 2), 0))))
    k = np.where(k < 20, k, 0) ** 2
    weight = 1 + k[None, :, None] + k
    norm = lambda u: jnp.sqrt(jnp.sum(weight * jnp.abs(jnp.fft.fft2(u)) ** 2))
    return norm(prediction - truth) / norm(truth)


@pytest.mark.parametrize("name", TRAJECTORIES)
def test_training_follows_the_published_code(name, reference):
    info, arrays, weights = read(reference, name)
    recipe = info["training"]
    x, y = arrays["train_x"], arrays["train_y"][:, None]
    epochs, size = recipe["epochs"], recipe["batch"]
    parts = len(x) // size
    with jax.enable_x64(True):
        model = with_weights(build(info, x.shape[2:]), weights)
        scale, shift = decoder(arrays, jnp.asarray(x[:1]))
        raw = Normaliser(jnp.zeros((x.shape[1], 1, 1)), jnp.ones((x.shape[1], 1, 1)))
        decoded = Normalised(model, raw, Normaliser(shift[0], scale[0]))
        optimiser = train.one_cycle_adam(
            recipe["max_lr"],
            epochs=epochs,
            steps_per_epoch=parts,
            weight_decay=recipe["weight_decay"],
            divide=float(recipe["div_factor"]),
            final_divide=float(recipe["final_div_factor"]),
            warmup=recipe["pct_start"],
        )
        step = train.make_step(losses.supervised(published_h1, scale=float(size)), optimiser)
        batches = train.Batches(lambda k: tuple(a[k % parts * size :][:size] for a in (x, y)))
        found = []
        hook = train.every(1, lambda event: found.extend(event.logs["loss"]))
        state = train.fit(train.init(decoded, optimiser), step, batches, steps=epochs * parts, hooks=[hook])
        np.testing.assert_allclose(found, arrays["losses"], rtol=1e-8)
        np.testing.assert_allclose(jax.vmap(state.model)(x), arrays["final_pred"], rtol=1e-8)


def decoder(arrays, x):
    mean = np.broadcast_to(arrays.get("norm_mean", 0.0), x[:, :1].shape)
    std = np.broadcast_to(arrays["norm_std"].astype(np.float64) + 1e-5 if "norm_std" in arrays else 1.0, x[:, :1].shape)
    return jnp.asarray(std, x.dtype), jnp.asarray(mean, x.dtype)


@pytest.mark.parametrize("name", CYCLES)
def test_a_cycle_alone_equals_the_published_code(name, reference):
    info, arrays, weights = read(reference, name)
    with jax.enable_x64(True):
        # the reader knows whole models: one layer, the cycle, and a head that the fixture does not have
        config = MgNOConfig(CycleConfig(bias=info["bias_smoother"], residual=info["use_res"]), local=False)
        options = {"width": info["channels"], "depth": 1, "levels": info["num_iteration"], "config": config}
        grid = Grid(arrays["input"].shape[2:], boundary=Neumann())
        model = MgNO(info["in_channels"], 1, grid=grid, key=jax.random.key(0), **options)
        model = interop.mgno_from_torch(model, {**weights, "linear.weight": np.ones((1, info["channels"], 1, 1))})
        y = jax.jit(jax.vmap(model.layers[0].cycle))(jnp.asarray(arrays["input"], jnp.float64))
        assert relative(y, arrays["output_f64"]) < 1e-12


@pytest.mark.parametrize(
    "grid",
    [
        Grid((11,), boundary=Dirichlet()),
        Grid((8, 7), boundary=(Periodic(), (Neumann(), Dirichlet()))),
        Grid((7, 9), boundary=Periodic()),
        Grid((4, 5, 6), boundary=Neumann()),
    ],
    ids=str,
)
def test_any_dimension_boundary_and_number_of_channels(grid, getkey):
    model = MgNO(2, 3, grid=grid, width=5, depth=2, levels=2, key=getkey())
    x = jax.random.normal(getkey(), (4, 2, *grid.shape))
    loss = lambda model: (jnp.sum(jax.vmap(model)(x) ** 2), (jax.vmap(model)(x), model(x[2])))
    gradient, (y, one) = eqx.filter_jit(eqx.filter_grad(loss, has_aux=True))(model)
    assert y.shape == (4, 3, *grid.shape)
    np.testing.assert_allclose(y[2], one, rtol=0, atol=1e-5 * float(jnp.max(jnp.abs(y))))
    assert all(jnp.all(jnp.isfinite(a)) and jnp.any(a != 0) for a in jax.tree.leaves(gradient))


def test_one_compilation_for_a_shape(getkey):
    traces = []
    model = MgNO(1, 1, grid=Grid((8, 12), boundary=Dirichlet()), width=4, depth=2, levels=2, key=getkey())

    @eqx.filter_jit
    def evaluate(model, x):
        traces.append(x.shape)
        return jax.vmap(model)(x)

    for batch in (2, 2, 3, 2):
        evaluate(model, jnp.ones((batch, 1, 8, 12)))
    assert traces == [(2, 1, 8, 12), (3, 1, 8, 12)]


def test_errors_name_the_remedy(getkey):
    grid = Grid((16, 24), boundary=Dirichlet())
    with pytest.raises(ValueError, match=r"6 levels need .* room for 4: .*Use at most 4 levels or a finer grid"):
        MgNO(1, 1, grid=grid, key=getkey())
    with pytest.raises(ValueError, match="at least one layer, got depth=0"):
        MgNO(1, 1, grid=grid, depth=0, levels=2, key=getkey())
    with pytest.raises(ValueError, match="at least one level, got levels=0"):
        MgNO(1, 1, grid=grid, levels=0, key=getkey())
    model = MgNO(2, 1, grid=grid, width=4, depth=1, levels=2, key=getkey())
    with pytest.raises(ValueError, match=r"Expected 2 input channels, got 3 .*build the operator with in_channels=3"):
        model(jnp.ones((3, 16, 24)))
    with pytest.raises(ValueError, match=r"Expected a field \(channels, 16, 24\), got \(2, 24, 16\).*Resampled"):
        model(jnp.ones((2, 24, 16)))
