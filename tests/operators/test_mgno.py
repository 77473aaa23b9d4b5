"""MgNO against the published implementation: outputs, gradients, parameter counts."""

import dataclasses
import json
import re

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import REFERENCE

from sciml import interop, losses, train
from sciml.grid import Dirichlet, Grid, Neumann, Periodic
from sciml.nn import CycleConfig, FieldNorm, gelu
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


@pytest.mark.reference
def test_every_fixture_is_covered(reference):
    found = {path.stem for path in (reference / "mgno").glob("*.json")}
    assert found == {*FIXTURES, *CYCLES, *TRAJECTORIES} - {"none"}


def read(folder, name):
    """Description, arrays of a fixture, and its weights under the names of the published state dict."""
    info = json.loads((folder / "mgno" / f"{name}.json").read_text())
    arrays = dict(np.load(folder / "mgno" / f"{name}.npz"))
    return info, arrays, {weight["torch_name"]: arrays[weight["name"]] for weight in info["weights"]}


def build(info, shape, weights):
    """Our model with the settings of a fixture: every field of its description is read or compared, or refused."""
    unknown = set(info) - READ - COMPARED - NOTES
    assert not unknown, f"Nobody reads {sorted(unknown)} of this fixture's description."
    mode = chosen(info, "padding_mode", BOUNDARIES)
    steps = [pair if isinstance(pair, list) else (pair, 0) for pair in info["num_iteration"]]
    config = configuration(info, weights, len(steps))
    options = {"width": info["channels"], "depth": info["layers"], "levels": steps, "config": config}
    grid = Grid(shape, boundary=BOUNDARIES[mode])
    model = MgNO(info["in_channels"], outputs(info, weights), grid=grid, key=jax.random.key(0), **options)
    compare(info, model, weights)
    if "residual_output" not in info:
        return model
    return Residual(model) if outputs(info, weights) <= info["in_channels"] else Broadcast(model)


BASES = {"MgNO_NS": NAVIER_STOKES, "MgNO_helm": HELMHOLTZ, "MgNO_DC_smooth": MgNOConfig(), "MgNO_DC": MgNOConfig()}
ACTIVATIONS = {"gelu": gelu, "silu": jax.nn.silu, "relu": jax.nn.relu, "tanh": jnp.tanh}
READ = {
    *("variant", "layers", "channels", "in_channels", "out_channels", "output_dim", "num_iteration", "padding_mode"),
    *("bias_smoother", "use_res", "local_1x1", "activation", "head", "layernorm", "outer_layernorm", "channel_growth"),
    *("prolong_padding", "restrict_padding", "residual_output", "training"),
}
COMPARED = {"prolong_kernels", "level_sizes", "n_params"}
NOTES = {"weights", "decode", "output", "note", "final_param_norms"}  # of the arrays, which hold what they say


class Broadcast(eqx.Module):
    """head(u) + input as PyTorch adds them: one input channel to each of several outputs."""

    operator: MgNO

    def __call__(self, x):
        y = self.operator(x)
        return y + jnp.broadcast_to(x, y.shape)


def chosen(info, field, table):
    """The key of a table that a field begins with."""
    for key in table:
        if info[field].lower().startswith(key):
            return key
    raise AssertionError(f"The field {field} is {info[field]!r}, expected one that begins with {', '.join(table)}.")


def head_arrays(weights):
    """The arrays of the head by the rest of their names: `weight`, or `0.weight`, `0.bias`, `2.weight`."""
    return {name.split(".", 1)[1]: a for name, a in weights.items() if name.split(".")[0] in ("linear", "last_layer")}


def outputs(info, weights):
    given = info.get("out_channels", info.get("output_dim"))
    head = head_arrays(weights)
    last = next((head[name] for name in ("2.weight", "weight", "layer0.0.S.weight") if name in head), None)
    found = 1 if last is None else last.shape[0]
    assert given in (None, found), f"The description has {given} output channels, the head's arrays have {found}."
    return found


