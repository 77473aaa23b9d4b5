"""A monitored solve against the plain one, and what it accumulates against the steps taken one by one."""

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

from sciml import nde

SIZE, STEPS, SAVES = 3, 64, 5
ERROR = nde.LocalError(rtol=1e-3, atol=1e-4)


def field(t, y, args):
    return args * jnp.tanh(jnp.roll(y, 1) * y + jnp.sin(5 * t)) - y


def start(dtype=float):
    return jnp.array([0.3, -0.8, 0.5], dtype)


def ordinary():
    return dfx.ODETerm(field)


def controlled():
    ts = jnp.linspace(0.0, 1.0, 7)
    path = dfx.LinearInterpolation(ts, jnp.stack([ts, jnp.sin(9 * ts)], axis=1))
    return dfx.ControlTerm(lambda t, y, args: jnp.stack([y, args * jnp.cos(jnp.roll(y, 1))], axis=1), path).to_ode()


def stochastic():
    shape = jax.ShapeDtypeStruct((SIZE,), jnp.result_type(float))
    path = dfx.VirtualBrownianTree(0.0, 1.0, 2.0**-12, shape, jax.random.key(5), dfx.SpaceTimeLevyArea)
    noise = dfx.ControlTerm(lambda t, y, args: lx.DiagonalLinearOperator(0.2 * jnp.cos(y)), path)
    return dfx.MultiTerm(dfx.ODETerm(field), noise)


def solve(terms, solver, speed, dt0=0.9, *, saveat, y0=None, **options):
    controller = dfx.PIDController(1e-3, 1e-4, dtmin=2.0**-10)
    options = {"stepsize_controller": controller, "max_steps": STEPS, **options}
    return dfx.diffeqsolve(terms, solver, 0.0, 1.0, dt0, start() if y0 is None else y0, speed, saveat=saveat, **options)


@pytest.mark.parametrize(
    ("make", "solver", "rtol"),
    [
        (ordinary, dfx.Tsit5(), 1e-3),
        (controlled, dfx.Heun(), 3e-2),
        (stochastic, dfx.SPaRK(), 1e-1),
        pytest.param(ordinary, dfx.HalfSolver(dfx.Midpoint()), 1e-2, marks=pytest.mark.slow),
        pytest.param(ordinary, dfx.Kvaerno3(), 1e-3, marks=pytest.mark.slow),
    ],
    ids=["ode", "cde", "sde", "half", "implicit"],
)
def test_the_trajectory_is_that_of_the_plain_solver(make, solver, rtol):
    with jax.enable_x64(True):
        controller = dfx.PIDController(rtol, rtol / 10)
        measures = {"error": nde.LocalError(rtol, rtol / 10, dt_power=0), "stiffness": nde.DirectionalStiffness()}
        watched = nde.Monitored(solver, measures, sampling=nde.TimeUniform(), key=jax.random.key(0))
        save = lambda state: dfx.SaveAt(ts=jnp.linspace(0, 1, SAVES), solver_state=state)

        options = {"stepsize_controller": controller, "max_steps": 256}

        @eqx.filter_jit
        def both(speed):
            plain = solve(make(), solver, speed, saveat=save(False), **options)
            monitored = solve(make(), watched, speed, saveat=save(True), **options)
            return plain, monitored

        plain, monitored = both(jnp.array(6.0))
        np.testing.assert_array_equal(plain.ys, monitored.ys)
        assert plain.stats["num_rejected_steps"] > 0
        for name in ("num_steps", "num_accepted_steps"):
            assert plain.stats[name] == monitored.stats[name]
        assert monitored.solver_state.count == plain.stats["num_accepted_steps"]
        assert set(nde.measured(monitored)) == {"error", "stiffness"}
        assert nde.measured(monitored, nde.step_max)["error"] < 1  # what the controller accepts


