"""Measures of a numerical step: its error estimate and the stiffness of the vector field; a norm for batches."""

import abc
import functools
from collections.abc import Callable
from typing import final

import diffrax as dfx
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix as optx
from jaxtyping import Array, Float, PyTree

from sciml.nde._heuristics.step import Step, innermost

Norm = Callable[[PyTree], Float[Array, ""]]
_ROUNDINGS = 100  # a difference below this many rounding errors of its operands counts as noise


class AbstractMeasure(eqx.Module):
    """A number per step. `Monitored` accumulates it over the accepted steps of a solve."""

    @abc.abstractmethod
    def __call__(self, step: Step) -> Float[Array, ""]:
        """The measure of one step. It is also called for steps that are rejected later."""


@final
class LocalError(AbstractMeasure):
    """q^power |h|^dt_power with q = || e / (atol + rtol max(|y0|, |y1|)) ||, e the solver's error estimate.

    With the norm and the tolerances of the step size controller, q is the scaled error that the controller compares
    with 1. Over the accepted steps, the sum of q |h| is R_E, and the sum of q^2 (power 2, dt_power 0) is R_E2 of Pal et
    al., "Opening the blackbox: accelerating neural differential equations by regularizing internal solver heuristics",
    2021, arXiv:2105.03918. The paper uses the unscaled norm of e, which is rtol = 0 and atol = 1; its code scales e.

    Attributes:
        rtol: Relative tolerance. None stands for that of the step size controller, which a penalty fills in.
        atol: Absolute tolerance, likewise.
        power: Exponent of the scaled error q.
        dt_power: Exponent of the step length.
        norm: Norm of the scaled error. None stands for that of the step size controller in a penalty, and for the root
            mean square over all components elsewhere.
    """

    rtol: Float[Array, ""] | float | None = None
    atol: Float[Array, ""] | float | None = None
    power: int = eqx.field(default=1, static=True)
    dt_power: int = eqx.field(default=1, static=True)
    norm: Norm | None = None

    def __call__(self, step: Step) -> Float[Array, ""]:
        """The value q^power |h|^dt_power of one step.

        Raises:
            ValueError: If the solver has no error estimate, or a tolerance is not given.
        """
        rtol, atol = self.rtol, self.atol
        if rtol is None or atol is None:
            raise ValueError(
                f"LocalError needs both tolerances outside of a penalty, got rtol {rtol} and atol {atol}. "
                "rtol=0.0, atol=1.0 leaves the error estimate as it is."
            )
        if step.y_error is None:
            raise ValueError(
                f"{type(step.solver).__name__} estimates no error. Wrap it in diffrax.HalfSolver, or use a solver with "
                "an embedded estimate: Tsit5, Dopri5, Dopri8, Bosh3, Heun; SPaRK, ShARK, SRA1 for SDEs."
            )
        norm = optx.rms_norm if self.norm is None else self.norm
        y_error, y0, y1 = step.inert((step.unguarded.y_error, step.y0, step.unguarded.y1))
        q = norm(jax.tree.map(functools.partial(_scaled, rtol=rtol, atol=atol), y_error, y0, y1))
        return q**self.power * _length(step, self.dt_power, q)


