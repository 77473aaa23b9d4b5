"""Losses, errors and the optimiser, against numbers of the published code and loops."""

import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import drawn

from sciml import prose
from sciml.nn import partition
from sciml.prose._equations.metrics import expression_error
from sciml.prose._model.optimiser import inverse_square_root, published_adam
from sciml.prose._model.states import in_precision

BATCH, TIMES, INPUTS, COMPONENTS, TOKENS, WRITTEN, WORDS = 2, 7, 4, 3, 5, 6, 11


@pytest.fixture(scope="module")
def published(reference):
    return json.loads((reference / "prose" / "misc.json").read_text())


def test_rate_of_the_published_optimiser(published):
    rows = published["lr_schedule"]
    schedule = inverse_square_root()
    rates = jax.vmap(schedule)(jnp.array([row["num_updates_done"] for row in rows]))
    np.testing.assert_allclose(rates, [row["lr_for_next_update"] for row in rows], rtol=1e-6)  # float32


def test_steps_of_the_published_optimiser(published):
    with jax.enable_x64(True):
        schedule = inverse_square_root(peak=1e-2, warmup=2, start=1e-3)
        optimiser = published_adam(schedule, decay=0.1)
        parameters = jnp.array([1.0, -2.0, 0.5])
        state = optimiser.init(parameters)
        update = jax.jit(optimiser.update)
        for row in published["adam_trace"]["steps"]:
            updates, state = update(jnp.array(row["grad"]), state, parameters)
            parameters = optax.apply_updates(parameters, updates)
            np.testing.assert_allclose(parameters, row["w"], rtol=1e-12)  # optax.adam differs by 1e-7


def test_long_gradients_are_clipped():
    optimiser = published_adam(lambda count: 1.0, decay=0.0, clip=0.5, epsilon=1e3)
    step = jax.jit(optimiser.update)(jnp.array([30.0, -40.0]), optimiser.init(jnp.zeros(2)), jnp.zeros(2))[0]
    # The first step is rate * sqrt(1 - b2) / (1 - b1) * (1 - b1) g / epsilon, to 1e-5 here, with |g| = 0.5.
    np.testing.assert_allclose(step, -np.sqrt(0.001) * np.array([0.3, -0.4]) / 1e3, rtol=1e-4)


def test_errors_of_a_trajectory(published):
    example = published["metrics"]
    output, target = (jnp.asarray(np.array(example[name], np.float32)) for name in ("output", "target"))
    errors = jax.jit(prose.window_errors)(output, target)
    np.testing.assert_allclose(errors, example["value"], rtol=1e-6)  # printed in float32
    padded = [jnp.pad(x, ((0, 0), (0, 2)), constant_values=value) for x, value in ((output, 7), (target, jnp.nan))]
    components = jnp.arange(output.shape[1] + 2) < output.shape[1]
    np.testing.assert_allclose(jax.jit(prose.window_errors)(*padded, components), errors, rtol=1e-6)


def lorenz(s, minus_s, r, minus_b):
    return lambda x, y, z: np.stack((s * y + minus_s * x, r * x - x * z - y, x * y + minus_b * z), axis=1)


def test_error_of_an_expression(published):
    example = published["symbolic_error"]
    points = np.array(example["points"])
    truth = lorenz(10.0, -10.0, 28.0, -2.67)(*points.T)
    values = lorenz(10.200000000000001, -9.9, 27.5, -2.6)(*points.T)
    with jax.enable_x64(True):
        error, valid = expression_error(jnp.asarray(values), jnp.asarray(truth))
        assert float(error) == pytest.approx(example["value"], rel=1e-12)
        assert valid
        values[3, 1] = np.inf
        assert not expression_error(jnp.asarray(values), jnp.asarray(truth))[1]
    with pytest.raises(ValueError, match=r"Expected values of shape \(50, 3\).*got \(50, 2\). Count an equation"):
        expression_error(jnp.asarray(values[:, :2]), jnp.asarray(truth))


def test_cross_entropy_is_the_mean_over_all_tokens():
    rng = np.random.default_rng(0)
    logits, tokens = rng.normal(size=(2, 4, 5)), rng.integers(0, 5, (2, 4))
    mask = np.array([[True, True, True, False], [True, False, False, False]])
    terms = [
        np.log(np.exp(logits[i, k]).sum()) - logits[i, k, tokens[i, k]]
        for i in range(2)
        for k in range(4)
        if mask[i, k]
    ]
    with jax.enable_x64(True):
        entropy = jax.jit(prose.cross_entropy)(*map(jnp.asarray, (logits, tokens, mask)))
        assert float(entropy) == pytest.approx(np.mean(terms), rel=1e-13)


