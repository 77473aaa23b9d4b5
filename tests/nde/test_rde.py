"""Log-ODE steps: exact where fields commute, of known order in the window where they do not."""

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import expm

from sciml.nde import LieBracketField, LogSignatureControl, MatrixField, NeuralCDE, Solve, linear_control, lyndon_words

HIDDEN = 3
TIGHT = Solve(dfx.Tsit5(), dfx.PIDController(rtol=1e-10, atol=1e-12))


class Linear(eqx.Module):
    """The field z -> [A_0 z, A_1 z, ...] of matrices (channels, hidden, hidden)."""

    matrices: jax.Array

    def __call__(self, t, z, args):
        return jnp.einsum("chk,k->hc", self.matrices, z)


class Start(eqx.Module):
    value: jax.Array

    def __call__(self, row):
        return self.value


def commutators(matrices, word):
    """The matrix of the bracket of linear fields: [Az, Bz] = B A z - A B z."""
    if len(word) == 1:
        return matrices[word[0]]
    words = lyndon_words(len(matrices), len(word))
    cut = next(i for i in range(1, len(word)) if word[i:] in words)
    a, b = commutators(matrices, word[:cut]), commutators(matrices, word[cut:])
    return b @ a - a @ b


def test_brackets_of_linear_fields_are_commutators():
    rng = np.random.default_rng(0)
    matrices, z = rng.normal(size=(2, HIDDEN, HIDDEN)), rng.normal(size=HIDDEN)
    with jax.enable_x64(True):
        field = LieBracketField(Linear(jnp.asarray(matrices)), 2, 4)
        got = jax.jit(lambda z: field(0.0, z, None))(jnp.asarray(z))
    expected = np.stack([commutators(matrices, word) @ z for word in lyndon_words(2, 4)], axis=1)
    np.testing.assert_allclose(got, expected, atol=1e-12)


def test_brackets_of_curved_fields_by_hand():
    # f = (y, 0), g = (0, x^2): [f, g] = Dg f - Df g = (-x^2, 2 x y).
    field = lambda t, z, args: jnp.stack([jnp.stack([z[1], 0 * z[1]]), jnp.stack([0 * z[0], z[0] ** 2])], axis=1)
    x, y = 0.5, -2.0
    got = LieBracketField(field, 2, 2)(0.0, jnp.asarray([x, y]), None)
    np.testing.assert_allclose(got, [[y, 0, -(x**2)], [0, x**2, 2 * x * y]], atol=1e-6)


def log_ode(matrices, depth, window):
    field = LieBracketField(Linear(jnp.asarray(matrices)), len(matrices), depth)
    start = Start(jnp.arange(1.0, HIDDEN + 1))
    return NeuralCDE(start, field, eqx.nn.Identity(), LogSignatureControl(depth, window), None, TIGHT)


def test_commuting_fields_are_exact_for_any_window():
    matrix = np.random.default_rng(1).normal(size=(HIDDEN, HIDDEN)) / 2
    ts = np.linspace(0, 2, 12)
    xs = np.random.default_rng(2).normal(size=(12, 1))
    with jax.enable_x64(True):
        model = log_ode(np.stack([matrix, -0.6 * matrix]), 2, 5)
        got = eqx.filter_jit(model.trajectory)(jnp.asarray(ts), jnp.asarray(xs))
    ends = [0, 5, 10, 11]
    total = (ts[ends] - ts[0]) - 0.6 * (xs[ends, 0] - xs[0, 0])
    expected = [expm(s * matrix) @ np.arange(1.0, HIDDEN + 1) for s in total]
    np.testing.assert_allclose(got, expected, rtol=1e-8)  # 100 times the solver's tolerance


def test_order_in_the_window_for_fields_that_do_not_commute():
    # A smooth path has a first neglected bracket of size h^3 (depth 1) or h^5 (depth 2) on a window of length h.
    matrices = np.random.default_rng(3).normal(size=(2, HIDDEN, HIDDEN)) / 2
    ts = np.linspace(0, 1, 129)
    xs = np.sin(3 * ts)[:, None]
    exact = np.arange(1.0, HIDDEN + 1)
    for step in np.diff(np.concatenate([ts[:, None], xs], axis=1), axis=0):
        exact = expm(np.einsum("chk,c->hk", matrices, step)) @ exact
    errors = []
    with jax.enable_x64(True):
        for depth, window in ((1, 32), (2, 32), (2, 16)):
            got = eqx.filter_jit(log_ode(matrices, depth, window))(jnp.asarray(ts), jnp.asarray(xs))
            errors.append(np.linalg.norm(got - exact))
    assert errors[1] < errors[0] / 10
    assert 3.6 < np.log2(errors[1] / errors[2]) < 4.6


def simple(depth, window, key, series=2):
    control = LogSignatureControl(depth, window)
    keys = jax.random.split(key, 3)
    return NeuralCDE(
        eqx.nn.Linear(series + 1, HIDDEN, key=keys[0]),
        MatrixField(HIDDEN, control.channels(series), width=7, depth=1, key=keys[1]),
        eqx.nn.Linear(HIDDEN, 2, key=keys[2]),
        control,
        solve=Solve(dfx.Heun(), dfx.ConstantStepSize(), dt0=0.25, max_steps=8),
    )


def test_depth_and_window_1_are_the_linear_control():
    ts = jnp.asarray([0.0, 0.3, 1.0, 1.5])
    xs = jnp.asarray([[1.0, 2.0], [0.0, jnp.nan], [2.0, 1.0], [1.0, 1.0]])
    rough, linear = (control(ts, xs) for control in (LogSignatureControl(1, 1), linear_control))
    at = jnp.linspace(0, 1.5, 7)
    moved = jax.vmap(linear.path.evaluate)(at) - linear.start[None]
    np.testing.assert_allclose(jax.vmap(rough.path.evaluate)(at), moved, atol=1e-6)
    np.testing.assert_array_equal(rough.start, linear.start)


def test_a_batch_is_its_samples(getkey):
    model = simple(2, 4, getkey())
    ts = jnp.linspace(0.0, 1.0, 10)
    xs = np.random.default_rng(5).normal(size=(3, 10, 2)).astype(np.float32)
    xs[1, 3, 0] = np.nan
    one = eqx.filter_jit(lambda x: model(ts, x))
    batch = eqx.filter_jit(lambda xs: jax.vmap(lambda x: model(ts, x))(xs))(xs)
    np.testing.assert_allclose(batch, [one(x) for x in xs], atol=1e-5)  # rounding of float32


def test_refused_windows_depths_and_fields():
    ts, xs = jnp.arange(4.0), jnp.ones((4, 1))
    with pytest.raises(ValueError, match="at least one increment"):
        LogSignatureControl(2, 0)(ts, xs)
    with pytest.raises(ValueError, match="depth of at least 1"):
        LogSignatureControl(0, 2)(ts, xs)
    with pytest.raises(ValueError, match="one column for each channel"):
        LieBracketField(Linear(jnp.ones((2, HIDDEN, HIDDEN))), 3, 2)(0.0, jnp.ones(HIDDEN), None)