@final
class Stiffness(AbstractMeasure):
    """S |h|^dt_power with S = ||k_i - k_j|| / ||g_i - g_j||, over the last two stages at the same time (c_i = c_j).

    g_i is the state at which stage i evaluates the vector field, and k_i is the value of the field there. S is thus a
    finite difference of the field: at most the norm of its Jacobian, and close to the dominant |eigenvalue| if
    g_i - g_j points along its eigenvector (Shampine, "Stiffness and nonstiff differential equation solvers II",
    1977; Hairer and Wanner, "Solving Ordinary Differential Equations II", section IV.2). The sum of S |h| over the
    steps is R_S of Pal et al., 2021, arXiv:2105.03918, whose code takes the largest S of a solve instead, and divides
    it by the stability bound.

    Attributes:
        divisor: What S is divided by. None stands for the solver's `stability_bound`: then |h| S near 1 means that
            stability limits the steps, not accuracy. With 1, S estimates an eigenvalue.
        dt_power: Exponent of the step length.
        norm: Norm of both differences.
    """

    divisor: float | None = eqx.field(default=None, static=True)
    dt_power: int = eqx.field(default=0, static=True)
    norm: Norm = optx.rms_norm

    def __call__(self, step: Step) -> Float[Array, ""]:
        """The value of one step; 0 if rounding errors exceed 1 % of a difference, as in very short steps.

        Raises:
            ValueError: If the solver is no explicit Runge-Kutta method, or no two of its stages have the same time.
        """
        tableau = _explicit(step.solver, type(self).__name__)
        first, second = _pair(tableau, type(innermost(step.solver)).__name__)
        a = _matrix(tableau)
        k = step.unguarded.dense_info["k"]
        rise = step.inert(jax.tree.map(lambda k: k[second] - k[first], k))
        run = step.inert(jax.tree.map(lambda k: _combine(a[second] - a[first], k), k))
        last = jax.tree.map(lambda k: k[second], k)  # only compared
        top, bottom = self.norm(rise), self.norm(run)
        floor = _ROUNDINGS * jnp.finfo(top.dtype).eps
        sure = (bottom > floor * self.norm(step.unguarded.y1)) & (top > floor * self.norm(last))
        # k is already multiplied by the step
        s = jnp.where(sure, top / jnp.where(sure, bottom * step.dt.astype(bottom.dtype), 1), 0)
        bound = stability_bound(step.solver) if self.divisor is None else self.divisor
        return s / bound * _length(step, self.dt_power, s)


@final
class DirectionalStiffness(AbstractMeasure):
    """S |h|^dt_power with S = ||J v|| / ||v||, v = y1 - y0 and J the Jacobian of the drift at (t1, y1).

    It costs one Jacobian-vector product per step and works with every solver; for SDEs it measures the drift only. S is
    at most the norm of J, and equals an |eigenvalue| if v is the eigenvector.

    Attributes:
        divisor: What S is divided by, such as a `stability_bound`.
        dt_power: Exponent of the step length.
        norm: Norm of both vectors.
    """

    divisor: float = eqx.field(default=1.0, static=True)
    dt_power: int = eqx.field(default=0, static=True)
    norm: Norm = optx.rms_norm

    def __call__(self, step: Step) -> Float[Array, ""]:
        """The value of one step; 0 if y1 = y0.

        Raises:
            ValueError: If there is no `diffrax.ODETerm` among the terms.
        """
        drifts = _drifts(step.terms)
        v = jax.tree.map(jnp.subtract, step.y1, step.y0)
        field = lambda y: jax.tree.map(lambda *f: sum(f), *(drift.vf(step.t1, y, step.args) for drift in drifts))
        _, jv = jax.jvp(field, (step.y1,), (v,))
        s = _quotient(self.norm(jv), self.norm(v))
        return s / self.divisor * _length(step, self.dt_power, s)


@final
class PerSampleMax(eqx.Module):
    """The maximum over a batch of the norms of its samples; the batch is the leading axis of every leaf of the state.

    `diffrax.PIDController(rtol, atol, norm=PerSampleMax())` solves a batch as one equation with steps that keep every
    sample within the tolerance. The default norm of diffrax averages over the batch, so that the error of one hard
    sample among B is divided by sqrt(B). Joint steps suit training, because the backward pass carries the gradient of
    the shared weights once and not once per sample. `jax.vmap` gives every sample its own steps and suits prediction.
    Numbers of steps, and penalties on steps, cannot be compared between the two.

    A penalty uses the norm of the controller unless it has its own. With `PerSampleMax` its gradient comes from the
    worst sample of each step; with `LocalError(norm=optimistix.rms_norm)` it comes from all samples.

    Attributes:
        norm: Norm of one sample.
    """

    norm: Callable[[PyTree], Float[Array, ""]] = optx.rms_norm

    def __call__(self, y: PyTree) -> Float[Array, ""]:
        """The maximum of the norms over the leading axis."""
        return jnp.max(jax.vmap(self.norm)(y))