def sample(rng):
    """Two samples with other dimensions, guesses and equations, and what padding must not change."""
    components = np.array([[True, True, False], [True, True, True]])
    mask = lambda counts, length: np.arange(length) < np.array(counts)[:, None]
    return prose.Sample(
        times=np.tile(np.linspace(0, 2, TIMES), (BATCH, 1)),
        states=rng.normal(size=(BATCH, TIMES, COMPONENTS)) * components[:, None],
        components=components,
        tokens=rng.integers(0, WORDS, (BATCH, TOKENS)),
        tokens_mask=mask([5, 3], TOKENS),
        equation=rng.integers(0, WORDS, (BATCH, WRITTEN)),
        equation_mask=mask([4, 6], WRITTEN),
        system=np.zeros(BATCH, int),
        family=np.zeros(BATCH, int),
        index=np.arange(BATCH),
    )


SIZES = prose.ProseSizes(8, 2, 12, 1, 1, 1, 1, 1, positions=9)


def test_the_loss_of_a_batch():
    with jax.enable_x64(True):
        batch = jax.tree.map(jnp.asarray, sample(np.random.default_rng(0)))
        make = lambda: prose.prose_ode(
            COMPONENTS, symbols_in=WORDS, symbols_out=WORDS, sizes=SIZES, key=jax.random.key(0)
        )
        model = drawn(make)
        loss = prose.prose_loss(history=INPUTS)

        @eqx.filter_jit
        def both(model):
            known, asked = batch.times[:, :INPUTS], batch.times[:, INPUTS:]
            apply = lambda t, s, q, w, e, m: model(t, s, q, w, e, tokens_mask=m)
            inputs = known, batch.states[:, :INPUTS], asked, batch.tokens, batch.equation[:, :-1], batch.tokens_mask
            return loss(model, batch, jax.random.split(jax.random.key(0), 1)), jax.vmap(apply)(*inputs)

        (value, logs), (predictions, logits) = both(model)
        squares, entropy = [], []
        for i, (components, count) in enumerate(((2, 4), (3, 6))):
            truth = np.asarray(batch.states)[i, INPUTS:, :components]
            error = np.asarray(predictions)[i, :, :components] - truth
            squares.append(np.sum(error**2) / (np.sum(truth**2) + 1e-5))
            for k in range(1, count):
                row = np.asarray(logits)[i, k - 1]
                entropy.append(np.log(np.exp(row).sum()) - row[batch.equation[i, k]])
        assert float(logs["data"]) == pytest.approx(np.mean(squares), rel=1e-12)
        assert float(logs["symbols"]) == pytest.approx(np.mean(entropy), rel=1e-12)
        assert float(value) == pytest.approx(6 * np.mean(squares) + np.mean(entropy), rel=1e-12)


@pytest.mark.parametrize("words", [None, WORDS], ids=["1-to-1", "2-to-1"])
def test_the_loss_without_equations(words):
    with jax.enable_x64(True):
        batch = jax.tree.map(jnp.asarray, sample(np.random.default_rng(0)))
        model = drawn(lambda: prose.prose_ode(COMPONENTS, symbols_in=words, sizes=SIZES, key=jax.random.key(0)))
        value, logs = eqx.filter_jit(prose.prose_loss(history=INPUTS))(
            model, batch, jax.random.split(jax.random.key(0), 1)
        )
        assert set(logs) == {"data"}
        assert value == logs["data"] > 0.1


@pytest.mark.slow  # compiles two gradients of a transformer
def test_activations_in_16_bits_and_parameters_in_32():
    batch = jax.tree.map(jnp.asarray, sample(np.random.default_rng(0)))
    batch = jax.tree.map(lambda a: a.astype(jnp.float32) if a.dtype.kind == "f" else a, batch)
    make = lambda: prose.improved_ode(COMPONENTS, symbols_out=WORDS, sizes=SIZES, key=jax.random.key(0))
    with jax.enable_x64(True):
        model = in_precision(drawn(make), jnp.float32)
    keys = jax.random.split(jax.random.key(0), 1)
    results = []
    for dtype in (None, jnp.bfloat16):
        loss = prose.prose_loss(history=INPUTS, dtype=dtype)
        results.append(eqx.filter_jit(eqx.filter_value_and_grad(loss, has_aux=True))(model, batch, keys))
    ((exact, _), gradient), ((low, _), lower) = results
    assert low.dtype == jnp.float32
    assert 1e-5 < abs(low - exact) / exact < 0.03  # bfloat16 rounds by up to 2^-9, and there are some ten operations
    for a, b in zip(jax.tree.leaves(lower), jax.tree.leaves(gradient), strict=True):
        assert a.dtype == jnp.float32
        assert jnp.linalg.norm(a - b) < 0.15 * jnp.linalg.norm(b) + 1e-3
    seen = str(jax.make_jaxpr(lambda m: prose.prose_loss(history=INPUTS, dtype=jnp.bfloat16)(m, batch, keys)[0])(model))
    assert "bf16[2,5,8]" in seen  # rows of the equations
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(partition(model)[0]))
