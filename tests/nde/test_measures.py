"""Measures of one step against closed forms, and their gradients against differences on the same steps."""

import dataclasses

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import optimistix as optx
import pytest

from sciml import nde

SIZE, STEPS = 3, 64
name = lambda solver: type(solver).__name__


def linear(rate):
    return dfx.ODETerm(lambda t, y, args: rate * y)


def noisy(drift, size, *, scale, levy_area=dfx.SpaceTimeLevyArea):
    """An SDE with the given drift and diagonal noise."""
    shape = jax.ShapeDtypeStruct((size,), jnp.result_type(float))
    path = dfx.VirtualBrownianTree(0.0, 1.0, 2.0**-12, shape, jax.random.key(5), levy_area)
    return dfx.MultiTerm(
        dfx.ODETerm(drift), dfx.ControlTerm(lambda t, y, args: lx.DiagonalLinearOperator(scale(y)), path)
    )


@pytest.mark.parametrize(("power", "dt_power"), [(1, 1), (2, 0), (1, 0)])
def test_local_error_of_heun_on_a_linear_equation(power, dt_power):
    with jax.enable_x64(True):
        rate, y0, h = np.array([-1.0, 3.0, 0.5]), np.array([1.0, -2.0, 0.3]), 0.2
        step = nde.one_step(linear(jnp.asarray(rate)), dfx.Heun(), 0.1, 0.1 + h, jnp.asarray(y0))
        z = h * rate
        y1, error = y0 * (1 + z + z**2 / 2), y0 * z**2 / 2  # difference to Euler's step
        scaled = error / (0.01 + 0.1 * np.maximum(np.abs(y0), np.abs(y1)))
        expected = np.sqrt(np.mean(scaled**2)) ** power * h**dt_power
        value = nde.LocalError(rtol=0.1, atol=0.01, power=power, dt_power=dt_power)(step)
        np.testing.assert_allclose(value, expected, rtol=1e-12)
        plain = nde.LocalError(rtol=0.0, atol=1.0, dt_power=0, norm=optx.max_norm)(step)
        np.testing.assert_allclose(plain, np.max(np.abs(error)), rtol=1e-12)


@pytest.mark.parametrize("solver", [dfx.Tsit5(), dfx.Dopri5(), dfx.Dopri8()], ids=name)
def test_stiffness_is_the_rate_of_a_linear_equation(solver):
    with jax.enable_x64(True):
        rate, y0 = 3.0, jnp.array([1.0, -2.0, 0.3])
        step = nde.one_step(linear(-rate), solver, 0.0, 0.4, y0)
        np.testing.assert_allclose(nde.Stiffness(divisor=1.0)(step), rate, rtol=1e-9)  # differences of near stages
        expected = rate * 0.4 / nde.stability_bound(solver)
        np.testing.assert_allclose(nde.Stiffness(dt_power=1)(step), expected, rtol=1e-9)
        np.testing.assert_allclose(nde.DirectionalStiffness(divisor=2.0)(step), rate / 2, rtol=1e-12)


def test_directional_stiffness_of_an_sde_is_that_of_its_drift():
    with jax.enable_x64(True):
        terms = noisy(lambda t, y, args: -3.0 * y, SIZE, scale=jnp.cos)
        step = nde.one_step(terms, dfx.SPaRK(), 0.0, 0.25, jnp.array([1.0, -2.0, 0.3]))
        np.testing.assert_allclose(nde.DirectionalStiffness(dt_power=1)(step), 3.0 * 0.25, rtol=1e-12)


def test_stiffness_where_nothing_moves_is_zero_with_a_finite_gradient():
    def measures(y0):
        step = nde.one_step(linear(0.0), dfx.Tsit5(), 0.0, 0.4, y0)
        return nde.Stiffness()(step) + nde.DirectionalStiffness()(step) + nde.LocalError(rtol=0.1, atol=0.1)(step)

    value, gradient = jax.jit(jax.value_and_grad(measures))(jnp.ones(SIZE))
    assert value == 0
    np.testing.assert_array_equal(gradient, np.zeros(SIZE))


