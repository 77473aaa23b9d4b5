"""Conditioned steps against NumPy, for every architecture of the table, in both forms."""

import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sciml import structure, train, zoo
from sciml.grid import Dirichlet, Grid, Neumann, Periodic
from sciml.nn import partition
from sciml.operators import (
    AbstractOperator,
    AsChannels,
    Conditioned,
    FiLM,
    Increments,
    NextFrames,
    Normaliser,
    Numbers,
    as_channels,
    number_statistics,
    per_channel,
)
from sciml.rollout import Conditions

HISTORY, BUNDLE, CHANNELS, FIXED, PARAMETERS, NX, NY = 3, 4, 2, 5, 1, 6, 8
GRIDS = {
    1: Grid((16,), boundary=Periodic()),
    2: Grid((16, 24), extent=(1.0, 2.0), boundary=((Dirichlet(), Neumann()), Periodic())),
    3: Grid((16, 32, 24), boundary=Periodic()),
}
FORMS = {"channels": as_channels, "film": FiLM}


class Linear(AbstractOperator):
    matrix: jax.Array

    def __call__(self, x):
        return jnp.tensordot(self.matrix, x, axes=1)


def normaliser(rng, channels, axes):
    mean, deviation = rng.normal(size=channels), rng.uniform(0.5, 2, channels)
    shape = (channels, *(1,) * axes)
    return Normaliser(np.float32(mean).reshape(shape), np.float32(deviation).reshape(shape))


def statistics(axes, *, history=HISTORY, seed=0):
    """All that a `Conditioned` has besides its operator."""
    rng = np.random.default_rng(seed)
    step = normaliser(rng, CHANNELS, axes)
    return {
        "frames": normaliser(rng, CHANNELS, axes),
        "output": Increments(step) if history else NextFrames(step),
        "fixed": normaliser(rng, FIXED, axes),
        "numbers": Numbers(normaliser(rng, PARAMETERS, 0), normaliser(rng, 1, 0), (0,)),
        "history": history,
        "bundle": BUNDLE if history else 1,
    }


def sample(space, *, history=HISTORY, batch=(), seed=1):
    rng = np.random.default_rng(seed)
    draw = lambda *shape: np.float32(rng.normal(size=(*batch, *shape)))
    conditions = Conditions(draw(FIXED, *space), np.exp(draw(PARAMETERS)), np.exp(draw()))
    return jnp.asarray(draw(history, CHANNELS, *space)), jax.tree.map(jnp.asarray, conditions)


def make(name, form, grid, *, history=HISTORY, key=None):
    known = statistics(len(grid.shape), history=history)
    into, out = FIXED + history * CHANNELS, known["bundle"] * CHANNELS
    inner = FORMS[form](
        zoo.MODELS[name].make,
        into,
        out,
        numbers=known["numbers"].size,
        grid=grid,
        key=jax.random.key(0) if key is None else key,
    )
    return Conditioned(inner, **known)


@pytest.mark.parametrize("bundle", [1, BUNDLE])
def test_the_channels_and_the_increments_are_those_of_numpy(bundle):
    rng = np.random.default_rng(3)
    known = statistics(2) | {"bundle": bundle}
    matrix = np.float32(rng.normal(size=(bundle * CHANNELS, 2 + FIXED + HISTORY * CHANNELS)))
    frames, conditions = sample((NX, NY))
    found = Conditioned(AsChannels(Linear(jnp.asarray(matrix))), **known)(frames, conditions)

    scaled = lambda x, n: (np.asarray(x, float) - np.asarray(n.mean.value)) / np.asarray(n.deviation.value)
    numbers = np.concatenate((
        scaled(np.log(conditions.parameters), known["numbers"].parameters),
        scaled(np.log(conditions.dt)[None], known["numbers"].log_dt),
    ))  # fmt: skip
    channels = [np.full((NX, NY), number) for number in numbers]
    channels += list(scaled(conditions.fixed, known["fixed"]))
    for frame in np.asarray(frames):  # the earliest first
        channels += list(scaled(frame, known["frames"]))
    y = np.tensordot(matrix, np.stack(channels), 1).reshape(bundle, CHANNELS, NX, NY)
    step = known["output"].step
    expected = [
        np.asarray(frames[-1]) + (j + 1) * (np.asarray(step.mean.value) + np.asarray(step.deviation.value) * y[j])
        for j in range(bundle)
    ]
    np.testing.assert_allclose(found, np.stack(expected), rtol=2e-5, atol=2e-5)  # float32, sums of 13 products


