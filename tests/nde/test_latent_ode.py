"""Latent ODEs: missing values have no influence, and the bound is tight where the posterior is known."""

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from sciml import nde

TIMES, SIZE, LATENT, BATCH = 6, 2, 3, 4
SOLVE = nde.Solve(dfx.Heun(), dfx.ConstantStepSize(), dt0=0.25, max_steps=16)


def build(solve=SOLVE):
    keys = jax.random.split(jax.random.key(0), 3)
    return nde.LatentODE(
        nde.GRUEncoder(SIZE, LATENT, hidden=5, units=7, key=keys[0]),
        nde.MLPField(LATENT, widths=(6,), key=keys[1]),
        eqx.nn.Linear(LATENT, SIZE, key=keys[2]),
        solve,
        noise=0.3,
    )


@pytest.fixture(scope="module")
def series():
    rng = np.random.default_rng(0)
    ts, xs = np.array([0.0, 0.1, 0.4, 0.5, 0.9, 1.2]), rng.normal(size=(BATCH, TIMES, SIZE))
    xs[:, 2] = np.nan
    xs[0, 4, 1] = xs[1, 0] = np.nan
    return ts, xs


def test_missing_values_have_no_influence(series):
    ts, xs = series
    with jax.enable_x64(True):
        loss = lambda xs: build().elbo(jnp.asarray(ts), xs, key=jax.random.key(1)).loss
        value, slope = jax.jit(jax.value_and_grad(loss))(jnp.asarray(xs[0]))
        assert np.isfinite(value)
        missing = np.isnan(xs[0])
        assert (slope[missing] == 0).all()
        assert (np.abs(slope[~missing]) > 1e-6).all()


def test_a_row_without_observations_changes_nothing(series):
    ts, xs = series
    with jax.enable_x64(True):
        encode = eqx.filter_jit(build().encoder)
        kept = np.array([0, 1, 3, 4, 5])  # row 2 is empty
        whole, part = (
            encode(jnp.asarray(ts), jnp.asarray(xs[0])),
            encode(jnp.asarray(ts[kept]), jnp.asarray(xs[0][kept])),
        )
        np.testing.assert_allclose(whole, part, rtol=1e-13)
        later = encode(jnp.asarray(np.append(ts, 7.0)), jnp.asarray(np.vstack([xs[0], [np.nan, np.nan]])))
        np.testing.assert_allclose(whole, later, rtol=1e-13)
        moved = encode(jnp.asarray(ts + np.array([0, 0, 0, 0.2, 0.2, 0.2])), jnp.asarray(xs[0]))
        assert np.abs(np.subtract(whole, moved)).min() > 1e-6


def test_a_batch_in_one_solve_equals_a_loop(series):
    with jax.enable_x64(True):
        ts, xs = jnp.asarray(series[0]), jnp.asarray(series[1])
        at = jnp.array([0.0, 0.3, 2.0])
        single = build()
        joint = eqx.tree_at(lambda model: model.solve, single, nde.Jointly(single.solve))

        @jax.jit
        def everything(ts, xs):
            bounds = joint.elbo(ts, xs, kl_weight=0.5, key=jax.random.key(0))
            samples = joint.sample(ts, LATENT, key=jax.random.key(2), shape=(BATCH,))
            return joint.predict(ts, xs, at), bounds, samples

        predicted, bounds, samples = everything(ts, xs)
        run = eqx.filter_jit(build().predict)
        np.testing.assert_allclose(predicted, np.stack([run(ts, x, at) for x in xs]), rtol=1e-11)
        np.testing.assert_allclose(bounds.loss, 0.5 * bounds.kl - bounds.log_likelihood, rtol=1e-12)
        encoder = build().encoder
        mean, log_deviation = jax.jit(jax.vmap(lambda x: encoder(ts, x)))(xs)
        terms = mean**2 + np.exp(2 * log_deviation) - 1 - 2 * log_deviation
        np.testing.assert_allclose(bounds.kl, 0.5 * terms.sum(axis=1), rtol=1e-12)
        counts = (~np.isnan(xs)).sum(axis=(1, 2))
        constant = counts * np.log(0.3 * np.sqrt(2 * np.pi))
        expected = -0.5 * bounds.squared_error * counts / 0.09 - constant
        np.testing.assert_allclose(bounds.log_likelihood, expected, rtol=1e-10)
        assert samples.shape == (BATCH, TIMES, SIZE)


