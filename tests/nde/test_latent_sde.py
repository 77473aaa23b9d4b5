"""Latent SDE: divergences with closed forms, the likelihood against SciPy, and what the encoder may know."""

import dataclasses
import json

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from sciml.nde import BrownianTree, ContextEncoder, LatentSDE, MLPField, Solve
from sciml.structure import describe

LATENT, CONTEXT, SIZE = 2, 3, 4
TIMES = jnp.asarray([0.0, 0.5, 0.75, 1.5])


class Blind(eqx.Module):
    """An encoder that knows nothing: z(t0) ~ N(mean, exp(log_deviation)^2)."""

    mean: jax.Array
    log_deviation: jax.Array

    def __call__(self, ts, xs):
        full = lambda value: jnp.full(LATENT, value)
        return jnp.zeros((len(ts), CONTEXT)), full(self.mean), full(self.log_deviation)


class Affine(eqx.Module):
    """`(t, y, args) -> rate * y + shift`, of the first entries of y."""

    rate: jax.Array
    shift: jax.Array

    def __call__(self, t, y, args):
        return self.rate * y[:LATENT] + self.shift


def affine(rate, shift=(0.0, 0.0)):
    return Affine(jnp.asarray(rate), jnp.asarray(shift))


class Still(eqx.Module):
    value: jax.Array

    def __call__(self, t, y, args):
        return jnp.full(LATENT, self.value)


HEUN = Solve(dfx.Heun(), dfx.ConstantStepSize(), dt0=1 / 32)


def blind(prior, posterior, sigma, start=(0.0, 0.0), solve=HEUN):
    decoder = eqx.nn.Linear(LATENT, SIZE, key=jax.random.key(5))
    encoder, diffusion = Blind(*map(jnp.asarray, start)), Still(jnp.asarray(sigma))
    return LatentSDE(encoder, prior, posterior, diffusion, decoder, solve, BrownianTree(2.0**-8), 0.3)


def network(key):
    keys = jax.random.split(key, 5)
    return LatentSDE(
        ContextEncoder(SIZE, LATENT, context=CONTEXT, hidden=5, key=keys[0]),
        MLPField(LATENT, widths=(6,), key=keys[1]),
        MLPField(LATENT + CONTEXT, LATENT, widths=(7,), key=keys[2]),
        MLPField(LATENT, widths=(5,), last=jax.nn.softplus, key=keys[3]),
        eqx.nn.Linear(LATENT, SIZE, key=keys[4]),
        Solve(dfx.Euler(), dfx.ConstantStepSize(), dt0=1 / 8, max_steps=16),
        BrownianTree(2.0**-5),
        0.3,
    )


def series(seed=0):
    xs = np.random.default_rng(seed).normal(size=(4, SIZE)).astype(np.float32)
    xs[1, 2], xs[2] = np.nan, np.nan
    return jnp.asarray(xs)


@eqx.filter_jit
def infer(model, xs, key):
    return model.infer(TIMES, xs, key=key)


@eqx.filter_jit
def elbo(model, xs, key):
    return model.elbo(TIMES, xs, kl_weight=0.5, key=key)


def test_a_constant_difference_of_drifts():
    shift, sigma = (0.4, -0.7), 0.5
    zs, kl, aux = infer(blind(affine(-1.0), affine(-1.0, shift), sigma), series(), jax.random.key(0))
    rate = sum(c**2 for c in shift) / (2 * sigma**2)
    np.testing.assert_allclose(aux.integrals["kl"], rate * TIMES, rtol=1e-5)  # rounding of float32
    np.testing.assert_allclose(kl, rate * 1.5, rtol=1e-5)
    assert zs.shape == (4, LATENT)


def test_two_stationary_processes():
    # The posterior dz = -a z dt + sqrt(2 a) dW starts from its stationary law N(0, 1), so E z^2 = 1 at all times.
    a, b, count = 0.5, 1.25, 1000
    model = blind(affine(-b), affine(-a), float(np.sqrt(2 * a)))
    keys = jax.random.split(jax.random.key(1), count)
    kls = jax.jit(jax.vmap(lambda key: model.infer(TIMES, series(), key=key)[1]))(keys)
    expected = LATENT * (b - a) ** 2 / (2 * 2 * a) * 1.5
    assert abs(np.mean(kls) - expected) < 4 * np.std(kls) / np.sqrt(count)
    assert 4 * np.std(kls) / np.sqrt(count) < expected / 5


def test_the_divergence_of_the_first_states():
    mean, log_deviation = 0.6, -0.4
    model = blind(affine(-1.0), affine(-1.0), 0.5, (mean, log_deviation))
    expected = LATENT * 0.5 * (mean**2 + np.exp(2 * log_deviation) - 1 - 2 * log_deviation)
    np.testing.assert_allclose(infer(model, series(), jax.random.key(2))[1], expected, rtol=1e-5)