def test_a_map_decodes_its_single_frame():
    known = statistics(1, history=0)
    frames, conditions = sample((NX,), history=0)
    assert frames.shape == (0, CHANNELS, NX)
    model = Conditioned(AsChannels(Linear(jnp.eye(CHANNELS, 2 + FIXED))), **known)  # returns the numbers
    numbers = known["numbers"](conditions)
    expected = known["output"].frames.decode(jnp.broadcast_to(numbers[:, None], (CHANNELS, NX)))
    np.testing.assert_array_equal(model(frames, conditions)[0], expected)


def test_a_straight_line_needs_one_output_at_all_frames_of_a_bundle():
    """u = t a: increments are (j + 1) a, hence the normalised outputs are the same at all leads."""
    a = np.float32([[1.0, 2.0, 4.0]])
    step = Normaliser(np.float32([[0.5]]), np.float32([[2.0]]))
    y = jnp.broadcast_to((a - 0.5) / 2, (BUNDLE, 1, 3))
    frames = jnp.asarray(np.stack([0 * a, a]))
    np.testing.assert_allclose(Increments(step).decode(y, frames)[:, 0], a * np.arange(2, 6)[:, None], rtol=1e-6)


def test_statistics_of_numbers_are_those_of_numpy():
    rng = np.random.default_rng(0)
    parameters = np.float32(np.exp(rng.normal(size=(11, 2)))) * np.float32([1, -1])
    dt = np.float32(rng.choice([0.5, 0.25], 11))
    found = number_statistics(parameters, dt, logarithms=(0,))
    values = np.stack([np.log(parameters[:, 0]), parameters[:, 1], np.log(dt)], 1)
    encoded = [found(Conditions(np.zeros((0, 4)), jnp.asarray(p), jnp.asarray(d))) for p, d in zip(parameters, dt)]  # noqa: B905
    expected = (values - values.mean(0)) / values.std(0, ddof=1)
    np.testing.assert_allclose(np.stack(encoded), expected, rtol=1e-4, atol=1e-5)  # float32 logarithms
    assert found.size == 3
    alone = number_statistics(parameters, np.full(11, 0.1, np.float32))
    assert alone.log_dt is None
    assert alone.size == 2
    assert number_statistics(parameters[:, :0], dt[:1].repeat(11)).size == 0


def test_gradients_pass_by_parameters_without_a_logarithm():
    numbers = Numbers(Normaliser(np.zeros(2, np.float32), np.ones(2, np.float32)), None, (1,))
    of = lambda p: jnp.sum(numbers(Conditions(jnp.zeros((0, 4)), p, jnp.ones(()))))
    np.testing.assert_allclose(jax.grad(of)(jnp.asarray([0.0, 2.0])), [1.0, 0.5])


def test_a_model_without_statistics_of_conditions_ignores_them():
    known = statistics(2) | {"fixed": None, "numbers": Numbers()}
    matrix = np.float32(np.random.default_rng(0).normal(size=(BUNDLE * CHANNELS, HISTORY * CHANNELS)))
    model = Conditioned(AsChannels(Linear(jnp.asarray(matrix))), **known)
    frames, conditions = sample((NX, NY))
    none = Conditions(conditions.fixed[:0], conditions.parameters[:0], jnp.asarray(np.nan))
    np.testing.assert_array_equal(model(frames, conditions), model(frames, none))


