"""Running integrals beside the states: a flow with any regulariser."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml import nde

BATCH, SIZE = 5, 2


@pytest.fixture(scope="module")
def flow():
    field = nde.MLPField(SIZE, widths=(6,), key=jax.random.key(0))
    return nde.CNF(field, SIZE, solve=nde.Jointly(nde.Solve())), jax.random.normal(jax.random.key(1), (BATCH, SIZE))


def regularised(model, x, regulariser):
    along = nde.Integrating(model.solve, {"divergence": nde.divergence})
    ts = jnp.array([0.0, model.t1])
    (ys, integrals), value = regulariser(along, model.field, x, ts, key=jax.random.key(2))
    return jax.scipy.stats.norm.logpdf(ys[-1]).sum(axis=-1) + integrals["divergence"][-1], value


def test_a_regulariser_gives_the_log_density_of_the_flow_and_its_own_value(flow):
    model, x = flow

    def both(model, x):
        penalty = nde.ErrorPenalty()
        penalised = dataclasses.replace(model, solve=nde.with_penalty(model.solve, penalty))
        integrand = nde.per_dimension(nde.taylor(2))
        log_prob, aux = penalised.solution(x, integrands={"taylor": integrand})
        ours = regularised(model, x, nde.Penalised(penalty)), regularised(model, x, nde.Integrated(integrand))
        return ours, ((log_prob, aux.penalty), (log_prob, aux.integrals["taylor"][-1].mean()))

    ours, expected = eqx.filter_jit(both)(model, x)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)  # the same solve, compiled in another program
        assert np.all(np.abs(b) > 1e-6)


def test_integrals_of_the_same_name_are_refused(flow):
    model, x = flow
    along = nde.Integrating(model.solve, {"value": nde.divergence})
    with pytest.raises(ValueError, match=r"other names than those of Integrating, got value again"):
        nde.Integrated(nde.kinetic_energy)(along, model.field, x, jnp.array([0.0, 1.0]), key=jax.random.key(0))
