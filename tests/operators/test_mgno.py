"""MgNO against the published implementation: outputs, gradients, parameter counts."""

import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import REFERENCE

from sciml import losses, train
from sciml.grid import Dirichlet, Grid, Neumann, Periodic
from sciml.nn import VCycle, gelu
from sciml.operators import MgNO, Normalised, Normaliser

FIXTURES = [path.stem for path in sorted((REFERENCE / "mgno").glob("dc_*.json"))] or ["none"]
PUBLISHED = ((1, 0),) * 5 + ((2, 0),)


def in_cycle(cycle, parts):
    """The module of a cycle that the fixtures call `level1.pre0.S`, `level1.restrict_u` or `prolong0`."""
    if parts[0].startswith("prolong"):
        return cycle.prolong[int(parts[0][7:])]
    level = int(parts[0][5:])
    transitions = {
        "restrict_u": cycle.restrict_state,
        "restrict_f": cycle.restrict_data,
        "restrict_A": cycle.restrict_operator,
    }
    if parts[1] in transitions:
        return transitions[parts[1]][level - 1]
    steps = cycle.pre if parts[1].startswith("pre") else cycle.post
    step = steps[level][int(parts[1].removeprefix("pre").removeprefix("post"))]
    return step.smoother if parts[2] == "S" else step.operator


def module_of(model, name):
    parts = name.split(".")
    if parts[0] == "head":
        return model.head
    layer = model.layers[int(parts[0][5:])]
    return layer.local if parts[1] == "local" else in_cycle(layer.cycle, parts[2:])


def load(model, arrays, names, find, dtype):
    def where(model):
        return [getattr(find(model, name), name.split(".")[-1]) for name in names]

    values = [jnp.asarray(a.transpose(2, 3, 1, 0) if a.ndim == 4 else a, dtype) for a in map(arrays.get, names)]
    assert sorted(map(id, where(model))) == sorted(map(id, jax.tree.leaves(model)))  # each array exactly once
    assert [a.shape for a in where(model)] == [a.shape for a in values]
    return eqx.tree_at(where, model, values)


def relative(actual, expected):
    return float(np.max(np.abs(np.asarray(actual) - expected)) / np.max(np.abs(expected)))


@pytest.mark.parametrize(("precision", "tolerance"), [("f64", 1e-12), ("f32", 2e-6)])
@pytest.mark.parametrize("name", FIXTURES)
def test_equals_the_published_code(name, precision, tolerance, reference):
    arrays = dict(np.load(reference / "mgno" / f"{name}.npz"))
    info = json.loads((reference / "mgno" / f"{name}.json").read_text())
    names = [weight["name"] for weight in info["weights"]]
    boundary = Periodic() if info["padding_mode"].startswith("circular") else Dirichlet()
    with jax.enable_x64(precision == "f64"):
        dtype = jnp.float64 if precision == "f64" else jnp.float32
        model = MgNO(
            info["in_channels"],
            1,
            grid=Grid(arrays["input"].shape[2:], boundary=boundary),
            width=info["channels"],
            depth=info["layers"],
            levels=info["num_iteration"],
            activation=jax.nn.silu if info.get("activation") == "silu" else gelu,
            key=jax.random.key(0),
        )
        model = load(model, arrays, names, module_of, dtype)
        x = jnp.asarray(arrays["input"], dtype)
        scale, shift = decoder(arrays, x)

        def output(model, x):
            return jax.vmap(model)(x) * scale + shift

        y = eqx.filter_jit(output)(model, x)
        by_model, by_input = eqx.filter_jit(
            lambda model, x: eqx.filter_grad(lambda both: jnp.sum(output(*both) ** 2))((model, x))
        )(model, x)
        assert y.dtype == dtype
        assert relative(y, arrays[f"output_{precision}"]) < tolerance
        assert relative(by_input, arrays[f"grad_input_{precision}"]) < tolerance
        for weight in info["weights"]:
            gradient = getattr(module_of(by_model, weight["name"]), weight["name"].split(".")[-1])
            norm = float(jnp.linalg.norm(gradient.reshape(-1)))
            assert norm == pytest.approx(weight["grad_l2_f64"], rel=10 * tolerance), weight["name"]


TRAJECTORIES = [path.stem for path in sorted((REFERENCE / "mgno").glob("train_traj_*.json"))] or ["none"]


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
    arrays = dict(np.load(reference / "mgno" / f"{name}.npz"))
    info = json.loads((reference / "mgno" / f"{name}.json").read_text())
    names, recipe = [weight["name"] for weight in info["weights"]], info["training"]
    x, y = arrays["train_x"], arrays["train_y"][:, None]
    epochs, size = recipe["epochs"], recipe["batch"]
    parts = len(x) // size
    grid = Grid(x.shape[2:], boundary=Dirichlet())
    with jax.enable_x64(True):
        model = MgNO(
            info["in_channels"],
            1,
            grid=grid,
            width=info["channels"],
            depth=info["layers"],
            levels=info["num_iteration"],
            key=jax.random.key(0),
        )
        model = load(model, arrays, names, module_of, jnp.float64)
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


def test_cycle_with_residual_restriction_equals_the_published_code(reference):
    arrays = dict(np.load(reference / "mgno" / "vcycle_reflect_useres_16x24.npz"))
    info = json.loads((reference / "mgno" / "vcycle_reflect_useres_16x24.json").read_text())
    names = [weight["name"] for weight in info["weights"]]
    with jax.enable_x64(True):
        cycle = VCycle(
            3,
            5,
            grid=Grid((16, 24), boundary=Neumann()),
            iterations=info["num_iteration"],
            bias=True,
            residual=True,
            key=jax.random.key(0),
        )
        cycle = load(cycle, arrays, names, lambda cycle, name: in_cycle(cycle, name.split(".")[2:]), jnp.float64)
        y = jax.jit(jax.vmap(cycle))(jnp.asarray(arrays["input"], jnp.float64))
        assert relative(y, arrays["output_f64"]) < 1e-12


@pytest.mark.parametrize(
    ("shape", "into", "depth", "levels", "count"),
    [
        ((64, 64), 1, 4, 6, 572_661),
        ((211, 211), 1, 5, PUBLISHED, 678_093),
        ((211, 211), 1, 4, PUBLISHED, 524_277),
        ((128, 128), 2, 5, ((1, 0),) * 4 + ((1, 1), (2, 0)), 783_876),
    ],
)
def test_parameter_counts_of_the_published_models(shape, into, depth, levels, count):
    build = lambda key: MgNO(into, 1, grid=Grid(shape, boundary=Dirichlet()), depth=depth, levels=levels, key=key)
    model = eqx.filter_eval_shape(build, jax.random.key(0))
    assert sum(a.size for a in jax.tree.leaves(model)) == count


@pytest.mark.parametrize(
    "grid",
    [
        Grid((11,), boundary=Dirichlet()),
        Grid((8, 7), boundary=(Periodic(), (Neumann(), Dirichlet()))),
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