CASES = [  # the conditions are those of every operator: one grid and one form in the quick tests
    pytest.param(axes, form, marks=() if (axes, form) == (next(iter(GRIDS)), "channels") else pytest.mark.slow)
    for axes in GRIDS
    for form in FORMS
]


@pytest.mark.parametrize(("axes", "form"), CASES)
@pytest.mark.parametrize("name", zoo.MODELS)
def test_every_architecture_is_conditioned(name, axes, form):
    grid, history = GRIDS[axes], HISTORY if form == "channels" else 0  # either form with either, in half of the time
    model = eqx.filter_eval_shape(lambda key: make(name, form, grid, history=history, key=key), jax.random.key(0))
    of = lambda model, frames, conditions: jax.vmap(model)(frames, conditions)
    after = eqx.filter_eval_shape(of, model, *sample(grid.shape, history=history, batch=(7,)))
    assert after.shape == (7, BUNDLE if history else 1, CHANNELS, *grid.shape)
    assert after.dtype == jnp.float32


@pytest.mark.parametrize("form", FORMS)
def test_saved_models_are_rebuilt_and_vmap_is_a_loop(form, tmp_path):
    grid = GRIDS[2]
    model = make("fno", form, grid)
    described = json.loads(json.dumps(structure.describe(model)))
    state = train.init(model, optax.sgd(0.1))
    checkpoints = train.Checkpoints(tmp_path)
    checkpoints.save(state)
    checkpoints.close()
    empty = structure.rebuild(described)
    restored = train.Checkpoints(tmp_path).restore(train.init(empty, optax.sgd(0.1))).model
    frames, conditions = sample(grid.shape, batch=(3,))
    apply = eqx.filter_jit(lambda model, frames, conditions: jax.vmap(model)(frames, conditions))
    found = apply(restored, frames, conditions)
    np.testing.assert_array_equal(found, apply(model, frames, conditions))
    one = lambda i: model(frames[i], jax.tree.map(lambda leaf: leaf[i], conditions))
    looped = np.stack([one(i) for i in range(3)])
    np.testing.assert_allclose(found, looped, atol=2e-5 * np.abs(looped).max())  # float32, sums in another order


@pytest.mark.parametrize("form", FORMS)
def test_statistics_are_not_trained_and_the_rest_is(form):
    grid = GRIDS[1]
    model = make("fno", form, grid)
    trainable, rest = partition(model)
    names = {jax.tree_util.keystr(path).split(".")[1] for path, _ in jax.tree_util.tree_leaves_with_path(trainable)}
    assert names == {"operator"}
    if form == "film":  # where the last layer of the modulation is zero, no gradient passes to the one before it
        rng = np.random.default_rng(0)
        trainable = jax.tree.map(lambda leaf: leaf + 0.1 * np.float32(rng.normal(size=leaf.shape)), trainable)
    frames, conditions = sample(grid.shape)
    loss = lambda trainable: jnp.sum(eqx.combine(trainable, rest)(frames, conditions) ** 2)
    for path, leaf in jax.tree_util.tree_leaves_with_path(jax.jit(jax.grad(loss))(trainable)):
        assert np.isfinite(leaf).all()
        assert np.abs(leaf).max() > 0, f"{jax.tree_util.keystr(path)} has no influence"


def test_film_begins_as_a_model_without_conditions():
    form = FiLM(zoo.MODELS["fno"].make, 3, 2, numbers=4, width=6, grid=GRIDS[1], key=jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (3, 16))
    first, second = form(x, jnp.zeros(4)), form(x, jnp.asarray([1.0, -2.0, 3.0, 100.0]))
    np.testing.assert_array_equal(first, second)
    point = lambda layer, x: layer.weight.T @ x + layer.bias[:, None]
    hidden = jax.nn.gelu(point(form.lifting, x), approximate=False)
    expected = point(form.projection, jax.nn.gelu(form.operator(hidden), approximate=False))
    np.testing.assert_allclose(first, expected, rtol=1e-4, atol=1e-5)  # float32


