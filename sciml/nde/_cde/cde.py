"""Neural controlled differential equations."""

import dataclasses
from collections.abc import Callable
from typing import Any, final

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from sciml.nde._cde.control import Control, Interpolation, hermite_control
from sciml.nde._solve.solve import Aux, Solve, regularised


@final
class MatrixField(eqx.Module):
    """A network that maps the hidden state to a matrix (hidden, channels), with tanh behind its last layer.

    Without the final tanh such fields grow too fast for training to succeed (Kidger et al. 2020). Time enters as a
    channel of the control, not as an argument, so that solutions do not depend on the path's parameter.

    Attributes:
        network: From (hidden,) to (hidden * channels,).
        hidden: Size of the state.
    """

    network: eqx.nn.MLP
    hidden: int = eqx.field(static=True)

    def __init__(
        self,
        hidden: int,
        channels: int,
        *,
        width: int = 64,
        depth: int = 2,
        activation: Callable[[Array], Array] = jax.nn.silu,
        key: PRNGKeyArray,
    ) -> None:
        """Draws the weights.

        Args:
            hidden: Size of the state.
            channels: Of the control, time included: for `LogSignatureControl`, its `channels`.
            width: Of the hidden layers.
            depth: Number of hidden layers.
            activation: Nonlinearity of the hidden layers. The source has relu, at whose kinks adaptive solvers err by
                far more than their tolerance.
            key: Of the random initial values.
        """
        self.network = eqx.nn.MLP(
            hidden, hidden * channels, width, depth, activation=activation, final_activation=jnp.tanh, key=key
        )
        self.hidden = hidden

    def __call__(self, t: Any, z: Float[Array, " hidden"], args: Any) -> Float[Array, "hidden channels"]:
        """The matrix that multiplies the derivative of the control."""
        return self.network(z).reshape(self.hidden, -1)


def observation_counts(xs: Float[Array, "times channels"]) -> Float[Array, "times channels"]:
    """How often each channel has been observed up to each time: the observational intensity of Kidger et al. 2020."""
    return jnp.cumsum(~jnp.isnan(xs), axis=0).astype(xs.dtype)


@final
class NeuralCDE(eqx.Module):
    r"""Neural controlled differential equation: a hidden state driven by a series.

    .. math::  z(t_0) = \zeta(t_0, x_0), \qquad dz = f(z) \, dX(t), \qquad y(t) = \ell(z(t))

    X is a continuous path through (t, x, features); its first channel is time. Times may be irregular and values
    missing (NaN). With `LogSignatureControl` it is the neural rough differential equation of Morrill et al. 2021, and
    with `LieBracketField` as the field too, the log-ODE method for f itself.

    A piecewise linear path is integrated by increments, by an adaptive controller between its corners, so that no step
    sees two slopes; a smooth one as the ODE with :math:`f(z) \, dX/dt`.

    Source: Kidger, Morrill, Foster, Lyons 2020, arXiv:2005.08926.

    Attributes:
        initial: zeta, from the row (t_0, x_0, features) to the state.
        field: f, `(t, z, args) -> (hidden, channels)` as diffrax calls it, such as `MatrixField`.
        readout: The map l of one state.
        interpolation: Makes the path from `(ts, xs)`.
        features: Makes further channels from the series with its gaps, such as `observation_counts`; None for none.
        solve: Solver, step sizes, adjoint and regulariser.
    """

    initial: Callable[[Array], Array]
    field: Callable[[Any, Array, Any], Array]
    readout: Callable[[Array], Array]
    interpolation: Interpolation = eqx.field(static=True, default=hermite_control)
    features: Callable[[Array], Array] | None = eqx.field(static=True, default=None)
    solve: Solve = Solve()

    def __call__(self, ts: Float[Array, " times"], xs: Float[Array, "times channels"]) -> Float[Array, "..."]:
        """The output at the last time. Raises as `solution`."""
        control = self.control(ts, xs)
        ends = jnp.stack([control.knots[0], control.knots[-1]])
        states, _ = regularised(self, None)._integrate(control, ends, None)
        return self.readout(states[-1])

    def trajectory(self, ts: Float[Array, " times"], xs: Float[Array, "times channels"]) -> Float[Array, "knots ..."]:
        """The outputs at all times, or at the ends of the windows of `LogSignatureControl`. Raises as `solution`."""
        return jax.vmap(self.readout)(regularised(self, None).solution(ts, xs)[0])

    def solution(
        self, ts: Float[Array, " times"], xs: Float[Array, "times channels"], *, key: PRNGKeyArray | None = None
    ) -> tuple[Float[Array, "knots hidden"], Aux]:
        """The states at the knots of the path, and the penalty and statistics of the solve.

        Args:
            ts: Increasing times.
            xs: Values, NaN where they are missing.
            key: For a regulariser that draws at random.

        Raises:
            ValueError: As for the interpolation, and as `Solve.run`.
        """
        control = self.control(ts, xs)
        return self._integrate(control, control.knots, key)

    def control(self, ts: Float[Array, " times"], xs: Float[Array, "times channels"]) -> Control:
        """The path that drives the state."""
        series = xs if self.features is None else jnp.concatenate([xs, self.features(xs)], axis=1)
        return self.interpolation(ts, series)

    def _integrate(self, control: Control, knots: Array, key: PRNGKeyArray | None) -> tuple[Array, Aux]:
        term, solve = dfx.ControlTerm(self.field, control.path), self.solve
        if control.corners is None:
            term = term.to_ode()
        elif isinstance(solve.controller, dfx.AbstractAdaptiveStepSizeController):
            controller = dfx.ClipStepSizeController(solve.controller, step_ts=control.corners)
            solve = dataclasses.replace(solve, controller=controller)
        return solve.run(term, self.initial(control.start), knots, key=key)