def test_sums_run_over_the_accepted_steps_alone():
    with jax.enable_x64(True):
        squares = nde.LocalError(rtol=1e-3, atol=1e-4, power=2, dt_power=0)
        solver = nde.Monitored(dfx.Tsit5(), (ERROR, squares, nde.Stiffness()))

        @eqx.filter_jit
        def single(speed):
            sol = solve(ordinary(), solver, speed, saveat=dfx.SaveAt(t0=True, steps=True, solver_state=True))
            ends = (sol.ts[:-1], sol.ts[1:], sol.ys[:-1])
            retake = lambda t0, t1, y0: nde.one_step(ordinary(), dfx.Tsit5(), t0, t1, y0, speed)
            each = jax.vmap(lambda *end: [m(retake(*end)) for m in solver.measures])(*ends)
            reductions = (nde.step_sum, nde.step_mean, nde.step_max)
            return each, [nde.measured(sol, reduce) for reduce in reductions], sol.stats

        each, reduced, stats = single(jnp.array(6.0))
        count = int(stats["num_accepted_steps"])
        assert count < int(stats["num_steps"])
        for i, values in enumerate(np.asarray(values)[:count] for values in each):
            expected = (np.sum(values), np.mean(values), np.max(values))
            # the first stage is computed again here, and taken over from the step before there
            np.testing.assert_allclose([reduction[i] for reduction in reduced], expected, rtol=1e-9)


@pytest.mark.slow  # compiles two gradients of a solve
def test_a_mapped_solve_is_a_loop_over_solves():
    with jax.enable_x64(True):
        measures = (ERROR, nde.Stiffness())

        @eqx.filter_jit
        def loss(speed, key):
            solver = nde.Monitored(dfx.Tsit5(), measures, sampling=nde.StepUniform(), key=key)
            value = lambda speed: solve(ordinary(), solver, speed, saveat=dfx.SaveAt(t1=True, solver_state=True))
            total = lambda speed: (lambda sol: (sum(nde.measured(sol)), sol))(value(speed))
            (total_value, sol), gradient = jax.value_and_grad(total, has_aux=True)(speed)
            return total_value, gradient, nde.sampled_step(sol), sol.stats["num_steps"]

        speeds, keys = jnp.array([0.5, 6.0, 20.0]), jax.random.split(jax.random.key(1), 3)
        mapped = eqx.filter_jit(jax.vmap(loss))(speeds, keys)
        assert len(set(np.asarray(mapped[-1]))) == 3  # unequal numbers of steps
        for i in range(3):
            one = loss(speeds[i], keys[i])
            for a, b in zip(jax.tree.leaves(mapped), jax.tree.leaves(one), strict=True):
                np.testing.assert_allclose(a[i], b, rtol=1e-9)  # order of sums in mapped products


def test_a_kept_step_is_an_accepted_one_and_as_likely_as_it_should_be():
    draws = 1500
    samplings = {"time": nde.TimeUniform(), "step": nde.StepUniform(), "point": nde.PointUniform()}

    @eqx.filter_jit
    def kept(keys):
        def one(key):
            solver = nde.Monitored(dfx.Tsit5(), sampling=samplings, key=key)
            sol = solve(ordinary(), solver, 2.0, saveat=dfx.SaveAt(t0=True, steps=True, solver_state=True))
            return nde.sampled_step(sol), sol.ts, sol.ys

        samples, ts, ys = jax.vmap(one)(keys)
        return samples, ts[0], ys[0]

    with jax.enable_x64(True):
        samples, ts, ys = kept(jax.random.split(jax.random.key(3), draws))
        count = int(np.sum(np.isfinite(ts))) - 1
        lengths = np.diff(ts[: count + 1])
        for name, likely in (("time", lengths / lengths.sum()), ("step", np.full(count, 1 / count))):
            which = np.searchsorted(ts[: count + 1], samples[name].t0)
            np.testing.assert_array_equal(samples[name].t1, ts[which + 1])
            np.testing.assert_array_equal(samples[name].y0, ys[which])
            np.testing.assert_allclose(samples[name].scale, 1 / likely[which], rtol=1e-12)
            frequency = np.bincount(which, minlength=count) / draws
            # 4 standard errors of a frequency, for some 10 steps
            np.testing.assert_array_less(np.abs(frequency - likely), 4 * np.sqrt(likely / draws))
        times = np.sort(samples["point"].t0)
        # Kolmogorov-Smirnov at the level 1e-3; a sample from the accepted times would fail
        assert np.max(np.abs(times - (np.arange(draws) + 0.5) / draws)) < 1.95 / np.sqrt(draws)


