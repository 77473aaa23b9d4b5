"""Penalties: what they are worth, their gradients, and what is refused."""

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest

from sciml import nde

SIZE, STEPS = 3, 64
CONTROLLER = dfx.PIDController(rtol=1e-3, atol=1e-4)
ERROR = nde.LocalError(rtol=1e-3, atol=1e-4)


def field(t, y, args):
    return args * jnp.tanh(jnp.roll(y, 1) * y + jnp.sin(5 * t)) - y


def start():
    return jnp.array([0.3, -0.8, 0.5])


def solve(speed, penalty, solver=None, dt0=0.9, key=None, vector_field=field, **options):
    options = {"stepsize_controller": CONTROLLER, "max_steps": STEPS, "saveat": dfx.SaveAt(t1=True), **options}
    solver = dfx.Tsit5() if solver is None else solver
    terms = dfx.ODETerm(vector_field)
    return nde.diffeqsolve(terms, solver, 0.0, 1.0, dt0, start(), speed, regulariser=penalty, key=key, **options)


def test_the_solution_is_the_plain_one_and_the_penalties_are_the_measures():
    clipped = dfx.ClipStepSizeController(CONTROLLER, step_ts=[0.4])
    penalties = [
        nde.ErrorPenalty(),
        nde.ErrorPenalty(nde.LocalError(power=2, dt_power=0), nde.step_mean),
        nde.StiffnessPenalty(reduce=nde.step_max),
        2.0 * nde.ErrorPenalty() + nde.StiffnessPenalty(nde.DirectionalStiffness()) * 3.0,
        nde.ErrorPenalty() + nde.LocalErrorPenalty() + jnp.array(2.0) * nde.LocalErrorPenalty(where=nde.StepUniform()),
    ]

    @eqx.filter_jit
    def run(speed):
        save = dfx.SaveAt(ts=jnp.linspace(0, 1, 5), dense=True)
        options = {"stepsize_controller": clipped, "saveat": save, "key": jax.random.key(1)}
        total = sum(penalties[1:], start=penalties[0])
        sol, all_of_them = solve(speed, total, **options)
        plain, nothing = solve(speed, None, **options)
        squares = nde.LocalError(rtol=1e-3, atol=1e-4, power=2, dt_power=0)
        watched = nde.Monitored(
            dfx.Tsit5(), [ERROR, squares, nde.Stiffness(), nde.DirectionalStiffness()],
            sampling=[nde.TimeUniform(), nde.StepUniform()], key=jax.random.key(1),
        )  # fmt: skip
        monitored, _ = solve(speed, None, watched, stepsize_controller=clipped, saveat=dfx.SaveAt(solver_state=True))
        sums, means, largest = (nde.measured(monitored, r) for r in (nde.step_sum, nde.step_mean, nde.step_max))
        expected = sums[0] + means[1] + largest[2] + (2 * sums[0] + 3 * means[3]) + sums[0]
        for weight, sample in zip((1.0, 2.0), nde.sampled_step(monitored), strict=True):
            step = nde.one_step(dfx.ODETerm(field), dfx.Tsit5(), sample.t0, sample.t1, sample.y0, speed)
            expected += weight * sample.scale * ERROR(step)
        return sol, plain, all_of_them, expected, nothing

    with jax.enable_x64(True):
        sol, plain, value, expected, nothing = run(6.0)
        np.testing.assert_array_equal(sol.ys, plain.ys)
        np.testing.assert_array_equal(sol.evaluate(0.3), plain.evaluate(0.3))
        assert sol.stats["num_rejected_steps"] > 0
        assert sol.solver_state is None
        assert nothing == 0
        np.testing.assert_allclose(value, expected, rtol=1e-12)


def test_an_asked_for_solver_state_is_the_solvers_own():
    sol, _ = eqx.filter_jit(solve)(1.0, nde.ErrorPenalty(), saveat=dfx.SaveAt(solver_state=True))
    plain, _ = eqx.filter_jit(solve)(1.0, None, saveat=dfx.SaveAt(solver_state=True))
    assert eqx.tree_equal(sol.solver_state, plain.solver_state)


