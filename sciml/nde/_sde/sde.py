"""Neural stochastic differential equations."""

import abc
from collections.abc import Callable
from typing import Any, final

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, Float, PRNGKeyArray

from sciml.nde._sde.brownian import AbstractBrownian
from sciml.nde._solve.integrals import Field
from sciml.nde._solve.solve import Aux, Solve, regularised


class AbstractNoise(eqx.Module):
    """The structure of the noise: how the values of a diffusion multiply the Brownian increments."""

    @abc.abstractmethod
    def channels(self, size: int) -> int:
        """Number of independent Brownian motions for a state with `size` entries."""

    @abc.abstractmethod
    def __call__(self, diffusion: Field, t: Any, y: Any, args: Any) -> Any:
        """The matrix or `lineax` operator that multiplies the Brownian increments."""


@final
class DiagonalNoise(AbstractNoise):
    """One independent Brownian motion for each entry of the state: the diffusion is `(t, y, args) -> (size,)`."""

    def channels(self, size: int) -> int:
        """The size of the state."""
        return size

    def __call__(self, diffusion: Field, t: Any, y: Any, args: Any) -> lx.DiagonalLinearOperator:
        """The diagonal operator with the values of the diffusion."""
        return lx.DiagonalLinearOperator(diffusion(t, y, args))


@final
class GeneralNoise(AbstractNoise):
    """Matrix-valued noise: the diffusion is `(t, y, args) -> (size, motions)`.

    Unless the columns commute as vector fields, the solvers of diffrax have at most strong order 1/2, and an adaptive
    controller needs `diffrax.ClipStepSizeController(controller, store_rejected_steps=100)` to be unbiased.

    Attributes:
        motions: Number of Brownian motions.
    """

    motions: int = eqx.field(static=True)

    def channels(self, size: int) -> int:
        """The number of motions."""
        return self.motions

    def __call__(self, diffusion: Field, t: Any, y: Any, args: Any) -> Float[Array, "size motions"]:
        """The matrix."""
        return diffusion(t, y, args)


@final
class AdditiveNoise(AbstractNoise):
    """Additive noise: the diffusion does not depend on the state and is called with y = None.

    Ito and Stratonovich solutions are the same. The solvers `diffrax.ShARK` and `diffrax.SRA1` (strong order 3/2) and
    `diffrax.SEA` (strong order 1) are for additive noise only.

    Attributes:
        noise: Structure of the values: `DiagonalNoise()` or `GeneralNoise(motions)`.
    """

    noise: AbstractNoise

    def channels(self, size: int) -> int:
        """The number of Brownian motions of the inner noise."""
        return self.noise.channels(size)

    def __call__(self, diffusion: Field, t: Any, y: Any, args: Any) -> Any:
        """The matrix or operator of the inner noise at this time."""
        return self.noise(diffusion, t, None, args)


@final
class _Diffusion(eqx.Module):
    noise: AbstractNoise
    diffusion: Field

    def __call__(self, t: Any, y: Any, args: Any) -> Any:
        return self.noise(self.diffusion, t, y, args)


def noise_term(
    diffusion: Field,
    noise: AbstractNoise,
    brownian: AbstractBrownian,
    ts: Float[Array, " times"],
    y: Float[Array, " size"],
    *,
    key: PRNGKeyArray,
) -> dfx.ControlTerm:
    """The term g dW from `ts[0]` to `ts[-1]`, for states of the size and dtype of `y`."""
    shape = jax.ShapeDtypeStruct((noise.channels(y.shape[0]),), y.dtype)
    return dfx.ControlTerm(_Diffusion(noise, diffusion), brownian(ts[0], ts[-1], shape, key=key))


