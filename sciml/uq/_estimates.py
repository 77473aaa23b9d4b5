"""Estimates of the coefficients of an inverse problem: most probable ones, Laplace approximation, ensembles."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optimistix as optx
from jaxtyping import Array, Float, Int, Key

from sciml.uq._inverse_problem import InverseProblem, check_starts


class Estimate(NamedTuple):
    """The most probable coefficients.

    Attributes:
        coefficients: Where the search ended.
        energy: `InverseProblem.energy` there.
        steps: Number of steps of the search, each an evaluation of the forward map or of its gradient as well.
        converged: Whether the search ended by its tolerance.
    """

    coefficients: Float[Array, " size"]
    energy: Float[Array, ""]
    steps: Int[Array, ""]
    converged: Array


class Gaussian(eqx.Module):
    """A normal distribution of the coefficients."""

    mean: Float[Array, " size"]
    covariance: Float[Array, "size size"]

    @property
    def deviations(self) -> Float[Array, " size"]:
        """Standard deviation of each coefficient."""
        return jnp.sqrt(jnp.diagonal(self.covariance))

    def draws(self, count: int, *, key: Key[Array, ""]) -> Float[Array, "count size"]:
        """Independent draws."""
        return jax.random.multivariate_normal(key, self.mean, self.covariance, (count,))


def maximum_a_posteriori(
    problem: InverseProblem, start: Float[Array, " size"], *, tolerance: float = 1e-6, limit: int = 256
) -> Estimate:
    """The most probable coefficients by L-BFGS, from a first guess such as zero, the mean of the prior.

    Args:
        problem: The inverse problem, whose forward map has reverse derivatives.
        start: First coefficients.
        tolerance: Of the search, relative to the coefficients and to the energy.
        limit: Largest number of steps.

    Raises:
        ValueError: If the misfit of the first coefficients is not finite.
    """
    check_starts(problem.misfit, start[None])
    return _minimised(problem, start, tolerance, limit)


@eqx.filter_jit
def _minimised(problem: InverseProblem, start: Array, tolerance: float, limit: int) -> Estimate:
    solver = optx.LBFGS(rtol=tolerance, atol=tolerance)
    found = optx.minimise(lambda c, _: problem.energy(c), solver, start, max_steps=limit, throw=False)
    converged = found.result == optx.RESULTS.successful
    return Estimate(found.value, problem.energy(found.value), found.stats["num_steps"], converged)


@eqx.filter_jit
def laplace(problem: InverseProblem, at: Float[Array, " size"]) -> Gaussian:
    """The Laplace approximation at the most probable coefficients, with the Gauss-Newton Hessian `I + J^T J / s^2`.

    It is the posterior if the forward map is linear. Far from linear, or if the posterior has several modes, it is not.
    """
    slopes = jax.jacfwd(problem.whitened)(at)
    return Gaussian(at, jnp.linalg.inv(jnp.eye(problem.size, dtype=slopes.dtype) + slopes.T @ slopes))


class Recentred(eqx.Module):
    """An inverse problem in the coordinates z of a normal approximation of its posterior, `c = mean + factor z`.

    `misfit(z) = energy(c) - |z|^2 / 2`, so that `CrankNicolson(recentred.misfit, beta)` proposes draws near the
    approximation, as it does near the prior otherwise: the posterior is the same for every approximation, and steps are
    longer where it is good. Rudolf, Sprungk, On a Generalization of the Preconditioned Crank-Nicolson
    Metropolis Algorithm (2018).

    Args:
        problem: The inverse problem.
        approximation: For example that of `laplace`, with another forward map if that is cheaper.
    """

    problem: InverseProblem
    mean: Float[Array, " size"]
    factor: Float[Array, "size size"]

    def __init__(self, problem: InverseProblem, approximation: Gaussian) -> None:
        self.problem, self.mean = problem, approximation.mean
        self.factor = jnp.linalg.cholesky(approximation.covariance)

    def coefficients(self, z: Float[Array, "*axes size"]) -> Float[Array, "*axes size"]:
        """The coefficients of some coordinates."""
        return jnp.broadcast_to(self.mean, z.shape) + z @ self.factor.T

    def misfit(self, z: Float[Array, " size"]) -> Float[Array, ""]:
        """The misfit relative to the standard normal distribution of the coordinates."""
        return self.problem.energy(self.coefficients(z)) - jnp.sum(z**2) / 2


def ensemble_kalman_inversion(
    problem: InverseProblem, *, members: int, steps: int, length: float | None = None, key: Key[Array, ""]
) -> Float[Array, "members size"]:
    """An ensemble that moves from the prior towards the posterior, without derivatives of the forward map.

    Each step is `u <- u + C_up (C_pp + S / h)^-1 (y + eta - p)` with the covariances `C` of the members u and their
    observations p, the covariance S of the noise and `eta ~ N(0, S / h)`. `length=1` is the iteration of Iglesias, Law,
    Stuart, Ensemble Kalman methods for inverse problems (2013), whose later steps leave the posterior for the best fit.
    With `h = 1 / steps`, the default, the ensemble ends at the posterior of a linear problem, up to errors that fall
    with the number of members (Emerick, Reynolds, Ensemble smoother with multiple data assimilation, 2013); for other
    problems it is an approximation.

    Members whose forward map is not finite make the ensemble NaN.

    Args:
        problem: The inverse problem.
        members: Number of members. The ensemble stays in the span of its first members: more of them than coefficients.
        steps: Number of steps, each with `members` evaluations of the forward map.
        length: The length `h` of a step.
        key: Source of randomness.

    Raises:
        ValueError: If there are fewer than 2 members, no steps, or the length is not positive.
    """
    if members < 2 or steps < 1 or (length is not None and not length > 0):
        raise ValueError(f"Expected members >= 2, steps >= 1 and length > 0, got {members}, {steps} and {length}.")
    return _moved(problem, members, steps, 1 / steps if length is None else length, key)


@eqx.filter_jit
def _moved(problem: InverseProblem, members: int, steps: int, length: float, key: Array) -> Array:
    def step(ensemble: Array, key: Array) -> tuple[Array, None]:
        errors = jax.vmap(problem.whitened)(ensemble)  # the covariance of their noise is the identity
        from_mean, slopes = ensemble - ensemble.mean(0)[None], errors - errors.mean(0)[None]
        cross, own = from_mean.T @ slopes / (members - 1), slopes.T @ slopes / (members - 1)
        noise = jax.random.normal(key, errors.shape, errors.dtype) / length**0.5
        gain = jnp.linalg.solve(own + jnp.eye(errors.shape[1], dtype=own.dtype) / length, (noise - errors).T)
        return ensemble + (cross @ gain).T, None

    first, rest = jax.random.split(key)
    prior = jax.random.normal(first, (members, problem.size), problem.observed.dtype)
    return jax.lax.scan(step, prior, jax.random.split(rest, steps))[0]