def test_local_penalties_estimate_the_sum_without_bias():
    draws = 400

    @eqx.filter_jit
    def run(keys, speed):
        total = solve(speed, nde.ErrorPenalty())[1]
        time = jax.vmap(lambda key: solve(speed, nde.LocalErrorPenalty(), key=key)[1])(keys)
        step = jax.vmap(lambda key: solve(speed, nde.LocalErrorPenalty(where=nde.StepUniform()), key=key)[1])(keys)
        return total, time, step

    with jax.enable_x64(True):
        total, *estimates = run(jax.random.split(jax.random.key(4), draws), 6.0)
        for values in estimates:
            deviation = np.std(values)
            assert deviation > 0
            assert abs(np.mean(values) - total) < 2 * deviation / np.sqrt(draws)


def test_a_local_penalty_has_one_gradient_under_every_adjoint():
    adjoints = [dfx.RecursiveCheckpointAdjoint(), dfx.BacksolveAdjoint()]

    @eqx.filter_jit
    def gradients(speed):
        value = lambda speed, adjoint: solve(speed, nde.LocalErrorPenalty(), key=jax.random.key(7), adjoint=adjoint)[1]
        reverse = [jax.value_and_grad(value)(speed, adjoint) for adjoint in adjoints]
        return reverse, jax.jvp(lambda s: value(s, dfx.ForwardMode()), (speed,), (jnp.ones_like(speed),))

    with jax.enable_x64(True):
        reverse, forward = gradients(jnp.array(6.0))
        assert abs(forward[1]) > 1e-3
        for pair in reverse:
            np.testing.assert_allclose(pair, forward, rtol=1e-9)


@pytest.mark.slow
def test_direct_and_checkpointed_adjoint_agree():
    penalty = nde.ErrorPenalty() + nde.StiffnessPenalty() + nde.LocalErrorPenalty()

    @eqx.filter_jit
    def gradient(adjoint):
        return jax.grad(lambda speed: solve(speed, penalty, key=jax.random.key(4), adjoint=adjoint)[1])(6.0)

    with jax.enable_x64(True):
        direct, checkpointed = gradient(dfx.DirectAdjoint()), gradient(dfx.RecursiveCheckpointAdjoint())
        np.testing.assert_allclose(direct, checkpointed, rtol=1e-9)


@pytest.mark.slow
def test_the_solution_can_be_differentiated_beside_a_local_penalty_by_the_continuous_adjoint():
    def loss(speed, adjoint):
        sol, penalty = solve(speed, nde.LocalErrorPenalty(), key=jax.random.key(4), adjoint=adjoint)
        return jnp.sum(sol.ys**2) + 0.1 * penalty

    with jax.enable_x64(True):
        gradient = eqx.filter_jit(jax.grad(loss))
        backwards, discrete = (gradient(6.0, a) for a in (dfx.BacksolveAdjoint(), dfx.RecursiveCheckpointAdjoint()))
        np.testing.assert_allclose(backwards, discrete, rtol=0.02)  # both are approximations at the tolerance of 1e-3


def hairer(f, t, y, order):
    """The initial step of Hairer, Norsett and Wanner, section II.4."""
    norm = lambda v: np.sqrt(np.mean((v / (1e-4 + 1e-3 * np.abs(y))) ** 2))
    f0 = f(t, y)
    h0 = 0.01 * norm(y) / norm(f0)
    slope = norm(f(t + h0, y + h0 * f0) - f0) / h0
    return min(100 * h0, (0.01 / max(norm(f0), slope)) ** (1 / order))


