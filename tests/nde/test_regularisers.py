"""One door for regularisers: every one in every model, what it is worth, and that predictions do not know of it."""

import dataclasses

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml import nde

BATCH, SIZE, LATENT, TIMES = 5, 2, 3, 4
TS, KEY = jnp.array([0.0, 0.3, 0.7, 1.0]), jax.random.key(7)
SOLVE = nde.Solve(controller=dfx.PIDController(rtol=1e-3, atol=1e-3), max_steps=256)
SDE_SOLVE = nde.Solve(dfx.SPaRK(), dfx.PIDController(rtol=0.1, atol=0.1, dtmin=2**-6, force_dtmin=True), dt0=0.1)


def series(*batch):
    return jax.random.normal(jax.random.key(5), (*batch, TIMES, SIZE))


def ode():
    field = nde.MLPField(SIZE, widths=(6,), key=jax.random.key(0))
    y0 = jax.random.normal(jax.random.key(1), (BATCH, SIZE))
    return nde.NeuralODE(field, nde.Jointly(SOLVE)), lambda m: m.solution(y0, TS, key=KEY), lambda m: m(y0, TS)


def flow():
    field = nde.MLPField(SIZE, widths=(6,), key=jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (BATCH, SIZE))
    return nde.CNF(field, SIZE, nde.Jointly(SOLVE)), lambda m: m.solution(x, key=KEY), lambda m: m.log_prob(x)


def latent_ode():
    keys = jax.random.split(jax.random.key(2), 3)
    model = nde.LatentODE(
        nde.GRUEncoder(SIZE, LATENT, hidden=5, units=7, key=keys[0]),
        nde.MLPField(LATENT, widths=(6,), key=keys[1]),
        eqx.nn.Linear(LATENT, SIZE, key=keys[2]),
        nde.Jointly(SOLVE),
        noise=0.5,
    )
    xs = series(BATCH)

    def bound(m):
        elbo = m.elbo(TS, xs, key=KEY)
        return elbo.loss, elbo.aux

    return model, bound, lambda m: m.predict(TS, xs, TS[1:])


def cde():
    keys = jax.random.split(jax.random.key(3), 3)
    model = nde.NeuralCDE(
        eqx.nn.Linear(SIZE + 1, LATENT, key=keys[0]),
        nde.MatrixField(LATENT, SIZE + 1, width=7, depth=1, key=keys[1]),
        eqx.nn.Linear(LATENT, 4, key=keys[2]),
        solve=SOLVE,
    )
    return model, lambda m: m.solution(TS, series(), key=KEY), lambda m: m.trajectory(TS, series())


def sde():
    keys = jax.random.split(jax.random.key(4), 2)
    model = nde.NeuralSDE(
        eqx.nn.Identity(),
        nde.MLPField(SIZE, widths=(6,), key=keys[0]),
        nde.MLPField(SIZE, widths=(4,), key=keys[1]),
        eqx.nn.Identity(),
        SDE_SOLVE,
        nde.BrownianTree(2**-7),
    )
    start = jnp.array([0.3, -0.8])
    return model, lambda m: m.solution(start, TS, key=KEY), lambda m: m(start, TS, key=KEY)


def latent_sde():
    keys = jax.random.split(jax.random.key(6), 4)
    model = nde.LatentSDE(
        nde.ContextEncoder(SIZE, LATENT, context=2, hidden=5, key=keys[0]),
        nde.MLPField(LATENT, widths=(6,), key=keys[1]),
        nde.MLPField(LATENT + 2, LATENT, widths=(6,), key=keys[2]),
        lambda t, z, args: 0.2 + 0.1 * jnp.cos(z),
        eqx.nn.Linear(LATENT, SIZE, key=keys[3]),
        SDE_SOLVE,
        nde.BrownianTree(2**-7),
        noise=0.5,
    )

    def bound(m):
        elbo = m.elbo(TS, series(), key=KEY)
        return elbo.loss, elbo.aux

    return model, bound, lambda m: m.sample(TS, LATENT, key=KEY)


MODELS = {f.__name__: f for f in (ode, flow, latent_ode, cde, sde, latent_sde)}
PARTS = (
    nde.ErrorPenalty(),
    nde.StiffnessPenalty(nde.DirectionalStiffness()),
    nde.LocalErrorPenalty(),
    nde.Steer(0.2),
    nde.TayNODE(2),
    nde.RNODE(),
)
ALL = sum(PARTS[1:], start=PARTS[0])


QUICK = ("ode",)  # the others are slow, since each takes many seconds to compile


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in MODELS]
)
def test_every_regulariser_serves_every_model(name):
    """In one solve, since each compilation takes seconds: the value and its gradient, and the times of STEER."""
    model, solution, _ = MODELS[name]()

    @eqx.filter_jit
    @eqx.filter_value_and_grad(has_aux=True)
    def penalty(model):
        out, aux = solution(nde.regularised(model, ALL))
        return aux.penalty, (out, aux)

    (value, (out, aux)), slope = penalty(model)
    assert np.isfinite(value)
    assert value > 0
    leaves = [leaf for leaf in jax.tree.leaves(slope) if eqx.is_array(leaf)]
    assert all(np.isfinite(leaf).all() for leaf in leaves)
    assert max(np.abs(leaf).max() for leaf in leaves) > 0
    assert not any("regulariser" in one for one in aux.integrals)  # nothing but what the model integrates itself
    plain, without = eqx.filter_jit(solution)(model)
    assert without.penalty == 0
    assert np.abs(out - plain).max() > 1e-5  # at other times


