"""Chains have the posterior that they claim, with a wrong first stage too, and their worth is what theory says."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml import uq

SLOPES = np.array([[1.0, 0.5], [-0.3, 2.0], [0.7, 0.7]])
OBSERVED, NOISE = np.array([0.4, -1.0, 0.9]), np.array([0.5, 0.8, 0.6])


class Linear(eqx.Module):
    slopes: jax.Array

    def __call__(self, c):
        return self.slopes @ c


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def problem(factor=1.0):
    return uq.InverseProblem(Linear(jnp.asarray(factor * SLOPES)), OBSERVED, NOISE, size=2)


def exact():
    """Mean and covariance of the posterior of the linear problem."""
    scaled = SLOPES / NOISE[:, None]
    covariance = np.linalg.inv(np.eye(2) + scaled.T @ scaled)
    return covariance @ scaled.T @ (OBSERVED / NOISE), covariance


def assert_posterior(samples):
    """Within four standard errors: those of the mean from the effective sample size, those of variances likewise."""
    mean, covariance = exact()
    deviations, effective = np.sqrt(np.diag(covariance)), uq.effective_sample_size(samples)
    assert (uq.rhat(samples) < 1.02).all()
    assert (effective > 400).all()
    values = np.asarray(samples)
    assert (np.abs(values.mean((0, 1)) - mean) < 4 * deviations / np.sqrt(effective)).all()
    spread = (values - mean) ** 2
    own = uq.effective_sample_size(spread)
    assert (np.abs(spread.mean((0, 1)) / deviations**2 - 1) < 4 * np.sqrt(2 / own)).all()


def recentred():
    found = problem(0.8)
    return uq.laplace(found, uq.maximum_a_posteriori(found, jnp.zeros(2)).coefficients)


def kernels():
    first = lambda factor: uq.CrankNicolson(problem(factor).misfit, 0.5)
    wrong = uq.Recentred(problem(), recentred())
    return {
        "plain": (uq.CrankNicolson(problem().misfit, 0.5), lambda z: z),
        "delayed by a wrong operator": (uq.DelayedAcceptance(first(0.7), problem().misfit), lambda z: z),
        "several steps": (uq.DelayedAcceptance(first(0.7), problem().misfit, 4), lambda z: z),
        "recentred": (uq.CrankNicolson(wrong.misfit, 0.8), wrong.coefficients),
    }


@pytest.mark.parametrize("name", kernels())
def test_chains_have_the_exact_posterior(name):
    kernel, coefficients = kernels()[name]
    chains = uq.sample(kernel, jnp.zeros((3, 2)), draws=4000, burn=100, key=jax.random.key(1))
    assert chains.samples.shape == (3, 4000, 2)
    assert_posterior(coefficients(chains.samples))
    assert ((chains.acceptance > 0.2) & (chains.acceptance < 1)).all()
    proposed = 1 + 4100  # the start, and every step
    if name.startswith(("delayed", "several")):
        assert (chains.evaluations < proposed).all()
    else:
        assert (chains.evaluations == proposed).all()


def test_an_exact_first_stage_accepts_what_it_proposes():
    first = uq.CrankNicolson(problem().misfit, 0.5)
    kernel = uq.DelayedAcceptance(first, problem().misfit)
    chains = uq.sample(kernel, jnp.zeros((2, 2)), draws=500, thin=2, key=jax.random.key(2))
    assert (chains.evaluations - 1 == jnp.round(chains.acceptance * 1000)).all()  # each solve is an accepted step


class Jump(uq.AbstractKernel):
    """On the states 0 to 3: to one of the others, accepted by Metropolis' rule. The reference counts the states."""

    misfit: object

    def start(self, position):
        return uq.ChainState(position, self.misfit(position), jnp.zeros((), int), jnp.ones((), int))

    def step(self, state, key):
        first, second = jax.random.split(key)
        new = (state.position + jax.random.randint(first, (), 1, 4)) % 4
        gain = state.misfit - self.misfit(new)
        accepted = -jax.random.exponential(second) < gain
        keep = lambda a, b: jnp.where(accepted, a, b)
        misfit = keep(self.misfit(new), state.misfit)
        return uq.ChainState(keep(new, state.position), misfit, state.accepted + accepted, state.evaluations + 1)


