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
    """A network that maps the hidden state to a matrix of shape (hidden, channels), with tanh after its last layer.

    Without the final tanh such fields grow too fast for training to succeed (Kidger et al. 2020). The network gets time
    as a channel of the control, not as an argument, so that solutions do not depend on how the path is parametrised.

    Attributes:
        network: Maps shape (hidden,) to (hidden * channels,).
        hidden: Size of the hidden state.
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
        """Initialises the weights.

        Args:
            hidden: Size of the hidden state.
            channels: Number of channels of the control, including time; for `LogSignatureControl` the result of its
                method `channels`.
            width: Width of the hidden layers.
            depth: Number of hidden layers.
            activation: Activation of the hidden layers. The source uses ReLU, at whose kinks the errors of adaptive
                solvers far exceed the tolerance.
            key: Random key for the weights.
        """
        self.network = eqx.nn.MLP(
            hidden, hidden * channels, width, depth, activation=activation, final_activation=jnp.tanh, key=key
        )
        self.hidden = hidden

    def __call__(self, t: Any, z: Float[Array, " hidden"], args: Any) -> Float[Array, "hidden channels"]:
        """The matrix that multiplies the derivative of the control."""
        return self.network(z).reshape(self.hidden, -1)


def observation_counts(xs: Float[Array, "times channels"]) -> Float[Array, "times channels"]:
    """Number of observations of each channel up to each time: the observational intensity of Kidger et al. 2020."""
    return jnp.cumsum(~jnp.isnan(xs), axis=0).astype(xs.dtype)


@final
class NeuralCDE(eqx.Module):
    r"""Neural controlled differential equation: a hidden state driven by a time series.

    .. math::  z(t_0) = \zeta(t_0, x_0), \qquad dz = f(z) \, dX(t), \qquad y(t) = \ell(z(t))

    X is a continuous path through (t, x, features); its first channel is time. Times may be irregular and values
    missing (NaN). With `LogSignatureControl` the model is the neural rough differential equation of Morrill et al.
    2021; with `LieBracketField` as the field in addition, it is the log-ODE method for the field inside.

    For a smooth path, the equation is solved as the ODE :math:`dz/dt = f(z) \, dX/dt`. For a piecewise linear path, the
    solver uses the increments of X, and adaptive controllers step exactly to its corners, so that no step crosses one.

    Source: Kidger, Morrill, Foster, Lyons 2020, arXiv:2005.08926.

    Attributes:
        initial: zeta, maps the first row (t_0, x_0, features) to the initial state.
        field: f, `(t, z, args) -> (hidden, channels)`, such as `MatrixField`.
        readout: l, maps one state to the output.
        interpolation: Makes the path from `(ts, xs)`.
        features: Computes additional channels from `xs` (with NaN), such as `observation_counts`; None for none.
        solve: Solver, step sizes, adjoint and regulariser.
    """

    initial: Callable[[Array], Array]
    field: Callable[[Any, Array, Any], Array]
    readout: Callable[[Array], Array]
    interpolation: Interpolation = eqx.field(static=True, default=hermite_control)
    features: Callable[[Array], Array] | None = eqx.field(static=True, default=None)
    solve: Solve = Solve()

    def __call__(self, ts: Float[Array, " times"], xs: Float[Array, "times channels"]) -> Float[Array, "..."]:
        """The output at the last time. Raises the errors of `solution`."""
        control = self.control(ts, xs)
        ends = jnp.stack([control.knots[0], control.knots[-1]])
        states, _ = regularised(self, None)._integrate(control, ends, None)
        return self.readout(states[-1])

    def trajectory(self, ts: Float[Array, " times"], xs: Float[Array, "times channels"]) -> Float[Array, "knots ..."]:
        """The outputs at all times (window ends with `LogSignatureControl`). Raises the errors of `solution`."""
        return jax.vmap(self.readout)(regularised(self, None).solution(ts, xs)[0])

    def solution(
        self, ts: Float[Array, " times"], xs: Float[Array, "times channels"], *, key: PRNGKeyArray | None = None
    ) -> tuple[Float[Array, "knots hidden"], Aux]:
        """The states at the knots of the path, and the penalty and statistics of the solve.

        Args:
            ts: Increasing times.
            xs: Values, NaN where they are missing.
            key: Random key for a regulariser that needs one.

        Raises:
            ValueError: In the cases of the interpolation and of `Solve.run`.
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