def test_a_fresh_step_is_the_published_one():
    tableau = dfx.Tsit5.tableau

    def error(speed, t, h, y, first):
        """Hand-written Tsit5 from a given first stage: the scaled error times h."""
        stages = [first]
        for row, c in zip(tableau.a_lower, tableau.c, strict=True):
            g = y + h * sum(a * k for a, k in zip(row, stages, strict=True))
            stages.append(field(t + c * h, g, speed))
        e = h * sum(b * k for b, k in zip(tableau.b_error, stages, strict=True))
        return jnp.sqrt(jnp.mean((e / (1e-4 + 1e-3 * jnp.maximum(jnp.abs(y), jnp.abs(g)))) ** 2)) * h

    @eqx.filter_jit
    def run(speed):
        key = jax.random.key(11)
        fresh = jax.value_and_grad(lambda speed: solve(speed, nde.FreshErrorPenalty(), key=key)[1])(speed)
        watched = nde.Monitored(dfx.Tsit5(), sampling=nde.PointUniform(), key=key)
        return fresh, nde.sampled_step(solve(speed, None, watched, saveat=dfx.SaveAt(solver_state=True))[0])

    with jax.enable_x64(True):
        speed = jnp.array(6.0)
        (value, slope), sample = run(speed)
        t, y = np.asarray(sample.t0), np.asarray(sample.y0)
        h = hairer(lambda t, y: np.asarray(field(t, y, speed)), t, y, 5)
        assert h < sample.t1 - sample.t0  # else it would be cut
        by_hand = jax.value_and_grad(error)(speed, t, h, sample.y0, field(t, sample.y0, speed))
        np.testing.assert_allclose((value, slope), by_hand, rtol=1e-6)  # t + h - t rounds


def test_backwards_in_time_is_the_mirrored_problem():
    mirrored = lambda t, y, args: -field(-t, y, args)
    penalty = nde.ErrorPenalty() + nde.LocalErrorPenalty() + 1e3 * nde.FreshErrorPenalty()

    @eqx.filter_jit
    def run(vector_field, t1, dt0):
        return nde.diffeqsolve(
            dfx.ODETerm(vector_field), dfx.Tsit5(), 0.0, t1, dt0, start(), 6.0, regulariser=penalty,
            key=jax.random.key(3), stepsize_controller=CONTROLLER, max_steps=STEPS,
        )  # fmt: skip

    with jax.enable_x64(True):
        (backwards, penalty_backwards), (forwards, penalty_forwards) = run(field, -1.0, -0.9), run(mirrored, 1.0, 0.9)
        np.testing.assert_allclose(backwards.ys, forwards.ys, rtol=1e-12)
        np.testing.assert_allclose(penalty_backwards, penalty_forwards, rtol=1e-9)


def test_the_error_is_computed_once_for_the_controller_and_the_penalty():
    """The compiled solve has no norm more than without a penalty: the measure repeats diffrax's very operations."""

    def roots(penalty):
        run = jax.jit(lambda speed: [a for a in jax.tree.leaves(solve(speed, penalty)) if eqx.is_array(a)])
        return run.lower(1.0).compile().as_text().count(" sqrt(")

    plain = roots(None)
    assert plain > 0
    assert roots(nde.ErrorPenalty() + nde.ErrorPenalty(nde.LocalError(power=2, dt_power=0))) == plain
    assert roots(nde.StiffnessPenalty()) > plain


def test_a_solve_that_runs_out_of_steps_has_a_finite_penalty_and_gradient():
    penalty = nde.ErrorPenalty() + nde.StiffnessPenalty() + nde.LocalErrorPenalty()

    def run(speed, throw):
        sol, value = solve(speed, penalty, key=jax.random.key(0), max_steps=1, throw=throw)
        return value, (sol.result, sol.stats["num_accepted_steps"])

    gradient = eqx.filter_jit(jax.value_and_grad(run, has_aux=True))
    (value, (result, accepted)), slope = gradient(6.0, False)
    assert result == dfx.RESULTS.max_steps_reached
    assert accepted == 0
    assert (value, slope) == (0, 0)
    with pytest.raises(RuntimeError, match="The maximum number of solver steps was reached"):
        eqx.filter_jit(run)(6.0, True)