@final
class NeuralSDE(eqx.Module):
    r"""Neural stochastic differential equation.

    .. math::  y(t_0) = \zeta(v), \qquad dy = f(t, y) \, dt + g(t, y) \, dW, \qquad x(t) = \ell(y(t))

    The solver determines whether the SDE is an Ito or a Stratonovich equation. Ito: `diffrax.Euler`, `ItoMilstein`.
    Stratonovich: `EulerHeun`, `Heun`, `Midpoint`, `Ralston`, `ReversibleHeun`, `StratonovichMilstein`, `SPaRK`,
    `SlowRK`, `GeneralShARK`. With additive noise both are the same.

    Constant steps: `Solve(diffrax.Heun(), diffrax.ConstantStepSize(), dt0=0.01)`. Adaptive steps need an error
    estimate. SPaRK, Heun, Midpoint, Ralston and, for additive noise, ShARK and SRA1 have one; `diffrax.HalfSolver` adds
    one to all others except Euler. The path is interpolated linearly within a step.

    Sources: Tzen, Raginsky 2019, arXiv:1905.09883; Kidger, Foster, Li, Oberhauser, Lyons 2021, arXiv:2102.03657.

    Attributes:
        initial: zeta, maps the argument `start` to the initial state; `equinox.nn.Identity()` if `start` is that state.
        drift: f, `(t, y, args) -> (size,)`.
        diffusion: g, `(t, y, args)` to values of the shape that `noise` requires.
        readout: l, maps one state to the output.
        solve: Solver, step size controller, adjoint and regulariser.
        brownian: `BrownianTree(tol)`, `BrownianGrid(steps)` or `IndependentIncrements()`.
        noise: `DiagonalNoise()`, `GeneralNoise(motions)` or `AdditiveNoise(...)`.
    """

    initial: Callable[[Array], Array]
    drift: Field
    diffusion: Field
    readout: Callable[[Array], Array]
    solve: Solve
    brownian: AbstractBrownian
    noise: AbstractNoise = DiagonalNoise()

    def __call__(
        self, start: Float[Array, " start"], ts: Float[Array, " times"], *, key: PRNGKeyArray
    ) -> Float[Array, "times ..."]:
        """The outputs along one random path."""
        return jax.vmap(self.readout)(regularised(self, None).solution(start, ts, key=key)[0])

    def solution(
        self, start: Float[Array, " start"], ts: Float[Array, " times"], *, key: PRNGKeyArray
    ) -> tuple[Float[Array, "times size"], Aux]:
        """The states along one random path, and the penalty and statistics of the solve.

        Args:
            start: Argument of `initial`.
            ts: Increasing times; `ts[0]` is the time of the initial state.
            key: Random key for the Brownian motion, and for a regulariser that needs one.
        """
        path_key, penalty_key = jax.random.split(key)
        y0 = self.initial(start)
        noise = lambda ts: noise_term(self.diffusion, self.noise, self.brownian, ts, y0, key=path_key)
        terms = lambda ts: dfx.MultiTerm(dfx.ODETerm(self.drift), noise(ts))
        return self.solve.run(terms, y0, ts, key=penalty_key)


def moment_matching(
    paths: Float[Array, "paths times channels"],
    means: Float[Array, "times channels"],
    variances: Float[Array, "times channels"],
) -> Float[Array, ""]:
    r"""Moment-matching loss :math:`\sum_t |\hat\mu(t) - \mu(t)|^2 + |\hat\sigma^2(t) - \sigma^2(t)|^2` of sample paths.

    The hats denote the sample mean and the sample variance (divisor `paths` - 1) at each time, which are compared with
    `means` and `variances`. This is the loss of the stochastic spiral in Pal, Ma, Shah, Rackauckas 2021,
    arXiv:2105.03918.

    Raises:
        ValueError: If there are fewer than two paths.
    """
    if paths.shape[0] < 2:
        raise ValueError(f"Expected at least two paths to have a variance, got {paths.shape[0]}. Draw more of them.")
    own_means, own_variances = jnp.mean(paths, axis=0), jnp.var(paths, axis=0, ddof=1)
    return jnp.sum((own_means - means) ** 2) + jnp.sum((own_variances - variances) ** 2)


@final
class Together(eqx.Module):
    """The field of several sample paths that are solved as one SDE: it applies the field of one path to each path.

    The state is a vector of length paths * size that concatenates the states of all paths. Wrap both the drift and the
    diffusion of a `NeuralSDE` with `DiagonalNoise`: the paths then share the steps of the solver and stay independent.

    Attributes:
        field: Drift or diffusion of one path, `(t, y, args) -> (size,)`.
        size: Size of the state of one path.
    """

    field: Field
    size: int = eqx.field(static=True)

    def __call__(self, t: Any, y: Float[Array, " states"], args: Any = None) -> Float[Array, " states"]:
        """The values of the field at all paths, concatenated like `y`."""
        return jax.vmap(lambda y: self.field(t, y, args))(y.reshape(-1, self.size)).reshape(-1)