def test_the_integral_does_not_change_adaptive_steps():
    solve = Solve(dfx.SPaRK(), dfx.PIDController(rtol=1e-2, atol=1e-2, dtmin=2.0**-7, force_dtmin=True), dt0=0.1)
    runs = [infer(blind(affine(b), affine(-1.0), 0.5, solve=solve), series(), jax.random.key(3)) for b in (-1.0, 90.0)]
    np.testing.assert_allclose(runs[1][0], runs[0][0], atol=1e-6)
    assert runs[0][2].stats["num_steps"] == runs[1][2].stats["num_steps"]
    assert runs[1][1] > runs[0][1] + 100


def test_the_bound_against_the_likelihood_of_scipy():
    model, xs, key = blind(affine(-1.0), affine(-1.0, (0.4, -0.7)), 0.5), series(), jax.random.key(4)
    zs, kl, _ = infer(model, xs, key)
    bound = elbo(model, xs, key)
    means = zs @ model.decoder.weight.T + model.decoder.bias[None]
    logs = np.nansum(norm.logpdf(xs, means, 0.3))
    np.testing.assert_allclose(bound.log_likelihood, logs, rtol=1e-5)
    np.testing.assert_allclose(bound.loss, 0.5 * kl - logs, rtol=1e-5)
    np.testing.assert_allclose(bound.squared_error, np.nanmean((xs - means) ** 2), rtol=1e-5)


@pytest.mark.slow  # compiles two gradients of an SDE
def test_a_batch_is_its_samples_and_gradients_reach_all_weights_but_no_missing_value(getkey):
    model, batch, keys = network(getkey()), jnp.stack([series(0), series(1)]), jax.random.split(getkey(), 2)

    def loss(arguments):
        model, batch = arguments
        losses = jax.vmap(lambda xs, key: model.elbo(TIMES, xs, kl_weight=0.5, key=key).loss)(batch, keys)
        return jnp.sum(losses), losses

    (weights, data), losses = eqx.filter_jit(eqx.filter_grad(loss, has_aux=True))((model, batch))
    np.testing.assert_allclose(losses, [elbo(model, *row).loss for row in zip(batch, keys, strict=True)], rtol=1e-5)
    assert all(np.all(np.isfinite(leaf)) and np.any(leaf != 0) for leaf in jax.tree.leaves(weights))
    np.testing.assert_array_equal(np.asarray(data)[np.isnan(batch)], 0)
    json.dumps(describe(model))


def test_a_context_knows_its_own_and_later_rows(getkey):
    encoder = ContextEncoder(SIZE, LATENT, context=CONTEXT, hidden=5, key=getkey())
    xs = series()
    contexts, *_ = encoder(TIMES, xs)
    earlier, *_ = encoder(TIMES, xs.at[1].add(1.0))
    later, *_ = encoder(TIMES, xs.at[3].add(1.0))
    np.testing.assert_array_equal(earlier[2:], contexts[2:])
    assert np.all(np.any(earlier[:2] != contexts[:2], axis=1))
    assert np.all(np.any(later != contexts, axis=1))
    with pytest.raises(ValueError, match="strictly increasing times"):
        encoder(TIMES[::-1], xs)


def test_the_posterior_sees_the_context_of_the_next_time():
    class Signal(eqx.Module):
        def __call__(self, ts, xs):
            return jnp.broadcast_to(xs[:, :1], (len(ts), CONTEXT)), jnp.zeros(LATENT), jnp.full(LATENT, -20.0)

    class Follow(eqx.Module):
        def __call__(self, t, y, args):
            return y[LATENT : 2 * LATENT]

    # Without noise dz/dt is the context: 10 up to 0.5, then 20, then 40.
    solve = Solve(dfx.Euler(), dfx.ConstantStepSize(), dt0=1 / 32)
    model = dataclasses.replace(blind(affine(0.0), Follow(), 1e-6, solve=solve), encoder=Signal())
    zs = infer(model, jnp.broadcast_to(jnp.asarray([5.0, 10.0, 20.0, 40.0])[:, None], (4, SIZE)), jax.random.key(0))[0]
    np.testing.assert_allclose(zs, [[0, 0], [5, 5], [10, 10], [40, 40]], rtol=1e-4, atol=1e-4)


def test_samples_of_the_prior_have_its_moments():
    model = blind(affine(-0.5), affine(0.0), 1.0)
    keys = jax.random.split(jax.random.key(7), 1000)
    values = jax.jit(jax.vmap(lambda key: model.sample(TIMES, LATENT, key=key)[-1]))(keys)
    weight = model.decoder.weight
    # z is stationary with variance 1: decoded values have the variance of the rows of the decoder.
    variance, expected = np.var(values, axis=0), np.sum(weight**2, axis=1)
    assert np.all(np.abs(variance / expected - 1) < 4 * np.sqrt(2 / 1000))