@pytest.mark.parametrize(
    ("solver", "measured"),
    [
        pytest.param(dfx.Heun(), nde.ErrorPenalty(ERROR), id="error"),
        pytest.param(dfx.Tsit5(), nde.StiffnessPenalty(), id="stiffness", marks=pytest.mark.slow),
    ],
)
def test_a_field_that_is_undefined_in_a_rejected_step(solver, measured):
    """sqrt(y) with y' < 0: a long first step makes y negative."""
    falling = lambda t, y, args: -args * jnp.sqrt(y)

    def run(vector_field, controller, dt0, speed):
        sol, penalty = nde.diffeqsolve(
            dfx.ODETerm(vector_field), solver, 0.0, 1.0, dt0, jnp.array([1.0, 2.0]), speed,
            regulariser=measured, stepsize_controller=controller, max_steps=STEPS,
            saveat=dfx.SaveAt(t0=True, steps=True),
        )  # fmt: skip
        return penalty + jnp.where(jnp.isfinite(sol.ys[-1]), sol.ys[-1], 0).sum(), (sol.ts, sol.stats)

    with jax.enable_x64(True):
        gradient = eqx.filter_jit(jax.value_and_grad(run, argnums=3, has_aux=True))
        (plain, (ts, stats)), lost = gradient(falling, CONTROLLER, 1.0, 1.5)
        (value, _), kept = gradient(nde.Guarded(falling), CONTROLLER, 1.0, 1.5)
        assert stats["num_rejected_steps"] > 0
        assert np.isnan(lost)  # diffrax's own; if it ever cures this, Guarded can go
        replay = dfx.StepTo(ts[: int(stats["num_accepted_steps"]) + 1])
        (again, _), expected = gradient(falling, replay, None, 1.5)
        assert value == plain
        np.testing.assert_allclose(value, again, rtol=1e-12)
        np.testing.assert_allclose(kept, expected, rtol=1e-9)


def test_guarded_fields_are_differentiated_where_they_are_finite():
    def value(weight, y):
        inner = lambda t, y, args: jnp.sqrt(weight * y)  # a closure over what is differentiated
        return jnp.sum(nde.Guarded(inner)(0.0, y) * jnp.array([1.0, 2.0]))

    with jax.enable_x64(True):
        y, weight = jnp.array([4.0, 9.0]), jnp.array(2.0)
        for mode in (jax.jacrev, jax.jacfwd):
            by_weight, by_y = jax.jit(mode(value, argnums=(0, 1)))(weight, y)
            np.testing.assert_allclose(by_y, np.array([1, 2]) * np.sqrt(2 / y) / 2, rtol=1e-12)
            np.testing.assert_allclose(by_weight, np.sum(np.array([1, 2]) * np.sqrt(y / 2)) / 2, rtol=1e-12)
            by_weight, by_y = jax.jit(mode(value, argnums=(0, 1)))(weight, -y)
            assert by_weight == 0
            np.testing.assert_array_equal(by_y, np.zeros(2))


def test_a_joint_batch_takes_the_steps_of_its_hardest_sample():
    easy = 15
    rates = jnp.concatenate([jnp.array([30.0]), jnp.zeros(easy)])

    def joint(t, y, args):
        return jnp.sin(rates * t)[:, None] * y * args[None]

    def steps(norm, y0, vector_field):
        controller = dfx.PIDController(1e-5, 1e-5, norm=norm)
        sol = dfx.diffeqsolve(
            dfx.ODETerm(vector_field),
            dfx.Tsit5(),
            0.0,
            1.0,
            0.01,
            y0,
            jnp.array([2.0, -3.0]),
            stepsize_controller=controller,
        )
        return int(sol.stats["num_steps"])

    alone = steps(optx.rms_norm, jnp.ones(2), lambda t, y, args: jnp.sin(rates[0] * t) * y * args)
    everyone = jnp.ones((easy + 1, 2))
    assert steps(nde.PerSampleMax(), everyone, joint) == alone
    assert steps(optx.rms_norm, everyone, joint) < alone
    errors = np.random.default_rng(0).normal(size=(5, 2, 3)).astype(np.float32)
    expected = np.max(np.sqrt(np.mean(errors**2, axis=(1, 2))))
    np.testing.assert_allclose(nde.PerSampleMax()(jnp.asarray(errors)), expected, rtol=1e-6)


