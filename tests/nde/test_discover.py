"""Equations from data: thresholds and sets of terms by exhaustive search, known systems from noisy trajectories."""

import itertools

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.integrate
import sympy

from sciml import nde, symbolic
from sciml.nde._discovery.regression import stepwise_regression, thresholded_least_squares
from sciml.symbolic import parameters, skeleton, states

u, v = states(2)
x, y, z = states(3)
LOTKA_VOLTERRA = (1.5 * u + -1.0 * (u * v), -3.0 * v + 1.0 * (u * v))
LORENZ = (-10.0 * x + 10.0 * y, 28.0 * x + -1.0 * y + -1.0 * (x * z), (-8 / 3) * z + 1.0 * (x * y))
QUADRATIC = nde.polynomials(states(2), 2)


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def solution(system, start, ts):
    names = [one.name for one in states(len(start))]
    field = sympy.lambdify(["t", names], [symbolic.to_sympy(tree) for tree in system])
    span = (ts[0], ts[-1])
    return scipy.integrate.solve_ivp(field, span, start, "DOP853", t_eval=ts, rtol=1e-11, atol=1e-12).y.T


def with_noise(ys, seed):
    """2 % of the root mean square of each component."""
    return ys + 0.02 * np.sqrt(np.mean(ys**2, 0)) * np.random.default_rng(seed).normal(size=ys.shape)


TS = np.linspace(0, 20, 401)


@pytest.fixture(scope="module")
def cycles():
    return solution(LOTKA_VOLTERRA, [2.0, 1.0], TS)


def test_libraries_hold_each_term_once():
    text = [symbolic.to_text(term) for term in (*nde.polynomials((u, v), 3), *nde.sines((v,)))]
    cubic = ["u_0 ** 3", "u_0 ** 2 * u_1", "u_0 * u_1 ** 2", "u_1 ** 3"]
    assert text == ["1", "u_0", "u_1", "u_0 ** 2", "u_0 * u_1", "u_1 ** 2", *cubic, "sin(u_1)", "cos(u_1)"]
    assert len(nde.polynomials(states(3), 4)) == 35  # (3 + 4)! / (3! 4!)
    with pytest.raises(ValueError, match="a degree of 0 or more, got -1"):
        nde.polynomials((u,), -1)


def test_orthogonal_terms_are_kept_if_they_contribute_more_than_the_threshold():
    basis = np.linalg.qr(np.random.default_rng(0).normal(size=(9, 5)))[0]
    units, share = np.array([1e3, 1e-3, 1.0, 7.0, 2.0]), np.array([0.8, 0.05, -0.3, 0.5, 0.0])
    share = share / np.linalg.norm(share)
    for threshold in (0.01, 0.1, 0.4):
        found = thresholded_least_squares(basis * units, basis @ share, threshold)
        np.testing.assert_allclose(found, np.where(np.abs(share) > threshold, share, 0) / units, rtol=1e-12, atol=1e-15)
    assert not thresholded_least_squares(np.zeros((4, 2)), np.ones(4), 0.1).any()


def test_what_is_left_is_fitted_again_after_a_term_has_gone():
    rng = np.random.default_rng(1)
    matrix = rng.normal(size=(30, 3))
    matrix[:, 2] += matrix[:, 0]
    target = matrix[:, 0] + 0.01 * matrix[:, 1]
    found = thresholded_least_squares(matrix, target, 0.1)
    alone = matrix[:, 0] @ target / (matrix[:, 0] @ matrix[:, 0])
    np.testing.assert_allclose(found, [alone, 0, 0], rtol=1e-12)
    assert np.linalg.norm(target - matrix @ found) < 0.02 * np.linalg.norm(target)


def test_single_moves_find_the_best_of_all_sets():
    rng = np.random.default_rng(2)
    matrix = rng.normal(size=(40, 6)) @ (np.eye(6) + 0.3 * rng.normal(size=(6, 6)))
    target = matrix[:, [1, 4]] @ [1.0, -2.0] + 0.5 * rng.normal(size=40)
    sets = [list(one) for k in range(7) for one in itertools.combinations(range(6), k)]

    def criterion(one):
        left = target - matrix[:, one] @ np.linalg.lstsq(matrix[:, one], target, rcond=None)[0] if one else target
        return 40 * np.log(left @ left / 40) + len(one) * np.log(40)

    best = min(sets, key=criterion)
    found = stepwise_regression(matrix, target)
    assert np.flatnonzero(found).tolist() == best == [1, 4]
    np.testing.assert_allclose(found[best], np.linalg.lstsq(matrix[:, best], target, rcond=None)[0], rtol=1e-10)
    chosen = nde.sparse_regression(matrix, target, (1e-3, 0.1, 0.9))
    assert np.flatnonzero(chosen).tolist() == best