class Posterior(eqx.Module):
    """The exact posterior of a constant z ~ N(0, 1) seen as z + noise."""

    def __call__(self, ts, xs):
        seen = ~jnp.isnan(xs)
        precision = 1 + jnp.sum(seen) / 0.5**2
        mean = jnp.sum(jnp.where(seen, xs, 0)) / 0.5**2 / precision
        return mean[None], -0.5 * jnp.log(precision)[None]


def test_the_bound_is_the_evidence_where_the_posterior_is_exact():
    ts, xs = np.array([0.0, 0.5, 1.0, 2.0]), np.array([[0.3], [np.nan], [1.1], [0.6]])
    seen = xs[~np.isnan(xs)]
    evidence = scipy.stats.multivariate_normal(np.zeros(3), 0.25 * np.eye(3) + 1).logpdf(seen)
    with jax.enable_x64(True):
        model = nde.LatentODE(Posterior(), nde.Autonomous(jnp.zeros_like), jnp.positive, SOLVE, noise=0.5)
        bound = jax.jit(jax.vmap(lambda key: -model.elbo(jnp.asarray(ts), jnp.asarray(xs), key=key).loss))
        draws = np.asarray(bound(jax.random.split(jax.random.key(0), 400)))
    assert abs(draws.mean() - evidence) < 2 * draws.std() / np.sqrt(400)
    assert draws.std() > 0.01


def test_a_draw_of_the_prediction_needs_a_key(series):
    ts, xs = series
    with jax.enable_x64(True):
        model = build()
        ts, xs, at = jnp.asarray(ts), jnp.asarray(xs[0]), jnp.array([0.3])
        mean, draw = jax.jit(lambda xs: (model.predict(ts, xs, at), model.predict(ts, xs, at, key=jax.random.key(0))))(
            xs
        )
        assert mean.shape == draw.shape == (1, SIZE)
        assert np.abs(mean - draw).min() > 1e-4


def test_series_without_observations_or_order_are_refused():
    encoder = build().encoder
    ts, xs = jnp.array([0.0, 0.5, 1.0]), jnp.ones((3, SIZE))
    with pytest.raises(ValueError, match=r"All values of the series are missing.*Leave it out"):
        encoder(ts, jnp.full((3, SIZE), jnp.nan))
    with pytest.raises(ValueError, match=r"Expected increasing times.*into one row"):
        encoder(jnp.array([0.0, 0.5, 0.5]), xs)
    traced = eqx.filter_jit(encoder)
    with pytest.raises(RuntimeError, match=r"All values of the series are missing"):
        jax.block_until_ready(traced(ts, jnp.full((3, SIZE), jnp.nan)))
    with pytest.raises(RuntimeError, match=r"Expected increasing times"):
        jax.block_until_ready(traced(ts[::-1], xs))


@pytest.mark.parametrize("regulariser", [None, nde.Steer(0.5)], ids=["plain", "with a regulariser"])
def test_the_predictive_density_is_the_exact_one_of_a_linear_model(regulariser):
    """A latent state that stays where it is and a linear decoder: x(t) ~ N(w mean, w^2 deviation^2 + noise^2)."""
    mean, deviation, weight, noise, draws = 0.4, 0.7, 1.5, 0.3, 20_000
    decoder = eqx.tree_at(
        lambda one: (one.weight, one.bias),
        eqx.nn.Linear(1, 1, key=jax.random.key(0)),
        (jnp.array([[weight]]), jnp.zeros(1)),
    )
    model = nde.LatentODE(
        lambda ts, xs: (jnp.array([mean]), jnp.log(jnp.array([deviation]))),
        lambda t, z, args: 0 * z,
        decoder,
        nde.Jointly(nde.regularised(SOLVE, regulariser)),
        noise=noise,
    )
    xs = jnp.array([[[0.1], [1.0], [-0.8]], [[0.6], [0.2], [2.0]]])
    found = model.log_predictive(jnp.arange(3.0), xs, jnp.ones(xs.shape, bool), draws=draws, key=jax.random.key(1))
    exact = scipy.stats.norm(weight * mean, np.hypot(weight * deviation, noise))
    given = weight * (mean + deviation * np.random.default_rng(0).normal(size=draws))  # spread of one draw's density
    for value, log_density in zip(xs.ravel(), found.ravel(), strict=True):
        one = scipy.stats.norm.pdf(value, given, noise)
        error = 4 * one.std() / one.mean() / np.sqrt(draws)
        assert abs(log_density - exact.logpdf(value)) < error
