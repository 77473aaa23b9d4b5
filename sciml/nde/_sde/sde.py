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
    """How the values of a diffusion multiply a Brownian motion."""

    @abc.abstractmethod
    def channels(self, size: int) -> int:
        """Number of independent Brownian motions for a state of that size."""

    @abc.abstractmethod
    def __call__(self, diffusion: Field, t: Any, y: Any, args: Any) -> Any:
        """The matrix or `lineax` operator that multiplies their increments."""


@final
class DiagonalNoise(AbstractNoise):
    """One Brownian motion for each entry of the state: the diffusion is `(t, y, args) -> (size,)`."""

    def channels(self, size: int) -> int:
        """As many as entries."""
        return size

    def __call__(self, diffusion: Field, t: Any, y: Any, args: Any) -> lx.DiagonalLinearOperator:
        """The diagonal operator."""
        return lx.DiagonalLinearOperator(diffusion(t, y, args))


@final
class GeneralNoise(AbstractNoise):
    """The diffusion is a matrix, `(t, y, args) -> (size, motions)`.

    Unless its columns commute as vector fields, no solver of diffrax converges faster than with strong order 1/2, and
    an adaptive controller needs `diffrax.ClipStepSizeController(controller, store_rejected_steps=100)` to be unbiased.

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
    """A diffusion that does not see the state: it is called with y = None.

    Ito and Stratonovich solutions are the same, and `diffrax.ShARK`, `diffrax.SRA1` and `diffrax.SEA`, which are for
    this case alone, converge with strong order 3/2 (SEA 1).

    Attributes:
        noise: What the values multiply: `DiagonalNoise()` or `GeneralNoise(motions)`.
    """

    noise: AbstractNoise

    def channels(self, size: int) -> int:
        """Those of the inner noise."""
        return self.noise.channels(size)

    def __call__(self, diffusion: Field, t: Any, y: Any, args: Any) -> Any:
        """What the inner noise makes of the diffusion at this time."""
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
    """The term g dW for states like `y` between the first and the last of `ts`."""
    shape = jax.ShapeDtypeStruct((noise.channels(y.shape[0]),), y.dtype)
    return dfx.ControlTerm(_Diffusion(noise, diffusion), brownian(ts[0], ts[-1], shape, key=key))


@final
class NeuralSDE(eqx.Module):
    r"""Neural stochastic differential equation.

    .. math::  y(t_0) = \zeta(v), \qquad dy = f(t, y) \, dt + g(t, y) \, dW, \qquad x(t) = \ell(y(t))

    The solver decides what the noise means. In the sense of Ito: `diffrax.Euler`, `ItoMilstein`. In the sense of
    Stratonovich: `EulerHeun`, `Heun`, `Midpoint`, `Ralston`, `ReversibleHeun`, `StratonovichMilstein`, `SPaRK`,
    `SlowRK`, `GeneralShARK`. With additive noise both are the same.

    Constant steps: `Solve(diffrax.Heun(), diffrax.ConstantStepSize(), dt0=0.01)`. Adaptive steps need an estimate of
    the error, which SPaRK, Heun, Midpoint, Ralston and, for additive noise, ShARK and SRA1 have; `diffrax.HalfSolver`
    gives one to the others but Euler. Between two steps the path is interpolated linearly.

    Sources: Tzen, Raginsky 2019, arXiv:1905.09883; Kidger, Foster, Li, Oberhauser, Lyons 2021, arXiv:2102.03657.

    Attributes:
        initial: zeta, from what the model is called with to the first state; `equinox.nn.Identity()` if it is given.
        drift: f, `(t, y, args) -> (size,)`.
        diffusion: g, as its `noise` says.
        readout: The map l of one state.
        solve: Solver, step sizes, adjoint and regulariser.
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
        """The outputs along one path."""
        return jax.vmap(self.readout)(regularised(self, None).solution(start, ts, key=key)[0])

    def solution(
        self, start: Float[Array, " start"], ts: Float[Array, " times"], *, key: PRNGKeyArray
    ) -> tuple[Float[Array, "times size"], Aux]:
        """The states along one path, and the penalty and statistics of the solve.

        Args:
            start: Argument of `initial`.
            ts: Increasing times, the first is that of the first state.
            key: Of the Brownian motion, and of a regulariser that draws at random.
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
    r""":math:`\sum_t |\hat\mu(t) - \mu(t)|^2 + |\hat\sigma^2(t) - \sigma^2(t)|^2` of several paths at given times.

    The moments of the paths are their mean and their variance with the divisor `paths` - 1. The loss of the stochastic
    spiral in Pal, Ma, Shah, Rackauckas 2021, arXiv:2105.03918.

    Raises:
        ValueError: If there are fewer than two paths.
    """
    if paths.shape[0] < 2:
        raise ValueError(f"Expected at least two paths to have a variance, got {paths.shape[0]}. Draw more of them.")
    own_means, own_variances = jnp.mean(paths, axis=0), jnp.var(paths, axis=0, ddof=1)
    return jnp.sum((own_means - means) ** 2) + jnp.sum((own_variances - variances) ** 2)


@final
class Together(eqx.Module):
    """The field of one path for the states of several, one behind the other in a vector: they are solved as one SDE.

    With both fields of a `NeuralSDE` in it and diagonal noise the paths share their steps and are independent.

    Attributes:
        field: `(t, y, args) -> value` of one path.
        size: Length of its state.
    """

    field: Field
    size: int = eqx.field(static=True)

    def __call__(self, t: Any, y: Float[Array, " states"], args: Any = None) -> Float[Array, " states"]:
        """The field at all states."""
        return jax.vmap(lambda y: self.field(t, y, args))(y.reshape(-1, self.size)).reshape(-1)