@pytest.mark.parametrize(
    ("solver", "published"),
    [(dfx.Tsit5(), 3.5068), (dfx.Dopri5(), 3.3066), (dfx.Bosh3(), 2.5127), (dfx.Heun(), 2.0), (dfx.Dopri8(), None)],
    ids=lambda item: name(item) if isinstance(item, dfx.AbstractSolver) else "",
)
def test_stability_bound_is_where_steps_begin_to_grow(solver, published):
    with jax.enable_x64(True):
        bound = nde.stability_bound(solver)
        assert published is None or abs(bound - published) < 1e-4  # Bosh3: the bound of all 3-stage methods of order 3
        growth = jax.jit(jax.vmap(lambda z: nde.one_step(linear(z), solver, 0.0, 1.0, jnp.ones(1)).y1[0]))
        inside = growth(-bound * jnp.linspace(1e-3, 1 - 1e-6, 57))
        assert np.all(np.abs(inside) <= 1)
        assert np.abs(growth(-bound * jnp.array([1 + 1e-6])))[0] > 1


def test_largest_stiffness_of_van_der_pol_is_its_dominant_eigenvalue():
    mu = 5.0

    def field(t, y, args):
        return jnp.array([y[1], mu * (1 - y[0] ** 2) * y[1] - y[0]])

    @jax.jit
    def solve(y0):
        solver = nde.Monitored(dfx.Tsit5(), (nde.Stiffness(divisor=1.0), nde.DirectionalStiffness()))
        sol = dfx.diffeqsolve(
            dfx.ODETerm(field), solver, 0.0, 3.0, None, y0, stepsize_controller=dfx.PIDController(1e-6, 1e-6),
            saveat=dfx.SaveAt(steps=True, solver_state=True), max_steps=256,
        )  # fmt: skip
        return (
            sol.ys,
            jax.vmap(lambda y: jax.jacfwd(lambda y: field(0.0, y, None))(y))(sol.ys),
            nde.measured(sol, nde.step_max),
        )

    with jax.enable_x64(True):
        ys, jacobians, largest = solve(jnp.array([2.0, 0.0]))
        kept = np.isfinite(ys[:, 0])
        eigenvalue = np.max(np.abs(np.linalg.eigvals(np.asarray(jacobians)[kept])))
        np.testing.assert_allclose(largest, eigenvalue, rtol=0.02)  # the estimate is taken between two states of a step


# Solver, its noise if the equation is an SDE, and whether two of its stages share a time.
SOLVERS = [
    (dfx.Tsit5(), None, True),
    pytest.param(dfx.SPaRK(), lambda y: 0.2 * jnp.cos(y), False, marks=pytest.mark.slow),
    pytest.param(dfx.Heun(), None, False, marks=pytest.mark.slow),
    pytest.param(dfx.Dopri5(), None, True, marks=pytest.mark.slow),
    pytest.param(dfx.Dopri8(), None, True, marks=pytest.mark.slow),
    pytest.param(dfx.Bosh3(), None, False, marks=pytest.mark.slow),
    pytest.param(dfx.ShARK(), lambda y: jnp.full(SIZE, 0.2), False, marks=pytest.mark.slow),
    pytest.param(dfx.SRA1(), lambda y: jnp.full(SIZE, 0.2), False, marks=pytest.mark.slow),
]


def field(t, y, args):
    return 4 * jnp.tanh(args @ jnp.append(y, t))


def numbers(sol):
    """Sums and maxima of all measures as one vector."""
    both = nde.measured(sol, lambda measure: jnp.stack([measure.total, measure.largest]))
    return jnp.concatenate(jax.tree.leaves(both))