@pytest.mark.parametrize("steps", [1, 3])
def test_delayed_acceptance_is_in_detailed_balance(steps):
    exact, cheap = jnp.array([0.0, 1.0, 0.3, 2.0]), jnp.array([0.5, 0.0, 1.5, 0.2])
    kernel = uq.DelayedAcceptance(Jump(lambda i: cheap[i]), lambda i: exact[i], steps)
    count = 100_000
    keys = jax.random.split(jax.random.key(3), count)

    @jax.jit
    def ends(i):
        return jax.vmap(lambda key: kernel.step(kernel.start(i), key).position)(keys)

    arrivals = np.stack([np.bincount(np.asarray(ends(jnp.asarray(i))), minlength=4) for i in range(4)]) / count
    weights = np.exp(-np.asarray(exact)) / np.exp(-np.asarray(exact)).sum()
    flows = weights[:, None] * arrivals
    assert (arrivals > 0.01).all()  # every pair of states exchanges
    errors = np.sqrt(weights[:, None] ** 2 * arrivals / count)
    assert (np.abs(flows - flows.T) < 4 * np.hypot(errors, errors.T) + 1e-12).all()


@pytest.mark.parametrize("correlation", [0.0, 0.8])
def test_the_effective_sample_size_of_an_autoregression(correlation):
    rng = np.random.default_rng(4)
    values = rng.normal(size=(4, 20_000, 2))
    for t in range(1, values.shape[1]):
        values[:, t] = correlation * values[:, t - 1] + np.sqrt(1 - correlation**2) * values[:, t]
    expected = 80_000 * (1 - correlation) / (1 + correlation)
    np.testing.assert_allclose(uq.effective_sample_size(values), expected, rtol=0.1)
    assert (np.abs(uq.rhat(values) - 1) < 5e-3).all()
    apart = values + np.arange(4)[:, None, None]
    assert (uq.rhat(apart) > 1.3).all()  # the means of the chains have a variance of 5/3 beside 1 within
    assert (uq.effective_sample_size(apart) < 100).all()


def test_blackjax_agrees_on_effective_sample_sizes():
    blackjax = pytest.importorskip("blackjax", reason="blackjax is not installed: pip install 'sciml-jax[inverse]'")
    kernel = uq.CrankNicolson(problem().misfit, 0.5)
    samples = uq.sample(kernel, jnp.zeros((3, 2)), draws=2000, key=jax.random.key(5)).samples
    theirs = blackjax.diagnostics.effective_sample_size(samples)
    np.testing.assert_allclose(uq.effective_sample_size(samples), theirs, rtol=0.1)  # theirs does not split the chains


@pytest.mark.slow
def test_nuts_has_the_exact_posterior():
    pytest.importorskip("blackjax", reason="blackjax is not installed: pip install 'sciml-jax[inverse]'")
    chains = uq.nuts(problem(), jnp.zeros((2, 2)), warmup=300, draws=1500, key=jax.random.key(6))
    assert_posterior(chains.samples)


def test_blackjax_is_asked_for_in_one_line(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "blackjax", None)
    with pytest.raises(ImportError, match=r"^NUTS needs blackjax: pip install 'sciml-jax\[inverse\]'\.$"):
        uq.nuts(problem(), jnp.zeros((2, 2)), warmup=1, draws=1, key=jax.random.key(0))


def test_wrong_settings_of_chains():
    kernel, key = uq.CrankNicolson(problem().misfit, 0.5), jax.random.key(0)
    with pytest.raises(ValueError, match="Expected 0 < beta <= 1, got 0"):
        uq.CrankNicolson(problem().misfit, 0.0)
    with pytest.raises(ValueError, match="at least 1 step of the first kernel, got 0"):
        uq.DelayedAcceptance(kernel, problem().misfit, 0)
    with pytest.raises(ValueError, match="draws >= 1, thin >= 1 and burn >= 0, got 0, 1 and 0"):
        uq.sample(kernel, jnp.zeros((2, 2)), draws=0, key=key)
    with pytest.raises(ValueError, match="at least 4 draws of each chain, got 3"):
        uq.rhat(np.zeros((2, 3, 1)))
    nowhere = uq.CrankNicolson(lambda c: jnp.log(-jnp.sum(c**2) - 1), 0.5)
    with pytest.raises(ValueError, match="finite misfit at the first coefficients"):
        uq.sample(nowhere, jnp.zeros((2, 2)), draws=2, key=key)
