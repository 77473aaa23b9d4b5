"""Wrappers: statistics against numpy, resampling against exact functions, errors."""

import tracemalloc

import equinox as eqx
import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sciml.grid import Dirichlet, Grid, Neumann, Periodic
from sciml.nn import partition, resample
from sciml.operators import (
    AbstractOperator,
    FlaxOperator,
    InPrecision,
    MgNO,
    Normalised,
    Normaliser,
    Resampled,
    Residual,
    WithFields,
    per_channel,
    per_point,
)


class Linear(AbstractOperator):
    matrix: jax.Array

    def __call__(self, x):
        return jnp.tensordot(self.matrix, x, axes=1)


def test_statistics_need_no_copy_of_the_data():
    samples = np.random.default_rng(0).normal(3, 2, (96, 2, 64, 384)).astype(np.float32)  # 19 MB
    for statistics in (per_channel, per_point):
        tracemalloc.start()
        found = statistics(samples)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < samples.nbytes
        axes = (0, 2, 3) if statistics is per_channel else (0,)
        wide = samples.astype(np.float64)
        np.testing.assert_allclose(found.mean.value, wide.mean(axes, keepdims=True)[0], rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(found.deviation.value, wide.std(axes, ddof=1, keepdims=True)[0], rtol=1e-6)


def test_a_channel_of_one_rounded_value_does_not_vary():
    assert per_channel(np.full((7, 1, 13), 0.1, np.float32)).deviation.value == 1


def test_statistics_equal_numpy_and_are_not_trained():
    samples = np.random.default_rng(0).normal(2, 3, size=(11, 2, 4, 5)).astype(np.float32)
    channel, point = per_channel(samples), per_point(samples, epsilon=1e-5)
    np.testing.assert_allclose(channel.deviation.value[1, 0, 0], samples[:, 1].std(ddof=1), rtol=1e-6)
    np.testing.assert_allclose(point.mean.value, samples.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(point.deviation.value, samples.std(0, ddof=1) + 1e-5, rtol=1e-5)
    encoded = jax.vmap(channel.encode)(samples)
    assert abs(float(encoded.mean())) < 1e-6
    np.testing.assert_allclose(jax.vmap(channel.decode)(encoded), samples, atol=1e-5)

    model = Normalised(Linear(jnp.ones((3, 2))), channel, Normaliser(np.zeros((3, 1, 1)), np.full((3, 1, 1), 2.0)))
    trainable, rest = partition(model)
    assert [leaf.shape for leaf in jax.tree.leaves(trainable)] == [(3, 2)]
    optimiser = optax.adamw(1e-2, weight_decay=0.5)
    updates, _ = optimiser.update(jax.tree.map(jnp.zeros_like, trainable), optimiser.init(trainable), trainable)
    trained = eqx.combine(eqx.apply_updates(trainable, updates), rest)
    np.testing.assert_array_equal(trained.x.mean.value, channel.mean.value)
    assert trained.operator.matrix[0, 0] != 1


def test_a_field_that_does_not_vary_is_only_shifted():
    normaliser = per_channel(np.full((4, 1, 3), 7.0, np.float32))
    np.testing.assert_array_equal(normaliser.encode(jnp.full((1, 3), 9.0)), np.full((1, 3), 2.0))


def test_normalised_is_the_operator_between_normalised_fields():
    x, y = per_channel(np.random.default_rng(0).normal(2, 3, (9, 2, 4))), per_channel(np.arange(24.0).reshape(8, 1, 3))
    linear = Linear(jnp.asarray([[0.5, -1.0]]))
    u = jnp.asarray(np.random.default_rng(1).normal(size=(2, 4)))
    expected = y.decode(linear(x.encode(u)))
    np.testing.assert_array_equal(Normalised(linear, x, y)(u), expected)


RESAMPLED = [
    (Periodic(), lambda x: np.sin(2 * np.pi * x + 0.3)),
    (Periodic(gap=0.5), lambda x: np.sin(2 * np.pi * x + 0.3)),
    (Dirichlet(), lambda x: np.sin(np.pi * x)),
    ((Dirichlet(gap=0.0), Dirichlet()), lambda x: np.sin(2 * np.pi * x)),
    (Neumann(), lambda x: np.cos(2 * np.pi * x)),
    ((Dirichlet(), Neumann()), lambda x: np.sin(np.pi * x / 2)),
]


@pytest.mark.parametrize(("boundary", "function"), RESAMPLED)
def test_resampling_converges_with_order_four(boundary, function):
    with jax.enable_x64(True):
        errors = []
        for n in (24, 48):
            coarse, fine = (
                Grid((n, 5), boundary=(boundary, Periodic())),
                Grid((101, 5), boundary=(boundary, Periodic())),
            )
            u = function(coarse.points()[0])[None, :, None] * np.ones((2, 1, 5))
            exact = function(fine.points()[0])[None, :, None]
            errors.append(np.abs(resample(jnp.asarray(u), coarse, fine) - exact).max())
        assert np.log2(errors[0] / errors[1]) > 3.5, errors


def test_resampling_keeps_shared_points():
    half_open = (Dirichlet(gap=0.0), Dirichlet())
    fine = Grid((12, 16), boundary=(half_open, half_open))
    u = jnp.asarray(np.random.default_rng(0).normal(size=(2, 12, 16)), jnp.float32)
    np.testing.assert_allclose(resample(u, fine, fine.with_shape((6, 8))), u[:, ::2, ::2], atol=1e-6)


def test_resampled_acts_on_the_operators_own_grid():
    grid = Grid((8, 8))
    seen = []

    class Spy(AbstractOperator):
        def __call__(self, x):
            seen.append(x.shape)
            return x

    smooth = jnp.asarray(np.sin(2 * np.pi * grid.with_shape((16, 8)).points()[0])[None, :, None] * np.ones((1, 1, 8)))
    out = Resampled(Spy(), grid)(smooth)
    assert seen == [(1, 8, 8)]
    np.testing.assert_allclose(out, smooth, atol=4e-3)  # (2 pi h)^4 / 384 x 4: the cubic spline's error on 8 points
    np.testing.assert_array_equal(Resampled(Spy(), grid)(jnp.ones((3, 8, 8))), np.ones((3, 8, 8)))


class Network(linen.Module):
    width: int

    @linen.compact
    def __call__(self, x):
        x = linen.Conv(self.width, (3, 3), padding="CIRCULAR")(x)
        return linen.Conv(5, (1, 1))(jax.nn.gelu(x))


def test_a_flax_network_is_an_operator(getkey):
    operator = FlaxOperator(Network(7), jax.ShapeDtypeStruct((3, 8, 6), jnp.float32), key=getkey())
    x = jax.random.normal(getkey(), (2, 3, 8, 6))
    y = jax.vmap(operator)(x)
    assert y.shape == (2, 5, 8, 6)
    direct = operator.module.apply({"params": operator.parameters}, jnp.moveaxis(x, 1, -1))
    np.testing.assert_allclose(y, jnp.moveaxis(direct, -1, 1), atol=1e-6)
    shifted = operator(jnp.roll(x[0], 2, axis=1))
    np.testing.assert_allclose(shifted, jnp.roll(y[0], 2, axis=1), atol=1e-6)


class WithBatchStatistics(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.BatchNorm(use_running_average=False)(x)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: Residual(Linear(jnp.ones((3, 2))))(jnp.ones((2, 4))),
            r"must keep the grid and not add channels, got \(2, 4\) -> \(3, 4\)",
        ),
        (lambda: per_channel(np.full((3, 1, 2), np.nan)), "not finite"),
        (lambda: per_channel(np.ones((1, 2, 1))), "at least 2 values"),
        (lambda: Normaliser(np.zeros((2, 1)), np.ones((3, 1))), "must have the same shape"),
        (
            lambda: Normalised(
                Linear(jnp.ones((1, 2))),
                per_channel(np.arange(8.0).reshape(2, 2, 2)),
                per_channel(np.arange(4.0).reshape(2, 1, 2)),
            )(jnp.ones((3, 2))),
            "Expected 2 input channels as in the statistics, got 3",
        ),
        (
            lambda: FlaxOperator(WithBatchStatistics(), jnp.zeros((2, 4)), key=jax.random.key(0)),
            "keeps state in .'batch_stats'",
        ),
        (lambda: resample(jnp.ones((1, 8)), Grid((8,)), Grid((8,), extent=2.0)), "same box"),
        (lambda: resample(jnp.ones((1, 2)), Grid((2,), boundary=Dirichlet(0.0)), Grid((8,))), "needs 4 values"),
    ],
)
def test_errors_say_what_was_expected(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_increment_of_a_window_is_added_to_its_last_channels():
    x = jnp.arange(24.0).reshape(3, 2, 4)
    step = Residual(Linear(jnp.array([[1.0, 0.0, 2.0]])))
    np.testing.assert_array_equal(step(x), x[2:] + x[:1] + 2 * x[2:])


def test_fixed_fields_are_seen_saved_and_not_trained():
    fields = np.arange(8.0, dtype=np.float32).reshape(1, 2, 4)
    operator = WithFields(Linear(jnp.array([[2.0, 10.0]])), fields)
    x = jnp.ones((1, 2, 4))
    np.testing.assert_array_equal(operator(x), 2 * x + 10 * fields)
    assert [leaf.shape for leaf in jax.tree.leaves(partition(operator)[0])] == [(1, 2)]
    with pytest.raises(
        ValueError, match=r"Expected a field \(channels, 2, 4\) as the fixed fields have, got \(1, 4, 2\)"
    ):
        operator(jnp.ones((1, 4, 2)))


def test_lower_precision_is_inside_alone(getkey):
    mgno = MgNO(2, 1, grid=Grid((8, 12), boundary=Dirichlet()), width=6, depth=2, levels=2, key=getkey())
    x = jax.random.normal(getkey(), (3, 2, 8, 12))
    low = InPrecision(mgno, jnp.bfloat16)
    value = lambda operator: (lambda y: (jnp.sum(y**2), y))(jax.vmap(operator)(x))
    (gradient, y), (expected, exact) = (eqx.filter_jit(eqx.filter_grad(value, has_aux=True))(o) for o in (low, mgno))
    seen = jax.make_jaxpr(low)(x[0]).jaxpr.eqns
    assert any(eqn.primitive.name == "correlation" and eqn.invars[0].aval.dtype == jnp.bfloat16 for eqn in seen)
    assert y.dtype == x.dtype
    error = float(jnp.linalg.norm(y - exact) / jnp.linalg.norm(exact))
    assert 1e-4 < error < 0.03  # bfloat16 rounds by up to 2^-9 = 0.002, and there are some ten operations in a row
    leaves = zip(jax.tree.leaves(gradient.operator), jax.tree.leaves(expected), strict=True)
    assert all(a.dtype == b.dtype and jnp.linalg.norm(a - b) < 0.1 * jnp.linalg.norm(b) for a, b in leaves)