def configuration(info, weights, levels):
    """What the fields of a description change of its variant."""
    config = BASES[info["variant"].split()[0]]
    inner = info.get("prolong_padding", 1) == 0
    assert inner == (info.get("restrict_padding", 1) == 0), "prolong_padding and restrict_padding differ"
    cycle = dataclasses.replace(
        config.cycle,
        bias=info.get("bias_smoother", config.cycle.bias),
        residual=info.get("use_res", False),
        inner=inner,
        norm=FieldNorm if "layernorm" in info else None,
        multiples=tuple(range(1, levels + 1)) if "channel_growth" in info else (),
    )
    head = info.get("head", "1x1 no bias").lower()
    kinds = {"cycle_head": "v-cycle" in head, "head_hidden": 0}
    if "0.weight" in head_arrays(weights):
        assert re.match(r"1x1.*gelu.*1x1", head), f"The field head is {head!r}, its arrays are two pointwise layers."
        kinds["head_hidden"] = head_arrays(weights)["0.weight"].shape[0]
    else:
        assert kinds["cycle_head"] or head == "1x1 no bias", f"The field head is {head!r}, expected 1x1 or a V-cycle."
    return MgNOConfig(
        cycle=cycle,
        local=info.get("local_1x1", config.local),
        norm=FieldNorm if "outer_layernorm" in info else None,
        activation=ACTIVATIONS[chosen(info, "activation", ACTIVATIONS) if "activation" in info else "gelu"],
        **kinds,
    )


def compare(info, model, weights):
    """Asserts that the model has the sizes that the description prints."""
    cycle = model.layers[0].cycle
    kernels = [part.weight.shape[0] for part in cycle.prolong]
    assert kernels == info.get("prolong_kernels", kernels), "prolong_kernels"
    sizes = [part.fine for part in cycle.prolong]
    printed = [tuple(n) if isinstance(n, list) else (n, n) for n in info.get("level_sizes", ())]
    assert printed[: len(sizes)] in ([], sizes), "level_sizes"
    unused = sum(a.size for name, a in weights.items() if ".layer0.0.A." in f".{name}")
    count = sum(leaf.size for leaf in jax.tree.leaves(model)) + unused
    assert count == info.get("n_params", count), "n_params"


def network(model):
    return model if isinstance(model, MgNO) else model.operator


def with_weights(model, weights):
    loaded = interop.mgno_from_torch(network(model), weights)
    return loaded if isinstance(model, MgNO) else type(model)(loaded)


def relative(actual, expected):
    return float(np.max(np.abs(np.asarray(actual) - expected)) / np.max(np.abs(expected)))


