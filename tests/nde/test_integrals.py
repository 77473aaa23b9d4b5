"""Running integrals against closed forms of linear equations, and what they must not change."""

import itertools
import math

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest
import scipy.linalg

from sciml import nde
from sciml.nde._solve import integrals, regularisers

SIZE, END = 3, 1.5
A = np.array([[-0.4, 1.1, 0.2], [-0.9, 0.1, 0.5], [0.3, -0.7, -0.6]])
Y0 = np.array([1.0, -0.5, 2.0])
TIGHT = nde.Solve(controller=dfx.PIDController(rtol=1e-9, atol=1e-9))


class Linear(eqx.Module):
    matrix: jax.Array

    def __call__(self, t, y, args):
        return self.matrix @ y


def riccati(t, y, args):
    """The field of y = 1 / (1 / y0 - t), whose K-th derivative is K! y^(K+1)."""
    return y**2


def forced(t, y, args):
    return -y + jnp.sin(2 * t)


def quadratic(matrix):
    """The integral of |matrix y|^2 over [0, END] along y' = A y, by a matrix exponential (Van Loan 1978)."""
    m = matrix.T @ matrix
    block = scipy.linalg.expm(END * np.block([[-A.T, m], [np.zeros_like(A), A]]))
    f12, f22 = block[:SIZE, SIZE:], block[SIZE:, SIZE:]
    return Y0 @ f22.T @ f12 @ Y0


def at(integrand, field, t, y):
    return integrand(t, y, field(t, y, None), None, field)


def test_integrals_of_a_linear_equation_equal_their_closed_forms():
    integrands = {
        "kinetic": nde.kinetic_energy,
        "mean kinetic": nde.per_dimension(nde.kinetic_energy),
        "divergence": nde.divergence,
        "frobenius": nde.jacobian_frobenius,
        **{f"taylor {k}": nde.taylor(k) for k in (1, 2, 3)},
    }
    expected = {
        "kinetic": quadratic(A),
        "mean kinetic": quadratic(A) / SIZE,
        "divergence": END * np.trace(A),
        "frobenius": END * np.sum(A**2),
        **{f"taylor {k}": quadratic(np.linalg.matrix_power(A, k)) for k in (1, 2, 3)},
    }
    with jax.enable_x64(True):
        solve = eqx.filter_jit(lambda f, y, ts: TIGHT(f, y, ts, integrands=integrands))
        ys, aux = solve(Linear(jnp.asarray(A)), jnp.asarray(Y0), jnp.array([0.0, 0.7, END]))
        np.testing.assert_allclose(ys[-1], scipy.linalg.expm(END * A) @ Y0, rtol=1e-7)  # tolerance 1e-9 per step
        for name, value in expected.items():
            assert aux.integrals[name][0] == 0
            np.testing.assert_allclose(aux.integrals[name][-1], value, rtol=1e-7, err_msg=name)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_taylor_equals_the_derivative_of_an_exact_solution(order):
    with jax.enable_x64(True):
        y = jnp.array([0.7, -1.2])
        exact = np.sum((math.factorial(order) * np.asarray(y) ** (order + 1)) ** 2)
        np.testing.assert_allclose(at(nde.taylor(order), riccati, jnp.asarray(0.3), y), exact, rtol=1e-12)


def test_taylor_differentiates_in_time_too():
    with jax.enable_x64(True):
        t, y = 0.4, 0.9
        first = -y + np.sin(2 * t)
        second = -first + 2 * np.cos(2 * t)
        third = -second - 4 * np.sin(2 * t)
        value = at(nde.taylor(3), forced, jnp.asarray(t), jnp.array([y]))
        np.testing.assert_allclose(value, third**2, rtol=1e-12)


def test_a_taylor_order_below_one_is_refused():
    with pytest.raises(ValueError, match=r"order of a derivative, 1 or more, got 0"):
        nde.taylor(0)