def test_the_weak_form_needs_no_equal_steps():
    ts = np.linspace(0, 2, 201) + np.random.default_rng(3).uniform(-0.004, 0.004, 201)
    ys = np.stack((np.exp(-ts), np.sin(2 * ts)), 1)
    terms = np.stack((ys[:, 0], np.cos(2 * ts)), 1)
    matrix, targets = nde.WeakForm(25)(ts, ys[None], terms[None])
    found = np.linalg.lstsq(matrix, targets, rcond=None)[0]
    np.testing.assert_allclose(found, [[-1, 0], [0, 2]], atol=5e-5)  # splines of order 4 in steps of 0.01


@pytest.fixture(scope="module")
def found(cycles):
    with jax.enable_x64(True):
        return nde.discover(TS, cycles, QUADRATIC, segments=12)


def test_data_without_noise_give_the_equation(found):
    assert skeleton(found.system) == skeleton(LOTKA_VOLTERRA)
    np.testing.assert_allclose(parameters(found.system), parameters(LOTKA_VOLTERRA), rtol=1e-6)  # solved to 1e-8
    assert found.residual < 1e-6


def test_the_equation_prints_and_solves_again(found, cycles):
    names = [symbolic.to_text(tree) for tree in symbolic.skeleton(found.system)]
    assert names == ["PLACEHOLDER * u_0 + PLACEHOLDER * (u_0 * u_1)", "PLACEHOLDER * u_1 + PLACEHOLDER * (u_0 * u_1)"]
    assert symbolic.to_latex(found.system[0]) == r"1.5 \, u_{0} - 1 \, u_{0} \, u_{1}"
    assert symbolic.to_sympy(found.system[1]).coeff(symbolic.to_sympy(v)).subs("u_0", 0) is not None
    solve = nde.Solve(dfx.Tsit5(), dfx.PIDController(rtol=1e-8, atol=1e-8))
    model = nde.NeuralODE(symbolic.VectorField(found.system), solve)
    ys = eqx.filter_jit(model)(jnp.asarray(cycles[0]), jnp.asarray(TS))
    np.testing.assert_allclose(ys, cycles, rtol=1e-4)  # four cycles after constants within 1e-6


@pytest.mark.parametrize("seed", range(4))
def test_lotka_volterra_with_noise(seed, cycles):
    found = nde.discover(TS, with_noise(cycles, seed), QUADRATIC, segments=12)
    assert skeleton(found.system) == skeleton(LOTKA_VOLTERRA)
    np.testing.assert_allclose(parameters(found.system), parameters(LOTKA_VOLTERRA), rtol=0.02)
    np.testing.assert_allclose(found.noise, 0.02 * np.sqrt(np.mean(cycles**2, 0)), rtol=0.15)  # 4 / sqrt(2 * 401)
    standard = np.abs(parameters(found.system) - parameters(LOTKA_VOLTERRA)) / found.errors
    assert standard.max() < 4
    assert found.residual == pytest.approx(
        np.sqrt(np.mean((found.noise / with_noise(cycles, seed).std(0)) ** 2)), rel=1e-3
    )


@pytest.mark.slow
def test_lorenz_with_noise():
    ts = np.linspace(0, 20, 2001)
    ys = with_noise(solution(LORENZ, [-8.0, 7.0, 27.0], ts), 0)
    found = nde.discover(ts, ys, nde.polynomials(states(3), 2), segments=40)
    assert skeleton(found.system) == skeleton(LORENZ)
    np.testing.assert_allclose(parameters(found.system), parameters(LORENZ), rtol=0.02)
    regression = found.regression
    assert (
        skeleton(regression) != skeleton(LORENZ)
        or np.abs(parameters(regression) / parameters(LORENZ) - 1).max()
        > np.abs(parameters(found.system) / parameters(LORENZ) - 1).max()
    )


def test_given_derivatives_several_trajectories_and_constants_inside_of_terms():
    ts = np.linspace(0, 6, 61)
    pendulum = (1.0 * v, -1.0 * symbolic.sin(1.0 * u))
    ys = np.stack([solution(pendulum, start, ts) for start in ([1.0, 0.0], [2.5, 0.3], [0.0, 1.5])])
    slopes = np.stack((ys[..., 1], -np.sin(ys[..., 0])), -1)
    library = (symbolic.as_expression(1), u, v, symbolic.sin(0.97 * u))
    found = nde.discover(ts, ys, library, segments=2, equations=nde.Derivatives(slopes), thresholds=(0.1,))
    assert skeleton(found.system) == skeleton((1.0 * v, -1.0 * symbolic.sin(1.0 * u)))
    np.testing.assert_allclose(parameters(found.system), [1, -1, 1], rtol=1e-6)