@pytest.mark.reference
@pytest.mark.parametrize(
    ("precision", "tolerance"), [("f64", 1e-12), pytest.param("f32", 2e-6, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("name", FIXTURES)
def test_equals_the_published_code(name, precision, tolerance, reference):
    info, arrays, weights = read(reference, name)
    with jax.enable_x64(precision == "f64"):
        dtype = jnp.float64 if precision == "f64" else jnp.float32
        model = with_weights(build(info, arrays["input"].shape[2:], weights), weights)
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
        head = "linear" if any(name.startswith("linear.") for name in weights) else "last_layer"
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


@pytest.mark.reference
@pytest.mark.parametrize("name", TRAJECTORIES)
def test_training_follows_the_published_code(name, reference):
    info, arrays, weights = read(reference, name)
    recipe = info["training"]
    x, y = arrays["train_x"], arrays["train_y"][:, None]
    epochs, size = recipe["epochs"], recipe["batch"]
    parts = len(x) // size
    with jax.enable_x64(True):
        model = with_weights(build(info, x.shape[2:], weights), weights)
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


@pytest.mark.reference
@pytest.mark.parametrize("name", CYCLES)
def test_a_cycle_alone_equals_the_published_code(name, reference):
    info, arrays, weights = read(reference, name)
    with jax.enable_x64(True):
        # the reader knows whole models: one layer, the cycle, and a head that the fixture does not have
        config = MgNOConfig(CycleConfig(bias=info["bias_smoother"], residual=info["use_res"]), local=False)
        options = {"width": info["channels"], "depth": 1, "levels": info["num_iteration"], "config": config}
        grid = Grid(arrays["input"].shape[2:], boundary=BOUNDARIES[chosen(info, "padding_mode", BOUNDARIES)])
        model = MgNO(info["in_channels"], 1, grid=grid, key=jax.random.key(0), **options)
        model = interop.mgno_from_torch(model, {**weights, "linear.weight": np.ones((1, info["channels"], 1, 1))})
        y = jax.jit(jax.vmap(model.layers[0].cycle))(jnp.asarray(arrays["input"], jnp.float64))
        assert relative(y, arrays["output_f64"]) < 1e-12


FURTHER = {  # what a description may ask for beyond the folder's fixtures, each with one layer and two levels
    "hidden head": {"head": "1x1 with bias, GELU, 1x1", "output_dim": 3},
    "residual restriction": {"use_res": True},
    "both, relu": {"use_res": True, "head": "1x1 with bias, GELU, 1x1", "output_dim": 3, "activation": "relu"},
    "tanh": {"activation": "tanh"},
}


@pytest.mark.parametrize("name", FURTHER)
def test_the_builder_reads_combinations_that_no_fixture_has(name, getkey):
    base = {
        "variant": "MgNO_NS",
        "layers": 1,
        "channels": 4,
        "in_channels": 1,
        "num_iteration": [[1, 0], [2, 0]],
        "padding_mode": "circular",
        "bias_smoother": True,
        "layernorm": "all levels",
        "residual_output": "head(u)+input",
        "level_sizes": [8, 4],
    }
    info = base | FURTHER[name]
    hidden, out = (5, 3) if "head" in info else (0, 1)
    grid = Grid((8, 8))
    activation = ACTIVATIONS[info.get("activation", "gelu")]
    cycle = CycleConfig(bias=True, residual="use_res" in info, norm=FieldNorm)
    config = MgNOConfig(cycle=cycle, local=False, activation=activation, head_hidden=hidden)
    options = {"grid": grid, "width": 4, "depth": 1, "levels": info["num_iteration"], "config": config}
    model = MgNO(1, out, **options, key=getkey())
    weights = interop.mgno_to_torch(model, head="last_layer")
    assert ("conv_list.0.layer1.0.A.weight" in weights) == ("use_res" in info)
    loaded = with_weights(build(info, (8, 8), weights), weights)
    x = jax.random.normal(getkey(), (1, 8, 8))
    u = jnp.moveaxis(activation(model.layers[0].channels_last(jnp.moveaxis(x, 0, -1)[None]))[0], -1, 0)
    if hidden:
        inside = jnp.tensordot(weights["last_layer.0.weight"][:, :, 0, 0], u, 1)
        u = jax.nn.gelu(inside + weights["last_layer.0.bias"].reshape(-1, 1, 1), approximate=False)
    kernel = weights["last_layer.2.weight" if hidden else "last_layer.weight"]
    expected = jnp.tensordot(kernel[:, :, 0, 0], u, 1) + jnp.broadcast_to(x, (out, 8, 8))
    np.testing.assert_allclose(loaded(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dropout": 0.1}, r"Nobody reads \['dropout'\]"),
        ({"activation": "swish2"}, "The field activation is 'swish2', expected one that begins with gelu"),
        ({"head": "3x3"}, "The field head is '3x3'"),
        ({"output_dim": 2}, "2 output channels, the head's arrays have 1"),
        ({"n_params": 1}, "n_params"),
    ],
)
def test_the_builder_names_the_field_that_it_cannot_read(change, message, getkey):
    info = {"variant": "MgNO_DC", "layers": 1, "channels": 2, "in_channels": 1, "num_iteration": [[1, 0], [1, 0]]}
    model = MgNO(1, 1, grid=Grid((6, 6)), width=2, depth=1, levels=((1, 0), (1, 0)), key=getkey())
    with pytest.raises(AssertionError, match=message):
        build(info | {"padding_mode": "circular"} | change, (6, 6), interop.mgno_to_torch(model))


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
    with pytest.raises(ValueError, match=r"one head, got cycle_head=True and head_hidden=3\. Leave one"):
        MgNOConfig(cycle_head=True, head_hidden=3)
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