@pytest.mark.parametrize(("solver", "scale", "pair"), SOLVERS, ids=lambda item: name(item))
def test_gradients_are_those_of_differences_on_the_same_steps(solver, scale, pair):
    rtol = 1e-3 if solver.order(None) > 2 else 1e-2 if scale is None else 5e-2
    error = nde.LocalError(rtol=rtol, atol=rtol / 10)
    measures = [error, dataclasses.replace(error, power=2, dt_power=0), nde.LocalError(rtol=0.0, atol=1.0)]
    measures += [nde.DirectionalStiffness()] + [nde.Stiffness(), nde.Stiffness(dt_power=1)] * pair

    def solve(weights, controller, dt0, adjoint, **save):
        terms = dfx.ODETerm(field) if scale is None else noisy(field, SIZE, scale=scale)
        return dfx.diffeqsolve(
            terms, nde.Monitored(solver, measures), 0.0, 0.9, dt0, jnp.array([0.3, -0.2, 0.5]), weights,
            stepsize_controller=controller, adjoint=adjoint, max_steps=STEPS,
            saveat=dfx.SaveAt(solver_state=True, **save),
        )  # fmt: skip

    with jax.enable_x64(True):
        adaptive = dfx.PIDController(rtol, rtol / 10, dtmin=2.0**-8)
        rng = np.random.default_rng(1)
        weights, along = (jnp.asarray(rng.standard_normal((SIZE, SIZE + 1))) for _ in range(2))

        @eqx.filter_jit
        def reverse(weights):
            def mixed(weights):
                sol = solve(weights, adaptive, 0.9, dfx.RecursiveCheckpointAdjoint(), t0=True, steps=True)
                values = numbers(sol)
                return jnp.arange(1.0, len(values) + 1) @ (values / jax.lax.stop_gradient(values)), (sol.ts, sol.stats)

            return jax.grad(mixed, has_aux=True)(weights)

        @eqx.filter_jit
        def forward(weights):
            return jax.jvp(lambda w: numbers(solve(w, adaptive, 0.9, dfx.ForwardMode())), (weights,), (along,))

        @eqx.filter_jit
        def replayed(shift, ts):
            at = lambda s: numbers(solve(weights + s * along, dfx.StepTo(ts), None, dfx.ForwardMode()))
            return jax.vmap(at)(shift)

        gradient, (ts, stats) = reverse(weights)
        values, slopes = forward(weights)
        assert stats["num_rejected_steps"] > 0
        # Differences of fourth order: the rounding of an error estimate over the shift limits them.
        shift = 1e-4
        at = replayed(shift * jnp.array([0.0, 1.0, -1.0, 2.0, -2.0]), ts[: int(stats["num_accepted_steps"]) + 1])
        differences = (8 * (at[1] - at[2]) - (at[3] - at[4])) / (12 * shift)
        np.testing.assert_allclose(at[0], values, rtol=1e-8)  # rejected steps are in none; rounding of Levy areas
        np.testing.assert_allclose(slopes / values, differences / values, rtol=1e-5, atol=1e-7)
        mixed = np.arange(1.0, len(values) + 1) @ (slopes / values)
        np.testing.assert_allclose(jnp.sum(gradient * along), mixed, rtol=1e-9)


def test_measures_say_what_they_need():
    def step(solver, terms=None):
        return nde.one_step(linear(-1.0) if terms is None else terms, solver, 0.0, 0.1, jnp.ones(SIZE))

    with pytest.raises(ValueError, match=r"Euler estimates no error\. Wrap it in diffrax\.HalfSolver"):
        nde.LocalError(rtol=0.1, atol=0.1)(step(dfx.Euler()))
    with pytest.raises(
        ValueError, match=r"LocalError needs both tolerances outside of a penalty, got rtol 0\.1 and atol None"
    ):
        nde.LocalError(rtol=0.1)(step(dfx.Heun()))
    with pytest.raises(ValueError, match=r"Bosh3 has no two stages at one time.*DirectionalStiffness"):
        nde.Stiffness()(step(dfx.Bosh3()))
    with pytest.raises(ValueError, match="reads the tableau of an explicit Runge-Kutta method, and Euler is none"):
        nde.Stiffness()(step(dfx.HalfSolver(dfx.Euler())))
    with pytest.raises(
        ValueError, match="Kvaerno3 takes the tolerances of its root finder from a step size controller"
    ):
        step(dfx.Kvaerno3())
    control = dfx.LinearInterpolation(jnp.array([0.0, 1.0]), jnp.array([[0.0], [1.0]]))
    controlled = dfx.ControlTerm(lambda t, y, args: y[:, None], control)
    with pytest.raises(ValueError, match=r"differentiates a diffrax\.ODETerm.*found none in ControlTerm"):
        nde.DirectionalStiffness()(step(dfx.Euler(), controlled))
