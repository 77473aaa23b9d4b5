"""Deep equilibrium layers against the implicit function theorem of an affine map."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
import pytest

from sciml import nde

SIZE, IN, BATCH = 3, 2, 4
rng = np.random.default_rng(0)
A, B = 0.3 * rng.normal(size=(SIZE, SIZE)), rng.normal(size=(SIZE, IN))
X, C = rng.normal(size=IN), rng.normal(size=SIZE)
SOLVERS = [optx.FixedPointIteration(rtol=1e-12, atol=1e-12), optx.Newton(rtol=1e-10, atol=1e-10)]


class Affine(eqx.Module):
    a: jax.Array
    b: jax.Array

    def __call__(self, z, x):
        return self.a @ z + self.b @ x


@pytest.mark.parametrize("solver", SOLVERS, ids=["iteration", "newton"])
def test_value_and_gradients_of_an_affine_map(solver):
    """z = (1 - A)^-1 B x; with w = (1 - A)^-T c, d(c.z)/dA = w z^T, d(c.z)/dB = w x^T, d(c.z)/dx = B^T w."""
    with jax.enable_x64(True):
        value = lambda pair: jnp.dot(nde.DEQ(pair[0], SIZE, solver)(pair[1]), C)
        function = Affine(jnp.asarray(A), jnp.asarray(B))
        result, (slope, on_x) = eqx.filter_jit(eqx.filter_value_and_grad(value))((function, jnp.asarray(X)))
        z = np.linalg.solve(np.eye(SIZE) - A, B @ X)
        w = np.linalg.solve((np.eye(SIZE) - A).T, C)
        np.testing.assert_allclose(result, C @ z, rtol=1e-9)  # tolerances of the solvers
        np.testing.assert_allclose(slope.a, np.outer(w, z), rtol=1e-8)
        np.testing.assert_allclose(slope.b, np.outer(w, X), rtol=1e-8)
        np.testing.assert_allclose(on_x, B.T @ w, rtol=1e-8)


class Cell(eqx.Module):
    a: jax.Array
    b: jax.Array

    def __call__(self, z, x):
        return jnp.tanh(self.a @ z + self.b @ x)


def test_a_fixed_point_is_fixed_and_independent_of_its_guess_and_the_batch():
    with jax.enable_x64(True):
        function = Cell(jnp.asarray(A), jnp.asarray(B))
        model, xs = nde.DEQ(function, SIZE, SOLVERS[0]), jax.random.normal(jax.random.key(0), (BATCH, IN))
        run = eqx.filter_jit(model)
        loop = jnp.stack([run(x) for x in xs])
        np.testing.assert_allclose(jax.vmap(function)(loop, xs), loop, atol=1e-11)
        np.testing.assert_allclose(jax.jit(jax.vmap(model))(xs), loop, atol=1e-11)
        np.testing.assert_allclose(run(xs[0], jnp.ones(SIZE)), loop[0], atol=1e-11)


def test_the_type_of_the_result_follows_the_input():
    function = Affine(jnp.asarray(A, jnp.float32), jnp.asarray(B, jnp.float32))
    assert nde.DEQ(function, SIZE)(jnp.asarray(X, jnp.float32)).dtype == jnp.float32
