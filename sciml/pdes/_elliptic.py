"""Darcy flow: a solver of the diffusion equation with a variable coefficient, and the generator built on it."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key
from scipy.interpolate import CubicSpline

from sciml.grid import Dirichlet, Grid
from sciml.pdes._random_fields import along, check_field, neumann_field


def _slices(x: Array, axis: int, cut: slice) -> Array:
    """Applies `cut` along `axis` and drops the first and the last value along the other axes."""
    return x[tuple(cut if other == axis else slice(1, -1) for other in range(x.ndim))]


def _faces(a: Array, spacing: Sequence[float]) -> list[Array]:
    """`a / h^2` at the faces along each axis that interior nodes have: arithmetic means of neighbours."""
    faces = []
    for axis, h in enumerate(spacing):
        nodes = jnp.moveaxis(a, axis, 0)
        faces.append(_slices(jnp.moveaxis((nodes[1:] + nodes[:-1]) / 2, 0, axis), axis, slice(None)) / h**2)
    return faces


def _negative_divergence(faces: list[Array], u: Array) -> Array:
    """`-div(a grad u)` at the interior nodes, from `a / h^2` at the faces along each axis and `u` at all nodes."""
    total = jnp.zeros((), u.dtype)
    for axis, a in enumerate(faces):
        flux = a * jnp.diff(_slices(u, axis, slice(None)), axis=axis)
        total = total - jnp.diff(flux, axis=axis)
    return total


@functools.cache
def _sines(n: int) -> np.ndarray:
    """Orthonormal sines at the `n` interior nodes of an axis: symmetric and its own inverse."""
    k = np.arange(1, n + 1)
    return np.sqrt(2 / (n + 1)) * np.sin(np.pi * np.outer(k, k) / (n + 1))


def _inverse_laplacian(r: Array) -> Array:
    """Solves `-Laplace z = r` on the interior nodes of the unit box by sine transforms."""
    eigenvalues = functools.reduce(
        np.add.outer, [(2 * (n + 1) * np.sin(np.pi * np.arange(1, n + 1) / (2 * n + 2))) ** 2 for n in r.shape]
    )
    for axis, n in enumerate(r.shape):
        r = along(axis, _sines(n), r)
    r = r / jnp.asarray(eigenvalues, r.dtype)
    for axis, n in enumerate(r.shape):
        r = along(axis, _sines(n), r)
    return r


def solve_diffusion(
    a: Float[Array, "*nodes"], f: Float[Array, "*nodes"], *, tolerance: float = 1e-12, limit: int = 1000
) -> Float[Array, "*nodes"]:
    """Solves `-div(a grad u) = f` on the unit box with `u = 0` on its boundary.

    Second-order fluxes between neighbouring nodes `i / (n - 1)`, with the arithmetic mean of the two nodal coefficients
    (the 5-point scheme in two dimensions). The linear system is solved by conjugate gradients, preconditioned by the
    exact inverse of the constant-coefficient operator; the number of iterations grows with the square root of
    `max a / min a` and not with the number of nodes.

    Derivatives of all orders, forward and reverse, are those of the equation `A(a) u = f` and not of the iterations:
    `A du = df - dA u`, and the gradients of a loss are `p` for `f` and `-grad u . grad p` (at the faces) for `a`, where
    `A p` is the gradient of the loss in `u`. Each is one more solve to the same tolerance.

    Args:
        a: Coefficient at the nodes, those on the boundary included.
        f: Right-hand side at the nodes; the values on the boundary are not used.
        tolerance: Largest residual relative to `f`, both in the norm of the inverse Laplacian. Up to bounds of `a` this
            is the relative error of the gradient of `u`.
        limit: Largest number of iterations.

    Returns:
        The solution at the nodes, zero on the boundary. It is NaN at all interior nodes if the tolerance was not
        reached, for which the residual is recomputed; this happens only for coefficients that are not positive.

    Raises:
        ValueError: If shapes differ, an axis has no interior node, or the precision cannot reach the tolerance.
    """
    if a.shape != f.shape or min(a.shape, default=0) < 3:
        raise ValueError(f"a and f need one shape with at least 3 nodes along each axis, got {a.shape} and {f.shape}.")
    if tolerance < 100 * jnp.finfo(a.dtype).eps:
        raise ValueError(
            f"A residual of {tolerance} is below the rounding of {a.dtype}. "
            "Use float64 arrays (`with jax.enable_x64(True):`) or a larger tolerance."
        )
    faces = _faces(a, [1 / (n - 1) for n in a.shape])
    # The barrier keeps XLA from multiplying out a constant right-hand side at compile time: minutes at 421 nodes.
    b = jax.lax.optimization_barrier(f[(slice(1, -1),) * f.ndim].astype(a.dtype))
    apply = lambda u: _negative_divergence(faces, jnp.pad(u, 1))

    def solve(apply: Callable[[Array], Array], b: Array) -> Array:
        u, residual = conjugate_gradients(apply, b, tolerance, limit, precondition=_inverse_laplacian)
        return jnp.where(residual <= 2 * tolerance, u, jnp.nan)  # 2: rounding of the recursive residual

    return jnp.pad(jax.lax.custom_linear_solve(apply, b, solve, symmetric=True), 1)


def diffusion_residual(
    a: Float[Array, "1 *space"], u: Float[Array, "1 *space"], forcing: float, grid: Grid
) -> Float[Array, "1 *inner"]:
    """`-div(a grad u) - forcing` at the points of `grid` that have neighbours along every axis.

    Second-order fluxes with the arithmetic mean of neighbouring coefficients, in the precision of the fields. The
    values at the outer points enter, the walls do not.

    Raises:
        ValueError: If a field does not live on the grid.
    """
    grid.check(a)
    grid.check(u)
    return (_negative_divergence(_faces(a[0], grid.spacing), u[0]) - forcing)[None]


class CGState(NamedTuple):
    """State of preconditioned conjugate gradients for `A u = b`; `M` is the preconditioner, about the inverse of `A`.

    Attributes:
        iterations: Number of steps done.
        u: The iterate.
        r: Its residual `b - A u`, by recursion.
        z: `M r`.
        p: Direction of the next step.
        rho: `r^T M r`.
        step: Length of the last step along its direction; 0 before the first one.
    """

    iterations: Array
    u: Array
    r: Array
    z: Array
    p: Array
    rho: Array
    step: Array


def cg_start(u: Array, r: Array, precondition: Callable[[Array], Array]) -> CGState:
    """The state before the first step, from any `u` with the residual `r`."""
    z = precondition(r)
    rho = jnp.sum(r * z)
    return CGState(jnp.zeros((), int), u, r, z, z, rho, jnp.zeros_like(rho))


def cg_step(state: CGState, apply: Callable[[Array], Array], precondition: Callable[[Array], Array]) -> CGState:
    """One step; once the residual is zero the iterate stays.

    Source: Hestenes, Stiefel, "Methods of conjugate gradients for solving linear systems", 1952, equations (3:1), with
    a preconditioner.

    Args:
        state: From `cg_start`, or the last step.
        apply: The product with `A`, symmetric and positive definite.
        precondition: The product with `M`, symmetric and positive definite.
    """
    q = apply(state.p)
    step = state.rho / jnp.sum(state.p * q)
    step = jnp.where(state.rho == 0, 0, step)
    u, r = state.u + step * state.p, state.r - step * q
    z = precondition(r)
    rho = jnp.sum(r * z)
    p = z + jnp.where(state.rho == 0, 0, rho / state.rho) * state.p
    return CGState(state.iterations + 1, u, r, z, p, rho, step)


def conjugate_gradients(
    apply: Callable[[Array], Array],
    b: Array,
    tolerance: float,
    limit: int,
    *,
    precondition: Callable[[Array], Array],
) -> tuple[Array, Array]:
    """Solution, and its relative residual computed afresh: the recursive one drifts from it.

    Residuals are measured in the norm of the preconditioner.
    """

    def proceed(state: CGState) -> Array:
        return (state.rho > tolerance**2 * squared) & (state.iterations < limit)

    start = cg_start(jnp.zeros_like(b), b, precondition)
    squared = start.rho
    u = jax.lax.while_loop(proceed, lambda state: cg_step(state, apply, precondition), start).u
    r = b - apply(u)
    return u, jnp.sqrt(jnp.sum(r * precondition(r)) / jnp.where(squared == 0, 1, squared))


@functools.cache
def _centres_to_nodes(n: int) -> np.ndarray:
    """Not-a-knot cubic spline through the centres `(i + 1/2) / n`, evaluated at the nodes `i / (n - 1)`."""
    return CubicSpline((np.arange(n) + 0.5) / n, np.eye(n), axis=0)(np.arange(n) / (n - 1))


@functools.cache
def _nodes_to_centres(n: int) -> np.ndarray:
    """Not-a-knot cubic spline through the nodes `i / (n - 1)`, evaluated at the centres `(i + 1/2) / n`."""
    return CubicSpline(np.arange(n) / (n - 1), np.eye(n), axis=0)((np.arange(n) + 0.5) / n)


def thinned_to(solved: int, stored: int) -> int:
    """Which of the points along an axis are stored: each so-many-th.

    Raises:
        ValueError: If the stored points are no equally spaced part of those of the solver.
    """
    every, rest = divmod(solved, stored)
    if rest:
        raise ValueError(
            f"The data are solved on {solved} cells along each axis, of which {stored} are not an equally spaced part. "
            "Give a divisor."
        )
    return every


@dataclasses.dataclass(frozen=True)
class Darcy:
    """Darcy flow through two materials: `-div(a grad u) = forcing` on (0, 1)^2, `u = 0` on the boundary.

    The permeability `a` takes two values, by the sign of a Gaussian field `N(0, tau^(2 alpha - 2) (-Laplace +
    tau^2)^(-alpha))` with Neumann conditions at cell centres. For the solve, `a` is carried to the nodes of a grid with
    as many points by cubic splines, and the pressure `u` is carried back to the cell centres in the same way, as the
    public generator of Li et al., Fourier Neural Operator (2021) does: the stored `u` is not exactly zero next to the
    boundary. Their files: smooth `Darcy(resolution=421, every=2, overshoot=None)`, rough `Darcy(resolution=512,
    every=2, alpha=2.0, tau=5.0 or 20.0, low=2.0, overshoot=None)`; the two published names of the rough set disagree in
    `tau`.

    Differs from the source by default in `overshoot`: a spline overshoots at jumps, so that nodal permeabilities leave
    the interval from low to high and become negative, which is no Darcy flow and depends on the grid.

    Args:
        resolution: Number of cells along each axis for the field and for the solve.
        every: Store only each `every`-th value along each axis, beginning with the first.
        alpha: Smoothness of the Gaussian field.
        tau: Inverse correlation length of the Gaussian field; larger means finer structures.
        low: Permeability where the Gaussian field is negative.
        high: Permeability elsewhere.
        forcing: Constant right-hand side.
        overshoot: How far the interpolated permeability may leave the interval from low to high: 0 clips it, None
            keeps the splines' overshoot for comparison with the published files.
    """

    inputs: ClassVar[tuple[str, ...]] = ("permeability",)
    outputs: ClassVar[tuple[str, ...]] = ("pressure",)

    resolution: int = 64
    every: int = 1
    alpha: float = 2.0
    tau: float = 3.0
    low: float = 3.0
    high: float = 12.0
    forcing: float = 1.0
    overshoot: float | None = 0.0

    def __post_init__(self) -> None:
        if self.resolution < 4 or not 1 <= self.every < self.resolution:
            raise ValueError(
                "Expected at least 4 cells, which cubic splines need, and 1 <= every < resolution, "
                f"got resolution {self.resolution} and every {self.every}."
            )
        if not 0 < self.low <= self.high:
            raise ValueError(f"Permeabilities need 0 < low <= high, got low {self.low} and high {self.high}.")
        check_field(self.alpha, self.tau, 2)
        if self.overshoot is not None and self.overshoot < 0:
            raise ValueError(f"Expected overshoot >= 0, or None to keep all of it, got {self.overshoot}.")

    def at(self, resolution: int) -> "Darcy":
        """The same samples, stored at another resolution. Raises as `thinned_to`."""
        return dataclasses.replace(self, every=thinned_to(self.resolution, resolution))

    @property
    def grid(self) -> Grid:
        """Where the stored values are: cell centres `(i every + 1/2) / resolution`."""
        stored = -(-self.resolution // self.every)
        beyond = self.resolution - (stored - 1) * self.every - 0.5  # last stored centre to the wall, in cells
        sides = (Dirichlet(0.5 / self.every), Dirichlet(beyond / self.every))
        return Grid((stored, stored), 1.0, (sides, sides))

    def sample(self, key: Key[Array, ""]) -> tuple[Float[Array, "1 x y"], Float[Array, "1 x y"]]:
        """One pair (permeability, pressure) on `grid`, computed in float64, returned in float32.

        The caller switches float64 on, around `jax.jit` and `jax.vmap` too, as `sciml.data.draw` and
        `sciml.data.generate` do: `with jax.enable_x64(True): jax.jit(darcy.sample)(key)`.

        The pressure is NaN if the solver did not converge, which only an unclipped overshoot can cause.

        Raises:
            ValueError: If float64 is switched off.
        """
        field = neumann_field(key, (self.resolution,) * 2, alpha=self.alpha, tau=self.tau)
        a = jnp.where(field >= 0, self.high, self.low)
        u = self.pressure(a)
        keep = slice(None, None, self.every)
        return a[None, keep, keep].astype(jnp.float32), u[None, keep, keep].astype(jnp.float32)

    def pressure(self, a: Float[Array, "x y"]) -> Float[Array, "x y"]:
        """The pressure at the cell centres for a permeability at the cell centres; float64."""
        nodal = self.nodal_permeability(a)
        return self.at_centres(solve_diffusion(nodal, jnp.full_like(nodal, self.forcing)))

    def nodal_permeability(self, a: Float[Array, "x y"]) -> Float[Array, "x y"]:
        """The permeability at the nodes of the solver, `i / (resolution - 1)`, from that at the cell centres."""
        nodal = self.at_nodes(a)
        if self.overshoot is not None:
            nodal = jnp.clip(nodal, self.low - self.overshoot, self.high + self.overshoot)
        return nodal

    def at_nodes(self, values: Float[Array, "x y"]) -> Float[Array, "x y"]:
        """Cubic splines through values at the cell centres, at the nodes."""
        across = _centres_to_nodes(self.resolution)
        return along(1, across, along(0, across, values))

    def at_centres(self, values: Float[Array, "x y"]) -> Float[Array, "x y"]:
        """Cubic splines through values at the nodes, at the cell centres."""
        across = self.nodes_to_centres()
        return along(1, across, along(0, across, values))

    def nodes_to_centres(self) -> Float[np.ndarray, "centres nodes"]:
        """The matrix of `at_centres` along one axis."""
        return _nodes_to_centres(self.resolution)

    def residual(self, a: Float[Array, "1 x y"], u: Float[Array, "1 x y"]) -> Float[Array, "1 x-2 y-2"]:
        """`diffusion_residual` of fields on `grid`, for losses without data.

        Where the permeability jumps, the residual of a stored pair does not vanish but grows with the resolution, to a
        root mean square of 4 `forcing` there at 128 points: the stored values do not say where between two points the
        jump is, and the flux is off by a fixed part of it.

        Raises:
            ValueError: If a field does not live on the grid.
        """
        return diffusion_residual(a, u, self.forcing, self.grid)