def test_film_scales_and_shifts():
    """With a modulation of constants: scale 1 + g and shift b on both sides of an operator that is a matrix."""
    make_linear = lambda into, out, *, grid, key: Linear(jax.random.normal(key, (out, into)))
    form = FiLM(make_linear, 3, 2, numbers=1, width=4, grid=GRIDS[1], key=jax.random.key(0))
    values = np.float32(np.random.default_rng(0).normal(size=16))
    last = lambda form: form.modulation.layers[-1].bias
    form = eqx.tree_at(last, form, jnp.asarray(values))
    x = np.float32(np.random.default_rng(1).normal(size=(3, 16)))
    scale, shift, last_scale, last_shift = values.reshape(4, 4, 1)
    gelu = lambda x: np.asarray(jax.nn.gelu(x, approximate=False))
    point = lambda layer, x: np.asarray(layer.weight).T @ x + np.asarray(layer.bias)[:, None]
    hidden = gelu((1 + scale) * point(form.lifting, x) + shift)
    after = np.asarray(form.operator.matrix) @ hidden
    expected = point(form.projection, gelu((1 + last_scale) * after + last_shift))
    np.testing.assert_allclose(form(jnp.asarray(x), jnp.zeros(1)), expected, rtol=1e-4, atol=1e-5)  # float32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f, c: (f[1:], c), r"frames \(3, 2, \*space\) as in the statistics, got \(2, 2, 6, 8\)"),
        (lambda f, c: (f[:, :1], c), r"got \(3, 1, 6, 8\). Frames belong to one sample"),
        (lambda f, c: (f, c._replace(fixed=c.fixed[1:])), r"fixed fields \(5, 6, 8\) .* got \(4, 6, 8\)"),
        (lambda f, c: (f[..., 1:], c), r"fixed fields \(5, 6, 7\) .* got \(5, 6, 8\). .*jax.vmap"),
        (lambda f, c: (f, c._replace(parameters=c.parameters[1:])), r"Expected 1 parameters .* got shape \(0,\)"),
    ],
)
def test_samples_that_do_not_fit(change, message):
    matrix = jnp.zeros((BUNDLE * CHANNELS, 2 + FIXED + HISTORY * CHANNELS))
    model = Conditioned(AsChannels(Linear(matrix)), **statistics(2))
    with pytest.raises(ValueError, match=message):
        model(*change(*sample((NX, NY))))


def test_settings_that_do_not_fit():
    known = statistics(2)
    frames, conditions = sample((NX, NY))
    wide = Linear(jnp.zeros((CHANNELS, 2 + FIXED + HISTORY * CHANNELS)))
    with pytest.raises(ValueError, match=r"operator with 8 output channels .* got \(2, 6, 8\)"):
        Conditioned(AsChannels(wide), **known)(frames, conditions)
    with pytest.raises(ValueError, match="history >= 0 and bundle >= 1, got 3 and 0"):
        Conditioned(AsChannels(wide), **known | {"bundle": 0})
    none = Linear(jnp.zeros((CHANNELS, 2 + FIXED)))
    with pytest.raises(ValueError, match=r"maps have none \(history 0\). Use NextFrames"):
        Conditioned(AsChannels(none), **known | {"history": 0, "bundle": 1})(frames[:0], conditions)
    parameters, dt = np.float32([[1, 0], [2, 1]]), np.ones(2, np.float32)
    with pytest.raises(ValueError, match=r"need positive parameters and time steps, the least is 0"):
        number_statistics(parameters, dt, logarithms=(1,))
    with pytest.raises(ValueError, match=r"numbers of parameters from 0 to 1, got \(2,\)"):
        number_statistics(parameters, dt, logarithms=(2,))
    assert per_channel(parameters).mean.value.shape == (2,)