@pytest.mark.parametrize("name", MODELS)
def test_a_prediction_is_the_program_of_the_plain_model(name):
    """Not one operation more, for a regulariser of every kind."""
    model, _, predict = MODELS[name]()
    arrays, rest = eqx.partition(model, eqx.is_array)

    def program(regulariser):
        return str(jax.make_jaxpr(lambda a: predict(nde.regularised(eqx.combine(a, rest), regulariser)))(arrays))

    plain = program(None)
    assert program(ALL) == plain


def test_the_trajectory_with_penalties_on_steps_is_the_plain_one_bit_for_bit():
    model, solution, _ = ode()
    penalty = nde.ErrorPenalty() + nde.StiffnessPenalty() + nde.LocalErrorPenalty() + nde.FreshErrorPenalty()
    states, aux = eqx.filter_jit(solution)(nde.regularised(model, penalty))
    plain, _ = eqx.filter_jit(solution)(model)
    np.testing.assert_array_equal(states, plain)
    assert aux.penalty > 0


def test_taynode_and_rnode_are_means_of_integrals_along_the_solution():
    model, solution, _ = ode()
    field, y0 = model.field, jax.random.normal(jax.random.key(1), (BATCH, SIZE))

    @eqx.filter_jit
    def run(model):
        probes = nde.probe(y0, key=KEY)
        rnode = {"kinetic": nde.kinetic_energy, "jacobian": nde.HutchinsonFrobenius(probes)}
        terms = {name: nde.per_dimension(one) for name, one in (rnode | {"taylor": nde.taylor(2)}).items()}
        _, aux = model.solve(field, y0, TS, integrands=terms)
        return [solution(nde.regularised(model, r))[1].penalty for r in (nde.TayNODE(2), nde.RNODE())], aux.integrals

    (taynode, rnode), integrals = run(model)
    np.testing.assert_allclose(taynode, np.mean(integrals["taylor"][-1]), rtol=1e-5)
    np.testing.assert_allclose(rnode, np.mean(integrals["kinetic"][-1] + integrals["jacobian"][-1]), rtol=1e-5)


def test_steer_solves_at_the_drawn_times():
    """dy/dt = 1 tells the time."""
    clock = nde.NeuralODE(nde.Autonomous(jnp.ones_like), dataclasses.replace(SOLVE, regulariser=nde.Steer(0.5)))
    keys = jax.random.split(jax.random.key(0), 500)
    run = lambda ts: jax.jit(jax.vmap(lambda key: clock.solution(jnp.zeros(1), ts, key=key)[0][:, 0]))(keys)
    ends, several = run(jnp.array([0.0, 1.0]))[:, -1], run(jnp.asarray(TS))
    assert 0.5 < ends.min() < 0.55
    assert 1.45 < ends.max() < 1.5
    moved = np.abs(several - TS[None]).max(axis=0)
    np.testing.assert_allclose(moved, [0.0, 0.15, 0.15, 0.15], atol=0.01)  # half of the smaller gap, 0.3
    np.testing.assert_array_equal(clock(jnp.zeros(1), jnp.array([0.0, 1.0]))[-1].round(6), [1.0])


def test_a_sum_is_the_sum_of_its_parts():
    model, solution, _ = ode()
    value = eqx.filter_jit(lambda r: solution(nde.regularised(model, r))[1].penalty)
    parts = value(nde.ErrorPenalty()), value(nde.TayNODE(2)), value(nde.StiffnessPenalty())
    total = value(nde.ErrorPenalty() + jnp.asarray(2.0) * nde.TayNODE(2) + nde.StiffnessPenalty() * 3.0)
    np.testing.assert_allclose(total, parts[0] + 2 * parts[1] + 3 * parts[2], rtol=1e-5)


def test_what_is_refused():
    model, _, _ = ode()
    y0 = jnp.ones((BATCH, SIZE))
    for regulariser, why in ((nde.Steer(), "STEER draws random times"), (nde.RNODE(), "RNODE draws a random probe")):
        trained = nde.regularised(model, regulariser)
        with pytest.raises(ValueError, match=rf"{why}: give key=.* predict with nde.regularised\(model, None\)"):
            trained.solution(y0, TS)
    corners = dataclasses.replace(cde()[0], interpolation=nde.linear_control)
    corners = nde.regularised(corners, nde.TayNODE())
    with pytest.raises(ValueError, match=r"path with corners has no derivative there.*hermite_control"):
        corners.solution(TS, series(), key=KEY)
    reversible = dataclasses.replace(model, solve=nde.Reversible(4))
    with pytest.raises(ValueError, match="Expected a model with a Solve, got a NeuralODE without one: Reversible"):
        nde.regularised(reversible, nde.ErrorPenalty())
    assert eqx.tree_equal(nde.regularised(reversible, None), reversible)