def test_what_is_refused():
    error, local = nde.ErrorPenalty(), nde.LocalErrorPenalty()
    key = jax.random.key(0)
    with pytest.raises(ValueError, match=r"BacksolveAdjoint .* silently be zero.*LocalErrorPenalty"):
        solve(1.0, local + error, key=key, adjoint=dfx.BacksolveAdjoint())
    with pytest.raises(ValueError, match="ImplicitAdjoint differentiates the final state alone"):
        solve(1.0, error, adjoint=dfx.ImplicitAdjoint())
    with pytest.raises(ValueError, match=r"needs tolerances, and ConstantStepSize has none.*rtol=0\.0, atol=1\.0"):
        solve(1.0, error, dt0=0.1, stepsize_controller=dfx.ConstantStepSize())
    with pytest.raises(ValueError, match="Keeping a step at random needs a key"):
        solve(1.0, local)
    with pytest.raises(ValueError, match="A solve with a penalty starts its own solver state"):
        solve(1.0, error, solver_state=(True, start()))
    for other in (nde.Steer(), error + nde.TayNODE(2), 2.0 * nde.RNODE()):
        with pytest.raises(ValueError, match=r"measures the steps alone.*Solve with nde.Solve\(regulariser="):
            solve(1.0, other, key=key)
    plain = nde.ErrorPenalty(nde.LocalError(rtol=0.0, atol=1.0))
    with pytest.raises(ValueError, match="Euler estimates no error"):
        solve(1.0, plain, dfx.Euler(), dt0=0.1, stepsize_controller=dfx.ConstantStepSize())
    terms = dfx.MultiTerm(dfx.ODETerm(field), dfx.ODETerm(field))
    with pytest.raises(ValueError, match=r"FreshErrorPenalty takes Hairer's initial step.*got MultiTerm"):
        nde.diffeqsolve(
            terms, dfx.Tsit5(), 0.0, 1.0, None, start(), 1.0, regulariser=nde.FreshErrorPenalty(), key=key,
            stepsize_controller=CONTROLLER,
        )  # fmt: skip


def test_messages_of_diffrax_come_through():
    with pytest.raises(RuntimeError, match="must be increasing or decreasing"):
        solve(1.0, nde.ErrorPenalty(), saveat=dfx.SaveAt(ts=[0.5, 0.2]))
    with pytest.raises(RuntimeError, match=r"Must have \(t1 - t0\) \* dt0 >= 0"):
        solve(1.0, nde.ErrorPenalty(), dt0=-0.1)


def test_constant_steps_have_a_raw_penalty():
    penalty = nde.ErrorPenalty(nde.LocalError(rtol=0.0, atol=1.0))
    options = {"dt0": 0.25, "stepsize_controller": dfx.ConstantStepSize(), "vector_field": lambda t, y, args: -args * y}

    with jax.enable_x64(True):
        _, value = eqx.filter_jit(lambda speed: solve(speed, penalty, dfx.Heun(), **options))(2.0)
        z = 0.25 * 2.0
        states = np.asarray(start())[None] * (1 - z + z**2 / 2) ** np.arange(4)[:, None]
        expected = np.sum(np.sqrt(np.mean((states * z**2 / 2) ** 2, axis=1)) * 0.25)
        np.testing.assert_allclose(value, expected, rtol=1e-12)