def test_a_trained_network_is_read_out(cycles):
    inputs, scale = jnp.asarray(cycles[::4]), jnp.asarray(cycles.std(0))
    interaction = jax.vmap(lambda y: jnp.stack((-y[0] * y[1], y[0] * y[1])))(inputs)
    network = eqx.nn.MLP(2, 2, 16, 2, jnp.tanh, key=jax.random.key(0))
    optimiser = optax.adam(optax.cosine_decay_schedule(1e-2, 2000))
    loss = lambda network: jnp.mean((jax.vmap(network)(inputs / scale[None]) - interaction) ** 2)
    arrays, static = eqx.partition(network, eqx.is_array)

    def step(carry, _):
        arrays, state = carry
        gradient = jax.grad(lambda one: loss(eqx.combine(one, static)))(arrays)
        change, state = optimiser.update(gradient, state)
        return (optax.apply_updates(arrays, change), state), None

    (arrays, _), _ = jax.jit(lambda carry: jax.lax.scan(step, carry, None, 2000))((arrays, optimiser.init(arrays)))
    trained = eqx.combine(arrays, static)
    assert 1e-5 < loss(trained) < 1e-2  # trained, and not exactly the interaction
    net = lambda t, y, args: trained(y / scale)
    part = nde.read_out(net, cycles[::3], QUADRATIC, thresholds=(0.1,))
    assert skeleton(part) == skeleton((-1.0 * (u * v), 1.0 * (u * v)))
    np.testing.assert_allclose(parameters(part), [-1, 1], rtol=0.02)


def test_read_out_takes_the_time_and_extra_arguments():
    ts = np.linspace(0, 3, 31)
    ys = np.random.default_rng(4).normal(size=(31, 2))
    t = symbolic.Variable("t")
    field = lambda t, y, args: jnp.stack((args * y[0] * t, 0 * y[1], 2.0 + y[1]))
    found = nde.read_out(field, ys, (*QUADRATIC, u * t), ts=ts, args=3.0)
    assert found[1] == symbolic.Integer(0)
    assert skeleton((found[0], found[2])) == skeleton((1.0 * (u * t), 1.0 + 1.0 * v))
    np.testing.assert_allclose(parameters(found), [3, 2, 1], rtol=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda ys: nde.discover(TS[::-1], ys, QUADRATIC, segments=4), "Expected increasing times. Sort"),
        (
            lambda ys: nde.discover(TS, ys * np.inf, QUADRATIC, segments=4),
            "Expected finite states, got 802 that are not",
        ),
        (lambda ys: nde.discover(TS[:5], ys[:5], QUADRATIC, segments=1), "6 terms cannot be told apart by 5 states"),
        (lambda ys: nde.discover(TS[:9], ys[:9], QUADRATIC, segments=1), "6 terms cannot be told apart by 5 equations"),
        (lambda ys: nde.discover(TS, ys, (u, symbolic.log(-u)), segments=4), r"term log\(-u_0\) is not finite at all"),
        (
            lambda ys: nde.discover(TS, ys, (u, v), segments=1, equations=nde.Derivatives(ys[:9])),
            r"finite derivatives at all states, that is of shape \(1, 401, 2\), got \(9, 2\)",
        ),
        (lambda ys: nde.read_out(lambda t, y, args: y / 0, ys, QUADRATIC), "finite values of the field there. Leave"),
        (lambda ys: nde.sparse_regression(ys, ys[:, 0], ()), "at least one threshold, got none"),
    ],
)
def test_wrong_data_are_refused(make, message, cycles):
    with pytest.raises(ValueError, match=message):
        make(cycles)


def test_an_equation_that_leaves_every_bound_is_refused():
    ts = np.linspace(0, 1, 21)
    explosive = symbolic.exp(symbolic.exp(u))
    with pytest.raises(ValueError, match=r"No equation of the regression could be solved.*Use more segments"):
        nde.discover(
            ts,
            1 + ts[:, None],
            (explosive,),
            segments=1,
            equations=nde.Derivatives(1e3 * np.exp(np.exp(1 + ts[:, None]))),
        )
