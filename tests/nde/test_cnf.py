"""Continuous normalising flows: total probability, and the change of variables of linear flows."""

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import scipy.stats

from sciml import nde

SIZE = 2
A = np.array([[-0.4, 0.9], [0.3, 0.7]])
SOLVE = nde.Solve(controller=dfx.PIDController(rtol=1e-7, atol=1e-7))


class Linear(eqx.Module):
    matrix: jax.Array

    def __call__(self, t, y, args):
        return self.matrix @ y


def linear(**options):
    return nde.CNF(Linear(jnp.asarray(A)), SIZE, nde.Jointly(SOLVE), t1=1.5, **options)


def exact(x):
    """log N(exp(A t1) x; 0, 1) + t1 trace(A)."""
    z = x @ scipy.linalg.expm(1.5 * A).T
    return scipy.stats.norm.logpdf(z).sum(axis=-1) + 1.5 * np.trace(A)


@pytest.mark.parametrize("size", [1, 2])
def test_the_total_probability_is_one(size):
    with jax.enable_x64(True):
        field = nde.MLPField(size, widths=(8,), key=jax.random.key(3))
        model = nde.CNF(jax.tree.map(lambda leaf: 2 * leaf, field), size, nde.Jointly(SOLVE))
        axis = np.linspace(-9, 9, 301 if size == 1 else 121)
        points = np.stack(np.meshgrid(*[axis] * size, indexing="ij"), axis=-1).reshape(-1, size)
        density = np.exp(eqx.filter_jit(model.log_prob)(jnp.asarray(points)))
        # The trapezoidal rule is exact to rounding for smooth densities that vanish at the ends; the solve is not.
        np.testing.assert_allclose(density.sum() * (axis[1] - axis[0]) ** size, 1, rtol=1e-5)
        assert np.abs(density / np.exp(scipy.stats.norm.logpdf(points).sum(axis=1)) - 1).max() > 0.1


def test_the_density_of_a_linear_flow_and_integrals_along_it():
    x = np.random.default_rng(0).normal(size=(5, SIZE))
    terms = {"kinetic": nde.kinetic_energy, "frobenius": nde.jacobian_frobenius}
    terms = {name: nde.per_dimension(integrand) for name, integrand in terms.items()}
    with jax.enable_x64(True):
        value, aux = eqx.filter_jit(lambda x: linear().solution(x, integrands=terms))(jnp.asarray(x))
        np.testing.assert_allclose(value, exact(x), rtol=1e-6)
        np.testing.assert_allclose(aux.integrals["frobenius"][-1], 1.5 * np.sum(A**2) / SIZE, rtol=1e-6)
        block = scipy.linalg.expm(1.5 * np.block([[-A.T, A.T @ A], [np.zeros_like(A), A]]))  # Van Loan 1978
        kinetic = np.einsum("ni,ij,nj->n", x, block[SIZE:, SIZE:].T @ block[:SIZE, SIZE:], x) / SIZE
        np.testing.assert_allclose(aux.integrals["kinetic"][-1], kinetic, rtol=1e-6)


def test_hutchinsons_density_is_unbiased_and_rnode_takes_its_probe():
    x = np.array([0.4, -1.0])
    with jax.enable_x64(True):
        model = linear(trace=nde.HutchinsonTrace())
        draws = jnp.broadcast_to(x, (400, SIZE))
        key = jax.random.key(0)
        probes = nde.probe(draws, key=jax.random.split(key)[0])  # those of the divergence
        terms = {"frobenius": nde.per_dimension(nde.HutchinsonFrobenius(probes))}
        value, aux = eqx.filter_jit(lambda x: model.solution(x, integrands=terms, key=key))(draws)
        rnode = nde.regularised(model, nde.RNODE())
        penalty = eqx.filter_jit(lambda x: rnode.solution(x, key=key)[1].penalty)(draws)
        kinetic = {"kinetic": nde.per_dimension(nde.kinetic_energy)}
        energy = eqx.filter_jit(lambda x: model.solution(x, integrands=kinetic, key=key)[1].integrals["kinetic"])(draws)
        np.testing.assert_allclose(penalty, np.mean(energy[-1] + aux.integrals["frobenius"][-1]), rtol=1e-9)
        for values, mean in [(value, exact(x)), (aux.integrals["frobenius"][-1], 1.5 * np.sum(A**2) / SIZE)]:
            assert values.std() > 0.05
            assert abs(values.mean() - mean) < 2 * values.std() / np.sqrt(400)


def test_samples_have_the_covariance_of_the_linear_flow():
    count = 2000
    with jax.enable_x64(True):
        samples = linear().sample(key=jax.random.key(0), shape=(count,))
    back = scipy.linalg.expm(-1.5 * A)
    covariance = back @ back.T
    error = np.cov(samples.T) - covariance
    spread = np.sqrt((covariance**2 + np.outer(np.diag(covariance), np.diag(covariance))) / count)
    assert (np.abs(error) < 4 * spread).all()


def test_one_sample_is_a_row_of_a_batch():
    with jax.enable_x64(True):
        field = nde.MLPField(SIZE, widths=(8,), key=jax.random.key(3))
        x = jax.random.normal(jax.random.key(0), (3, SIZE))
        fixed = nde.Solve(dfx.Heun(), dfx.ConstantStepSize(), dt0=0.25, max_steps=16)
        single = jax.jit(jax.vmap(nde.CNF(field, SIZE, fixed).log_prob))(x)
        joint = eqx.filter_jit(nde.CNF(field, SIZE, nde.Jointly(fixed)).log_prob)(x)
        np.testing.assert_allclose(single, joint, rtol=1e-12)


def test_wrong_calls_are_refused():
    with pytest.raises(ValueError, match=r"samples of 2 numbers, got an array of shape \(3,\)"):
        linear().log_prob(jnp.zeros(3))
    with pytest.raises(ValueError, match=r"random probe: give key=.*ExactTrace"):
        linear(trace=nde.HutchinsonTrace()).log_prob(jnp.zeros(2))