def stability_bound(solver: dfx.AbstractSolver) -> float:
    """Real stability bound of an explicit Runge-Kutta method: the largest x with |R(z)| <= 1 on [-x, 0].

    R(z) = 1 + z b (1 - z A)^-1 1 is the stability function of the method, a polynomial. The bound of Tsit5 is 3.5068.
    On y' = -lambda y, the numerical solution grows for steps longer than bound / lambda.

    Raises:
        ValueError: If the solver is no explicit Runge-Kutta method.
    """
    tableau = _explicit(solver, "stability_bound")
    a, powers = _matrix(tableau), [np.ones(tableau.num_stages)]
    for _ in range(tableau.num_stages - 1):
        powers.append(a @ powers[-1])
    coefficients = np.array([1.0, *(tableau.b_sol @ power for power in powers)])  # of 1, z, z^2, ...
    coefficients = np.where(np.abs(coefficients) < 1e-14, 0.0, coefficients)
    leaving = [np.roots((coefficients - np.eye(len(coefficients))[0] * level)[::-1]) for level in (1.0, -1.0)]
    candidates = np.concatenate(leaving)
    real = candidates.real[(np.abs(candidates.imag) < 1e-6) & (candidates.real < -1e-3)]
    outside = [-z for z in sorted(real, reverse=True) if abs(np.polyval(coefficients[::-1], z * (1 + 1e-6))) > 1]
    return float(outside[0])


def _explicit(solver: dfx.AbstractSolver, what: str) -> dfx.ButcherTableau:
    inner = innermost(solver)
    if isinstance(inner, dfx.AbstractERK) and isinstance(inner.tableau, dfx.ButcherTableau):
        return inner.tableau
    raise ValueError(
        f"{what} reads the tableau of an explicit Runge-Kutta method, and {type(inner).__name__} is none. "
        "Use Tsit5, Dopri5 or Dopri8, or measure DirectionalStiffness, which works with any solver."
    )


def _pair(tableau: dfx.ButcherTableau, name: str) -> tuple[int, int]:
    """Indices of the last two stages at the same time."""
    c = [0.0, *tableau.c]
    pairs = [(i, j) for j in range(len(c)) for i in range(j) if c[i] == c[j]]
    if not pairs:
        raise ValueError(
            f"{name} has no two stages at one time, between which Stiffness takes a difference. Use Tsit5, Dopri5 or "
            "Dopri8, or measure DirectionalStiffness, which works with any solver."
        )
    return pairs[-1]


def _matrix(tableau: dfx.ButcherTableau) -> np.ndarray:
    """The coefficients a_ij as a square matrix."""
    a = np.zeros((tableau.num_stages, tableau.num_stages))
    for i, row in enumerate(tableau.a_lower, start=1):
        a[i, :i] = row
    return a


def _combine(weights: np.ndarray, stages: Array) -> Array:
    return jnp.tensordot(jnp.asarray(weights, stages.dtype), stages, axes=1, precision=jax.lax.Precision.HIGHEST)


def _drifts(terms: PyTree) -> list[dfx.AbstractTerm]:
    single = lambda node: isinstance(node, dfx.AbstractTerm) and not isinstance(node, dfx.MultiTerm)
    leaves = jax.tree.leaves(terms, is_leaf=single) if isinstance(terms, dfx.AbstractTerm) else []
    # within a solve, diffrax has put each term into a wrapper with the attribute `term`
    drifts = [term for term in leaves if isinstance(getattr(term, "term", term), dfx.ODETerm)]
    if not drifts:
        raise ValueError(
            "DirectionalStiffness differentiates a diffrax.ODETerm, alone or in a diffrax.MultiTerm, and found none in "
            f"{type(terms).__name__}. Write the drift as an ODETerm; for a controlled equation use ControlTerm.to_ode."
        )
    return drifts


def _scaled(error: Array, y0: Array, y1: Array, rtol: Array | float, atol: Array | float) -> Array:
    """The error in units of the tolerance, by the same operations as diffrax, so that the compiler merges both."""
    error = jnp.where(jnp.isnan(error), jnp.inf, error)
    y1 = jnp.where(jnp.isnan(y1).any(), y0, y1)
    return error / (atol + jnp.maximum(jnp.abs(y0), jnp.abs(y1)) * rtol)


def _length(step: Step, power: int, like: Array) -> Array:
    return step.dt.astype(like.dtype) ** power


def _quotient(top: Array, bottom: Array) -> Array:
    """The ratio, and 0 with derivative 0 where `bottom` is 0."""
    positive = bottom > 0
    return jnp.where(positive, top / jnp.where(positive, bottom, 1), 0)