def test_integrals_do_not_change_the_steps_unless_the_norm_sees_them():
    fast = {"fast": lambda t, y, dy, args, field: jnp.cos(60 * t) * 100}
    with jax.enable_x64(True):
        field, y0, ts = Linear(jnp.asarray(A)), jnp.asarray(Y0), jnp.array([0.0, 0.7, END])
        plain, no_integral = eqx.filter_jit(TIGHT)(field, y0, ts)
        ys, aux = eqx.filter_jit(lambda f, y, ts: TIGHT(f, y, ts, integrands=fast))(field, y0, ts)
        assert {k: int(v) for k, v in aux.stats.items()} == {k: int(v) for k, v in no_integral.stats.items()}
        np.testing.assert_allclose(ys, plain, rtol=1e-12)  # rounding
        solved = dfx.diffeqsolve(
            dfx.ODETerm(integrals.with_integrals(field, fast)),
            TIGHT.solver,
            0.0,
            END,
            None,
            integrals.start_integrals(field, fast, 0.0, y0),
            stepsize_controller=TIGHT.controller,
        )
        assert solved.stats["num_steps"] > 2 * aux.stats["num_steps"]


@pytest.mark.parametrize(
    "adjoint",
    [
        pytest.param(dfx.RecursiveCheckpointAdjoint(), id="steps"),
        pytest.param(dfx.BacksolveAdjoint(), id="ode", marks=pytest.mark.slow),
    ],
)
def test_integrals_are_differentiated_in_the_field(adjoint):
    with jax.enable_x64(True):
        solve = nde.Solve(controller=TIGHT.controller, adjoint=adjoint)
        ts = jnp.array([0.0, END])

        @jax.jit
        @jax.grad
        def slope(matrix):
            integrands = {"divergence": nde.divergence}
            return solve(Linear(matrix), jnp.asarray(Y0), ts, integrands=integrands)[1].integrals["divergence"][-1]

        np.testing.assert_allclose(slope(jnp.asarray(A)), END * np.eye(SIZE), atol=1e-9)  # d trace(A) T / dA


def test_hutchinson_is_exact_in_the_mean_over_all_signs():
    with jax.enable_x64(True):
        field = nde.MLPField(SIZE, widths=(5,), key=jax.random.key(0))
        t, y = jnp.asarray(0.3), jnp.asarray(Y0)
        signs = jnp.array(list(itertools.product([-1.0, 1.0], repeat=SIZE)))
        pairs = [
            (nde.HutchinsonDivergence, nde.divergence),
            (nde.HutchinsonFrobenius, nde.jacobian_frobenius),
        ]
        for estimate, exact in pairs:
            values = jax.vmap(lambda e, estimate=estimate: at(estimate(e), field, t, y))(signs)
            np.testing.assert_allclose(values.mean(), at(exact, field, t, y), rtol=1e-12)
            assert values.std() > 1e-3


@pytest.mark.parametrize("draw", [jax.random.rademacher, jax.random.normal])
def test_probes_are_independent_with_unit_variance(draw):
    state = {"a": jnp.zeros((200, 30)), "b": jnp.zeros((200, 10), jnp.float32)}
    drawn = nde.probe(state, draw=draw, key=jax.random.key(1))
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), drawn) == {
        name: (leaf.shape, leaf.dtype) for name, leaf in state.items()
    }
    rows = np.concatenate([drawn["a"], drawn["b"]], axis=1)
    covariance = rows.T @ rows / 200
    assert np.abs(covariance - np.eye(40)).max() < 5 * np.sqrt(2 / 200)  # 5 standard errors of a variance


def test_states_may_be_pytrees():
    with jax.enable_x64(True):
        field = lambda t, y, args: {"a": 2 * y["b"], "b": -y["a"] + 3 * y["b"]}
        y = {"a": jnp.array([1.0]), "b": jnp.array([0.5])}
        t, probe = jnp.asarray(0.0), {"a": jnp.array([1.0]), "b": jnp.array([-1.0])}
        jacobian = np.array([[0.0, 2.0], [-1.0, 3.0]])
        assert at(nde.divergence, field, t, y) == 3
        assert at(nde.jacobian_frobenius, field, t, y) == 14
        assert at(nde.HutchinsonDivergence(probe), field, t, y) == np.array([1, -1]) @ jacobian @ np.array([1, -1])
        assert at(nde.taylor(2), field, t, y) == np.sum((jacobian @ jacobian @ np.array([1.0, 0.5])) ** 2)


