"""The error of an approximate solution of `A u = f` from both sides, without the solution."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sciml import pdes
from sciml.uq._mesh import Mesh


class Interval(eqx.Module):
    """A number that is not known but lies between two that are.

    Attributes:
        lower: At most the number.
        upper: At least the number; infinite where nothing is known.
    """

    lower: Float[Array, "*shape"]
    upper: Float[Array, "*shape"]


@dataclasses.dataclass(frozen=True)
class Krylov:
    """Sharper bounds by steps of conjugate gradients from the prediction, each at the cost of one more bound.

    Args:
        steps: Number of steps; the bounds close in with them as conjugate gradients converge.

    Raises:
        ValueError: If there is no step.
    """

    steps: int = 5

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"Expected 1 or more steps of conjugate gradients, got {self.steps}. Leave krylov out.")


class System(eqx.Module):
    """The equations `A u = f` with `A = D* a D + mass`, in the terms of `Mesh`.

    Attributes:
        mesh: The unknowns.
        faces: The positive coefficient `a` at the faces along each axis.
        forcing: `f`, of mean zero where the system is singular.
        mass: A number of at least 0.
    """

    mesh: Mesh = eqx.field(static=True)
    faces: list[Array]
    forcing: Float[Array, "*unknowns"]
    mass: float = eqx.field(static=True, default=0.0)

    @property
    def singular(self) -> bool:
        """Whether `A` maps constants to zero; the solution is then that of mean zero."""
        return self.mesh.singular and self.mass == 0

    @property
    def least(self) -> Float[Array, ""]:
        """The smallest coefficient."""
        return jnp.min(jnp.stack([jnp.min(a) for a in self.faces]))

    @property
    def scale(self) -> Float[Array, ""]:
        """The constant coefficient of the preconditioner."""
        return jnp.sqrt(self.least * jnp.max(jnp.stack([jnp.max(a) for a in self.faces])))

    @property
    def coercivity(self) -> Float[Array, ""]:
        """A number `m > 0` with `(A e, e) >= m |e|^2`, for `e` of mean zero where the system is singular."""
        lowest = 0.0 if self.mesh.singular and self.mass else self.mesh.lowest
        return self.least * lowest + self.mass

    def flux(self, v: Float[Array, "*unknowns"]) -> list[Array]:
        """`a D v`."""
        return [a * slope for a, slope in zip(self.faces, self.mesh.gradient(v), strict=True)]

    def apply(self, v: Float[Array, "*unknowns"]) -> Float[Array, "*unknowns"]:
        """`A v`."""
        return self.mesh.divergence(self.flux(v)) + self.mass * v

    def precondition(self, r: Float[Array, "*unknowns"]) -> Float[Array, "*unknowns"]:
        """`L^(-1) r` with `L = scale D* D + mass`."""
        return self.mesh.solve(r, self.scale, self.mass)

    def energy(self, v: Float[Array, "*unknowns"]) -> Float[Array, ""]:
        """The energy norm `sqrt((A v, v))`."""
        squares = self.mesh.face_integral(self.flux(v), self.mesh.gradient(v))
        return jnp.sqrt(squares + self.mass * self.mesh.inner_product(v, v))

    def rounding(self, v: Float[Array, "*unknowns"], fluxes: list[Array]) -> Float[Array, ""]:
        """A bound of the L2 norm of what rounding changes in `D* q + mass v` for the fluxes `q`.

        A difference of two numbers, and its product with the coefficient, have small relative errors; what a flux is in
        error, and the rounding of the sum of fluxes, are at most `(2 d + 8) eps` times the sum of their absolute
        values, whose norm is bounded by those of the fluxes (`Mesh.steepness`).
        """
        parts = self.mass * self.mesh.norm(v)
        for i, steepness in enumerate(self.mesh.steepness):
            alone = [one if j == i else jnp.zeros_like(one) for j, one in enumerate(fluxes)]
            parts = parts + np.sqrt(steepness) * jnp.sqrt(self.mesh.face_integral(alone, alone))
        return (2 * len(fluxes) + 8) * jnp.finfo(v.dtype).eps * parts

    @property
    def sums(self) -> float:
        """A bound of the relative rounding of a sum over all unknowns and faces."""
        terms = sum(a.size for a in self.faces)
        return 2 * (terms + 20) * float(jnp.finfo(self.forcing.dtype).eps)


class Enclosure(eqx.Module):
    """Bounds of the error `e = u - v` of an approximate solution `v`.

    Attributes:
        energy: Of `|e|_A`.
        l2: Of `|e|`.
        residual: `f - A v`.
        slack: A bound of the L2 norm of the rounding in the residual.
        near: An approximate solution `w`: `v` itself, or one that is closer to the solution.
        rest: Upper bounds of `|u - w|_A` and of `|u - w|`.
        size: A lower bound of `|u|`.
    """

    energy: Interval
    l2: Interval
    residual: Float[Array, "*unknowns"]
    slack: Float[Array, ""]
    near: Float[Array, "*unknowns"]
    rest: tuple[Float[Array, ""], Float[Array, ""]]
    size: Float[Array, ""]


def upper_energy(
    system: System, r: Float[Array, "*unknowns"], z: Float[Array, "*unknowns"], slack: Array | float
) -> Float[Array, ""]:
    """A bound of `|e|_A` for `A e = r` from any `z`, sharp if `z` is about `L^(-1) r`.

    With `q = scale D z` and what is left of the residual, `s = r - D* q - mass z`,
    `|e|_A^2 = (r, e) = (q, D e) + mass (z, e) + (s, e) <= (sqrt(|a^(-1/2) q|^2 + mass |z|^2) + |s| / sqrt(m)) |e|_A`
    with the coercivity `m`: no property of the solver that made `z` enters.

    Source: Prager, Synge, "Approximations in elasticity based on the concept of function space", 1947, for this scheme.
    """
    mesh = system.mesh
    q = [system.scale * slope for slope in mesh.gradient(z)]
    left = r - mesh.divergence(q) - system.mass * z
    rounding = system.rounding(z, q) + 4 * jnp.finfo(r.dtype).eps * mesh.norm(r)
    bulk = jnp.sqrt(complementary_energy(system, z))
    return (bulk + (mesh.norm(left) + rounding + slack) / jnp.sqrt(system.coercivity)) * (1 + system.sums)


def complementary_energy(system: System, z: Float[Array, "*unknowns"]) -> Float[Array, ""]:
    """`|a^(-1/2) q|^2 + mass |z|^2` with `q = scale D z`."""
    mesh = system.mesh
    q = [system.scale * slope for slope in mesh.gradient(z)]
    weighted = [one / a for one, a in zip(q, system.faces, strict=True)]
    return mesh.face_integral(weighted, q) + system.mass * mesh.inner_product(z, z)


def residual(system: System, v: Float[Array, "*unknowns"]) -> tuple[Float[Array, "*unknowns"], Float[Array, ""]]:
    """`f - A v`, and a bound of the L2 norm of its rounding."""
    fluxes = system.flux(v)
    eps = 4 * jnp.finfo(v.dtype).eps
    slack = system.rounding(v, fluxes) + eps * system.mesh.norm(system.forcing)
    return system.forcing - system.mesh.divergence(fluxes) - system.mass * v, slack


def least_size(system: System, w: Float[Array, "*unknowns"]) -> Float[Array, ""]:
    """A lower bound of the solution's norm from any `w`: `|u| >= (f, w)^2 / (|w|_A^2 |f|)`.

    For `|u|_A >= (f, w) / |w|_A`, and `|u|_A^2 = (f, u) <= |f| |u|`.
    """
    mesh, f = system.mesh, system.forcing
    norm, energy = mesh.norm(f), system.energy(w)
    product = jnp.abs(mesh.inner_product(f, w)) - system.sums * norm * mesh.norm(w)
    positive = (product > 0) & (energy > 0) & (norm > 0)
    found = product**2 / jnp.where(positive, energy**2 * norm, 1) * (1 - 4 * system.sums)
    return jnp.where(positive, found, 0)


def enclose(system: System, v: Float[Array, "*unknowns"], *, lipschitz: float = 0.0) -> Enclosure:
    """Bounds from one residual and two fast solves, `z = L^(-1) r` and `y = L^(-1) z`.

    Above `upper_energy`; below `|e|_A >= (r, z) / |z|_A`, since `(r, z) = (e, z)_A`. For the L2 norm
    `(r, y) / |A y| <= |e| <= |e|_A / sqrt(m)` with the coercivity `m`, since `(r, y) = (e, A y)`.

    Args:
        system: The equations.
        v: The approximate solution, of mean zero where the system is singular.
        lipschitz: Bound of the derivative of a monotone term `c(u)`, of which the forcing contains `-c(v)`. Then
            `(r, z) = (e, z)_A + (c(u) - c(v), z)` and the lower bounds are divided by `|z|_A + lipschitz |z| / sqrt(m)`
            and `|A y| + lipschitz |y|`.
    """
    mesh, (r, slack) = system.mesh, residual(system, v)
    z = system.precondition(r)
    y = system.precondition(z)
    root, eps = jnp.sqrt(system.coercivity), system.sums
    upper = upper_energy(system, r, z, slack)

    def tested(w: Array, size: Array) -> Array:
        """`(r, w)` without its rounding over the size of `w`."""
        product = mesh.inner_product(r, w) - (slack + eps * mesh.norm(r)) * mesh.norm(w)
        return jnp.where(product > 0, product / jnp.where(size > 0, size, 1) / (1 + eps), 0)

    energy = tested(z, system.energy(z) + _times(lipschitz, mesh.norm(z)) / root)
    product = mesh.norm(system.apply(y)) + system.rounding(y, system.flux(y))
    l2 = tested(y, product + _times(lipschitz, mesh.norm(y)))
    rest = (upper, upper / root)
    smooth = mesh.solve(system.forcing, 1.0, system.mass)  # one for all samples of a batch with one forcing
    size = jnp.maximum(least_size(system, v), least_size(system, smooth))
    return Enclosure(Interval(energy, rest[0]), Interval(l2, rest[1]), r, slack, v, rest, size)


def _times(lipschitz: float, norm: Array) -> Array:
    return jnp.where(norm == 0, 0, lipschitz * norm)  # infinity times zero is zero here


def krylov_steps(system: System, v: Float[Array, "*unknowns"], r: Array, steps: int) -> tuple[Array, Array]:
    """The iterate after some steps of conjugate gradients from `v`, and an upper bound of its energy error.

    The bound is the Gauss-Radau rule with a node at the lower bound `mu = least / scale` of the eigenvalues of
    `L^(-1) A`: `|e_k|_A^2 <= gamma_k rho_k`, where `gamma_0 = 1 / mu` and
    `gamma_(k+1) = (gamma_k - step_k) / (mu (gamma_k - step_k) + rho_(k+1) / rho_k)`.

    Source: Meurant, Tichy, "On computing quadrature-based bounds for the A-norm of the error in conjugate gradients",
    2013, section 4. It rests on the orthogonality of neighbouring directions, which rounding does not spoil; close to
    the level of rounding the bound is infinite here.
    """
    mesh = system.mesh
    apply = lambda p: mesh.weighted(system.apply(p))
    precondition = lambda g: system.precondition(g / mesh.weighted(jnp.ones_like(g)))
    mu = jnp.minimum(system.least / system.scale, 1.0) * (1 - 1e-6)
    start = pdes.cg_start(v, mesh.weighted(r), precondition)

    def advance(carry: tuple, _: None) -> tuple[tuple, None]:
        state, gamma = carry
        new = pdes.cg_step(state, apply, precondition)
        rest = gamma - new.step
        gamma = rest / (mu * rest + jnp.where(state.rho > 0, new.rho / state.rho, 1))
        return (new, jnp.where(rest > 0, gamma, jnp.inf)), None

    (end, gamma), _ = jax.lax.scan(advance, (start, 1 / mu), None, length=steps)
    rounded = end.rho <= 1e-20 * start.rho
    squared = jnp.where(rounded, jnp.inf, gamma * end.rho * mesh.volume)
    return end.u, jnp.sqrt(squared) * (1 + 1e-6)


def sharpen(system: System, v: Float[Array, "*unknowns"], first: Enclosure, krylov: Krylov) -> Enclosure:
    """The bounds after steps of conjugate gradients from `v`, and those before where these are closer.

    With the iterate `w`, its residual `s` computed afresh and `d = w - v`,
    `|u - v|_A^2 = (d, r + s) + |u - w|_A^2` for any `w`; in exact arithmetic `(d, r + s)` is the sum of `step rho` of
    Hestenes and Stiefel (1952), theorem 6:1. For the L2 norm, `|d| - |u - w| <= |u - v| <= |d| + |u - w|`.
    """
    mesh = system.mesh
    w, radau = krylov_steps(system, v, first.residual, krylov.steps)
    after, d = enclose(system, w), w - v
    best, sum_of_both = jnp.minimum(after.energy.upper, radau), first.residual + after.residual
    shift, size = mesh.inner_product(d, sum_of_both), mesh.norm(d)
    slack = size * (first.slack + after.slack + system.sums * mesh.norm(sum_of_both))
    lower = jnp.sqrt(jnp.maximum(shift - slack, 0) + after.energy.lower**2) * (1 - system.sums)
    upper = jnp.sqrt(jnp.maximum(shift + slack, 0) + best**2) * (1 + system.sums)
    rest = (best, jnp.minimum(after.l2.upper, best / jnp.sqrt(system.coercivity)))
    l2 = Interval(size * (1 - system.sums) - rest[1], size * (1 + system.sums) + rest[1])
    energy, l2 = intersection(first.energy, Interval(lower, upper)), intersection(first.l2, l2)
    size = jnp.maximum(first.size, after.size)
    return Enclosure(energy, l2, first.residual, first.slack, w, rest, size)


def intersection(one: Interval, other: Interval) -> Interval:
    """The numbers that lie in two intervals; the first one if the second is not a number."""
    return Interval(jnp.fmax(one.lower, other.lower), jnp.fmin(one.upper, other.upper))
