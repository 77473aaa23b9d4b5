"""The number of checkpoints of a solve: fewer than diffrax keeps for many steps, and the same gradients."""

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml.nde import Solve

TS = jnp.array([0.0, 1.0])


def kept(adjoint, max_steps):
    """The sizes of all arrays in the program of a gradient, which show the buffers of the checkpoints."""
    solve = Solve(dfx.Euler(), dfx.ConstantStepSize(), adjoint, dt0=0.1, max_steps=max_steps)
    loss = lambda a: jnp.sum(solve(lambda t, y, args: args * y, jnp.ones(7), TS, a)[0])
    return str(jax.make_jaxpr(jax.grad(loss))(0.5))


@pytest.mark.parametrize(
    ("adjoint", "max_steps", "expected"),
    [
        (dfx.RecursiveCheckpointAdjoint(), 4096, 64),
        (dfx.RecursiveCheckpointAdjoint(), 20, None),
        (dfx.RecursiveCheckpointAdjoint(checkpoints=33), 4096, 33),
    ],
)
def test_the_number_of_checkpoints(adjoint, max_steps, expected):
    text = kept(adjoint, max_steps)
    for count in (33, 64):
        assert (f"[{count},7]" in text) == (count == expected)


def test_gradients_through_more_steps_than_checkpoints():
    solve = Solve(dfx.Euler(), dfx.ConstantStepSize(), dt0=1 / 200)
    loss = lambda a: jnp.sum(solve(lambda t, y, args: args * y, jnp.ones(2), TS, a)[0][-1])
    value, slope = eqx.filter_jit(jax.value_and_grad(loss))(0.5)
    np.testing.assert_allclose(value, 2 * (1 + 0.5 / 200) ** 200, rtol=1e-4)
    np.testing.assert_allclose(slope, 2 * (1 + 0.5 / 200) ** 199, rtol=1e-4)