DIAGONAL = np.array([0.5, 2.0, 1.5])
LOWER = np.array([[1.0, 0.0, 0.0], [0.3, -1.0, 0.0], [0.2, 0.6, 2.0]])
WIDE = np.array([[1.0, 0.2, 0.0, 0.4], [0.3, -1.0, 0.5, 0.0], [0.0, 0.6, 2.0, -0.3]])


@pytest.mark.parametrize(
    ("noise", "matrix"),
    [
        (lambda: jnp.asarray(DIAGONAL), np.diag(DIAGONAL)),
        (lambda: jnp.asarray(0.7), 0.7 * np.eye(SIZE)),
        (lambda: jnp.asarray(WIDE[:, :3]), WIDE[:, :3]),
        (lambda: jnp.asarray(WIDE), WIDE),
        (lambda: lx.DiagonalLinearOperator(jnp.asarray(DIAGONAL)), np.diag(DIAGONAL)),
        (lambda: lx.MatrixLinearOperator(jnp.asarray(LOWER), lx.lower_triangular_tag), LOWER),
    ],
    ids=["diagonal", "number", "square", "wide", "operator", "triangular"],
)  # fmt: skip
def test_the_kl_integrand_inverts_every_kind_of_diffusion(noise, matrix):
    with jax.enable_x64(True):
        field, prior = Linear(jnp.asarray(A)), lambda t, y, args: -y + t
        value = at(nde.kl_path(prior, lambda t, y, args: noise()), field, jnp.asarray(0.3), jnp.asarray(Y0))
        exact = 0.5 * np.sum((np.linalg.pinv(matrix) @ (A @ Y0 + Y0 - 0.3)) ** 2)
        np.testing.assert_allclose(value, exact, rtol=1e-11)


def test_the_kl_of_ornstein_uhlenbeck_drifts_along_a_path():
    """Drifts -a y and -b y along y = y0 exp(-a t): (b - a)^2 y0^2 (1 - exp(-2 a T)) / (4 a s^2)."""
    a, b, s = 0.8, 1.7, 0.6
    with jax.enable_x64(True):
        kl = nde.kl_path(lambda t, y, args: -b * y, lambda t, y, args: jnp.full_like(y, s))
        ts = jnp.array([0.0, END])
        _, aux = TIGHT(lambda t, y, args: -a * y, jnp.asarray(Y0), ts, integrands={"kl": kl})
        exact = (b - a) ** 2 * np.sum(Y0**2) * (1 - np.exp(-2 * a * END)) / (4 * a * s**2)
        np.testing.assert_allclose(aux.integrals["kl"][-1], exact, rtol=1e-7)


def test_noise_that_leaves_directions_out_is_refused():
    kl = nde.kl_path(forced, lambda t, y, args: jnp.ones((3, 2)))
    with pytest.raises(ValueError, match=r"3 states by 2 noises.* at least as many noises as states"):
        at(kl, forced, jnp.asarray(0.0), jnp.zeros(3))


def test_steer_draws_uniformly_around_the_end():
    ends = jax.vmap(lambda key: regularisers.steer(key, 2.0, 0.5))(jax.random.split(jax.random.key(0), 4000))
    assert ends.min() > 1.5
    assert ends.max() < 2.5
    np.testing.assert_allclose(ends.mean(), 2, atol=5 * 0.5 / np.sqrt(3 * 4000))  # 5 standard errors
    np.testing.assert_allclose(ends.std(), 0.5 / np.sqrt(3), rtol=0.05)


def test_steered_times_keep_their_order_and_the_first():
    ts = jnp.array([0.0, 1.0, 1.2, 2.0, 2.1])
    draws = jax.vmap(lambda key: regularisers.steer_times(key, ts))(jax.random.split(jax.random.key(0), 2000))
    assert (np.diff(draws, axis=1) > 0).all()
    assert (draws[:, 0] == 0).all()
    reach = np.array([0.0, 0.1, 0.1, 0.05, 0.05])  # half of the smaller gap
    moved = np.abs(draws - ts[None])
    assert (moved <= reach + 1e-6).all()
    assert (moved.max(axis=0) >= 0.95 * reach).all()
    backwards = jax.vmap(lambda key: regularisers.steer_times(key, -ts))(jax.random.split(jax.random.key(0), 100))
    assert (np.diff(backwards, axis=1) < 0).all()