@pytest.mark.slow
def test_interpolated_states_are_on_the_trajectory():
    with jax.enable_x64(True):
        solver = nde.Monitored(dfx.Tsit5(), sampling=nde.PointUniform(), key=jax.random.key(8))
        save = dfx.SaveAt(dense=True, solver_state=True)
        sol = eqx.filter_jit(lambda speed: solve(ordinary(), solver, speed, saveat=save))(2.0)
        sample = nde.sampled_step(sol)
        np.testing.assert_allclose(sample.y0, sol.evaluate(sample.t0), rtol=1e-12)


def test_nothing_can_be_differentiated_through_a_kept_step():
    def start_of_step(speed):
        solver = nde.Monitored(dfx.Tsit5(), sampling=nde.TimeUniform(), key=jax.random.key(2))
        sol = solve(ordinary(), solver, speed, saveat=dfx.SaveAt(solver_state=True))
        return jnp.sum(nde.sampled_step(sol).y0)

    assert eqx.filter_jit(jax.grad(start_of_step))(2.0) == 0


@pytest.mark.slow
def test_forward_mode_through_nested_wrappers():
    def total(speed):
        solver = nde.Monitored(dfx.HalfSolver(dfx.Heun()), ERROR)
        sol = solve(ordinary(), solver, speed, saveat=dfx.SaveAt(solver_state=True), adjoint=dfx.ForwardMode())
        return nde.measured(sol)

    def reverse(speed):
        solver = nde.Monitored(dfx.HalfSolver(dfx.Heun()), ERROR)
        return nde.measured(solve(ordinary(), solver, speed, saveat=dfx.SaveAt(solver_state=True)))

    with jax.enable_x64(True):
        _, slope = eqx.filter_jit(lambda s: jax.jvp(total, (s,), (1.0,)))(6.0)
        np.testing.assert_allclose(slope, eqx.filter_jit(jax.grad(reverse))(6.0), rtol=1e-9)


def test_adaptive_euler_for_sdes_is_refused_through_all_wrappers():
    solver = nde.Monitored(dfx.HalfSolver(dfx.Euler()), ERROR)
    with pytest.raises(ValueError, match="should not be solved with adaptive step sizes with Euler"):
        solve(stochastic(), solver, 1.0, saveat=dfx.SaveAt(t1=True))


def test_messages_of_the_monitor():
    with pytest.raises(ValueError, match=r"Expected AbstractMeasure in measures, such as LocalError.*got float"):
        nde.Monitored(dfx.Tsit5(), 0.1)
    with pytest.raises(
        ValueError, match=r"Expected AbstractSampling in sampling, such as TimeUniform\(\), got LocalError"
    ):
        nde.Monitored(dfx.Tsit5(), sampling=ERROR, key=jax.random.key(0))
    with pytest.raises(ValueError, match="Keeping a step at random needs a key"):
        nde.Monitored(dfx.Tsit5(), sampling=nde.TimeUniform())
    plain = solve(ordinary(), dfx.Tsit5(), 1.0, saveat=dfx.SaveAt(t1=True))
    with pytest.raises(ValueError, match=r"Expected the solver state of a solve with Monitored, got NoneType"):
        nde.measured(plain)
    watched = solve(ordinary(), nde.Monitored(dfx.Tsit5(), ERROR), 1.0, saveat=dfx.SaveAt(solver_state=True))
    with pytest.raises(ValueError, match=r"No step was kept\. Solve with Monitored"):
        nde.sampled_step(watched)
