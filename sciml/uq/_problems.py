"""Problems whose discrete solutions are bounded: which equations belong to an input of a network."""

import abc
import functools
import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sciml import pdes
from sciml.grid import Dirichlet, Grid
from sciml.uq._enclosure import (
    Enclosure,
    Interval,
    Krylov,
    System,
    complementary_energy,
    enclose,
    intersection,
    residual,
    sharpen,
)
from sciml.uq._mesh import Mesh


class Bounds(eqx.Module):
    """Bounds of the error of a prediction: it is between `lower` and `upper` in each norm.

    Attributes:
        energy: Of the error in the energy norm `sqrt((A e, e))`.
        relative_energy: The same relative to the energy norm of the solution.
        l2: Of the error in the L2 norm, the root of an integral over the box.
        relative_l2: The same relative to the solution; that of `metrics.relative_l2` but for values on walls, which
            have half of the weight here.
    """

    energy: Interval
    relative_energy: Interval
    l2: Interval
    relative_l2: Interval


class AbstractBounded(eqx.Module):
    """A problem with rigorous bounds of the errors of predictions, see `bounds`."""

    @abc.abstractmethod
    def enclose(
        self,
        x: Float[Array, "inputs *points"],
        prediction: Float[Array, "outputs *space"],
        krylov: Krylov | None = None,
    ) -> Bounds:
        """`bounds` of float64 fields, in any precision."""


class AbstractLinear(AbstractBounded):
    """A problem `A u = f` with one symmetric positive definite system for each input; see `Certified`."""

    @abc.abstractmethod
    def system(self, x: Float[Array, "1 *space"]) -> System:
        """The equations that belong to an input of the network."""

    @abc.abstractmethod
    def mesh(self) -> Mesh:
        """Where the unknowns are."""

    @abc.abstractmethod
    def field(self, unknowns: Float[Array, "*unknowns"]) -> Float[Array, "1 *space"]:
        """The field S u on the grid of the network, a linear map without kernel."""

    @abc.abstractmethod
    def unknowns(self, field: Float[Array, "1 *space"]) -> Float[Array, "*unknowns"]:
        """The pseudo-inverse of S: what it leaves of a field is orthogonal to the fields S v."""

    @abc.abstractmethod
    def norm(self, field: Float[Array, "1 *space"]) -> Float[Array, ""]:
        """The L2 norm of a field."""

    @abc.abstractmethod
    def gains(self) -> tuple[float, float]:
        """The least and the largest quotient of `norm(S v)` and `|v|`."""

    def enclose(
        self, x: Float[Array, "1 *points"], prediction: Float[Array, "1 *space"], krylov: Krylov | None = None
    ) -> Bounds:
        """As in `AbstractBounded`.

        With `v = unknowns(prediction)` the error is `S (u - v) + m`, and `m = S v - prediction` is orthogonal to the
        first term: the squares of both norms add up. With a `w` that is closer to `u`, the first norm differs from that
        of `S (w - v)` by at most that of `S (u - w)`.
        """
        system = self.system(x)
        v, mean = without_mean(system, self.unknowns(prediction))
        found = enclose(system, v)
        if krylov is not None:
            found = sharpen(system, v, found, krylov)
        least, most = self.gains()
        rest, moved = most * found.rest[1], self.norm(self.field(found.near - v))
        part = Interval(least * found.l2.lower, most * found.l2.upper)
        part = intersection(part, Interval(moved * (1 - system.sums) - rest, moved * (1 + system.sums) + rest))
        shift = jnp.abs(mean) * math.sqrt(system.mesh.measure)
        left = jnp.hypot(self.norm(self.field(self.unknowns(prediction)) - prediction), shift)
        l2 = Interval(jnp.hypot(part.lower, left), jnp.hypot(part.upper, left))
        sizes = _size(system.energy(found.near), found.rest[0]), _size(self.norm(self.field(found.near)), rest)
        least_energy = jnp.sqrt(system.coercivity) * found.size
        sizes = _at_least(sizes[0], least_energy), _at_least(sizes[1], least * found.size)
        return Bounds(found.energy, relative(found.energy, sizes[0]), l2, relative(l2, sizes[1]))


def _size(norm: Array, error: Array) -> Interval:
    """The norm of the solution from that of an approximation and a bound of its error."""
    return Interval(norm - error, norm + error)


def _at_least(size: Interval, least: Array) -> Interval:
    return Interval(jnp.maximum(size.lower, least), size.upper)


def relative(error: Interval, size: Interval) -> Interval:
    """Bounds of a quotient; the upper one is infinite if the size may be zero."""
    positive = size.lower > 0
    upper = jnp.where(positive, error.upper / jnp.where(positive, size.lower, 1), jnp.inf)
    lower = error.lower / jnp.where(size.upper > 0, size.upper, 1)
    return Interval(jnp.minimum(lower, upper), jnp.where(error.upper == 0, 0, upper))


def without_mean(system: System, v: Array) -> tuple[Array, Array]:
    """The field without its mean, and the mean, if the system is singular; else the field and 0."""
    if not system.singular:
        return v, jnp.zeros((), v.dtype)
    mean = system.mesh.mean(v)
    return v - mean, mean


def _compatible(mesh: Mesh, f: Array, mass: float) -> Array:
    """The forcing, without the rounding of its mean where it must have none.

    Raises:
        An error of Equinox at run time: If no wall holds a value and the mean of the forcing is not 0.
    """
    if not mesh.singular or mass:
        return f
    mean = mesh.mean(f)
    wrong = jnp.abs(mean) > 1e4 * jnp.finfo(f.dtype).eps * jnp.max(jnp.abs(f))
    f = eqx.error_if(
        f,
        wrong,
        "Expected a forcing of mean 0: no wall of the grid holds a value, so that there is no solution otherwise. "
        "Subtract the mean of the forcing; the solution is then that of mean 0.",
    )
    return f - mean


def _positive(faces: list[Array]) -> list[Array]:
    """The coefficient, if it is positive.

    Raises:
        An error of Equinox at run time: If it is not.
    """
    least = jnp.min(jnp.stack([jnp.min(a) for a in faces]))
    first = eqx.error_if(
        faces[0],
        ~(least > 0),
        "Expected a coefficient that is positive at all faces, got a smaller one or NaN. Without it the problem is not "
        "elliptic and has no bound: check the input, and that it is not normalised.",
    )
    return [first, *faces[1:]]


class Diffusion(AbstractLinear):
    """`-div(a grad u) = forcing` on a grid, by fluxes with arithmetic means of neighbouring coefficients.

    The discrete problem whose solution is bounded is that on the grid of the fields, in 1 to 3 dimensions: that of
    `pdes.solve_diffusion` where the grid is `Grid(n, 1.0, Dirichlet(0))`, finite volumes where the walls have the gap
    1/2. Next to a wall on which no value is stored the coefficient is that of the nearest point. Where no wall holds a
    value, the forcing must have the mean 0, and the solution is that of mean 0.

    The error against the solution of the differential equation, or of a finer grid, is not bounded; for data of
    `pdes.Darcy` see `SplineDarcy`.

    Args:
        grid: Where coefficient and solution live, any walls and gaps.
        forcing: The right-hand side: a number, or its values at the points.
    """

    grid: Grid = eqx.field(static=True)
    forcing: float | Float[Array, "*space"] = 1.0

    def mesh(self) -> Mesh:
        """The points that are on no Dirichlet wall."""
        return Mesh(self.grid)

    def system(self, x: Float[Array, "1 *space"]) -> System:
        """The flux scheme with the coefficient `x[0]`."""
        self.grid.check(x)
        mesh = self.mesh()
        f = jnp.broadcast_to(jnp.asarray(self.forcing, x.dtype), self.grid.shape)[mesh.inner]
        return System(mesh, _positive(mesh.at_faces(x[0])), _compatible(mesh, f, 0.0))

    def unknowns(self, field: Float[Array, "1 *space"]) -> Float[Array, "*unknowns"]:
        """The values that are on no Dirichlet wall."""
        self.grid.check(field)
        return field[0][self.mesh().inner]

    def field(self, unknowns: Float[Array, "*unknowns"]) -> Float[Array, "1 *space"]:
        """The unknowns, and zero on Dirichlet walls."""
        pairs = zip(self.mesh().inner, self.grid.shape, strict=True)
        return jnp.pad(unknowns, [(part.start, n - part.stop) for part, n in pairs])[None]

    def norm(self, field: Float[Array, "1 *space"]) -> Float[Array, ""]:
        """As in `AbstractLinear`; by `Mesh`, and the half of a cell at a Dirichlet wall."""
        mesh = self.mesh()
        walls = field[0].at[mesh.inner].set(0)
        own = mesh.inner_product(field[0][mesh.inner], field[0][mesh.inner])
        return jnp.sqrt(own + mesh.volume / 2 * jnp.sum(walls**2))

    def gains(self) -> tuple[float, float]:
        """1 and 1."""
        return 1.0, 1.0


class SplineDarcy(AbstractLinear):
    """The problem that the samples of a generator `pdes.Darcy` solve, for fields at its cell centres.

    The generator carries the permeability to the nodes by cubic splines, clips it, solves there, and carries the
    pressure back by splines S: a stored pressure is `S u` for the discrete solution `u` at the nodes, rounded to
    float32. So the system is that at the nodes. A prediction is carried to the nodes by the pseudo-inverse of S, and
    what it leaves is part of the error. The energy is that of the nodal field.

    Args:
        darcy: The generator; it must store every cell.

    Raises:
        ValueError: If the stored values do not determine the discrete problem.
    """

    darcy: pdes.Darcy = eqx.field(static=True)

    def __check_init__(self) -> None:
        if self.darcy.every != 1:
            raise ValueError(
                f"Expected data that store every cell, got every {self.darcy.every}: a sample then does not hold the "
                "permeability that its pressure was solved with. Generate with every=1, or bound the error against the "
                "solution on the stored grid: uq.Diffusion(darcy.grid, darcy.forcing)."
            )

    def mesh(self) -> Mesh:
        """The inner nodes of the generator's solver."""
        return Mesh(Grid((self.darcy.resolution,) * 2, 1.0, Dirichlet(0.0)))

    def system(self, x: Float[Array, "1 x y"]) -> System:
        """That of the nodes, for the permeability `x[0]` at the cell centres."""
        self.darcy.grid.check(x)
        mesh = self.mesh()
        faces = mesh.at_faces(self.darcy.nodal_permeability(x[0]))
        return System(mesh, _positive(faces), jnp.full(mesh.shape, self.darcy.forcing, x.dtype))

    def unknowns(self, field: Float[Array, "1 x y"]) -> Float[Array, "*unknowns"]:
        """The values at the inner nodes whose splines are closest to the field in the mean square."""
        self.darcy.grid.check(field)
        inverse = jnp.asarray(_splines(self.darcy)[0], field.dtype)
        return inverse @ field[0] @ inverse.T

    def field(self, unknowns: Float[Array, "*unknowns"]) -> Float[Array, "1 x y"]:
        """Splines through the nodes, at the cell centres."""
        return self.darcy.at_centres(jnp.pad(unknowns, 1))[None]

    def norm(self, field: Float[Array, "1 x y"]) -> Float[Array, ""]:
        """The root mean square."""
        return jnp.sqrt(jnp.mean(field**2))

    def gains(self) -> tuple[float, float]:
        """From the singular values of the splines along one axis, and the sizes of the cells."""
        least, most = _splines(self.darcy)[1]
        cells = (self.darcy.resolution - 1) / self.darcy.resolution
        return least**2 * cells, most**2 * cells


@functools.cache
def _splines(darcy: pdes.Darcy) -> tuple[Float[np.ndarray, "nodes centres"], tuple[float, float]]:
    """Pseudo-inverse and extreme singular values of the splines from the inner nodes to the centres, along one axis."""
    across = darcy.nodes_to_centres()[:, 1:-1]
    values = np.linalg.svd(across, compute_uv=False)
    return np.linalg.pinv(across), (float(values[-1]) * (1 - 1e-12), float(values[0]) * (1 + 1e-12))


class Semilinear(AbstractBounded):
    """`-div(a grad u) + reaction(u) = forcing` with a reaction that does not decrease: the scheme of `Diffusion`.

    The difference of two values of the reaction has the sign of the difference of its arguments, hence
    `|e|_A^2 <= (r, e)` for the error `e` and the residual `r = forcing - A v - reaction(v)`: the upper bounds of the
    linear problem hold. The energy norm is that of A.

    Args:
        grid: As for `Diffusion`; some wall must hold a value.
        reaction: A function of one number, such as `lambda u: u**3`.
        forcing: As for `Diffusion`.
        lipschitz: A bound of the derivative of the reaction on the values of solution and prediction; without it the
            lower bounds are 0.

    Raises:
        ValueError: If no wall holds a value.
    """

    grid: Grid = eqx.field(static=True)
    reaction: Callable[[Array], Array] = eqx.field(static=True)
    forcing: float | Float[Array, "*space"] = 1.0
    lipschitz: float = eqx.field(static=True, default=math.inf)

    def __check_init__(self) -> None:
        if Mesh(self.grid).singular:
            raise ValueError(
                "Expected a grid with a Dirichlet wall, got only Neumann and Periodic ones: a reaction that may vanish "
                "then gives no bound. Use Diffusion for problems without a reaction."
            )

    def enclose(
        self, x: Float[Array, "1 *points"], prediction: Float[Array, "1 *space"], krylov: Krylov | None = None
    ) -> Bounds:
        """As in `AbstractBounded`."""
        linear = Diffusion(self.grid, self.forcing)
        system, v = linear.system(x), linear.unknowns(prediction)
        slopes = jax.vmap(jax.grad(self.reaction))(v.ravel())
        v = eqx.error_if(
            v,
            jnp.any(slopes < 0),
            "Expected a reaction that does not decrease, got a negative derivative at a value of the prediction. "
            "Equations that are not monotone may have several solutions and have no such bound.",
        )
        system = eqx.tree_at(lambda one: one.forcing, system, system.forcing - self.reaction(v))
        found = enclose(system, v, lipschitz=self.lipschitz)
        upper = found.energy.upper
        if krylov is not None:  # of the linear equation with this residual, whose error is at least as large
            upper = jnp.fmin(upper, sharpen(system, v, enclose(system, v), krylov).energy.upper)
        l2 = Interval(found.l2.lower, upper / jnp.sqrt(system.coercivity))
        walls = linear.norm(linear.field(v) - prediction)
        both = Interval(l2.lower, l2.upper + walls)
        energy = Interval(found.energy.lower, upper)
        sizes = _size(system.energy(v), upper), _size(linear.norm(linear.field(v)), l2.upper)
        return Bounds(energy, relative(energy, sizes[0]), both, relative(both, sizes[1]))


class ImplicitHeat(AbstractBounded):
    """Backward Euler steps of `u_t = div(a grad u) + forcing`: `(1 + dt A) u_(n+1) = u_n + dt forcing`.

    The input is the state at time 0, followed by the coefficient `a` as a second channel if there is one, else `a` is
    1; the prediction holds the states after each step. With the residual `r_n` of a step of the prediction `v`, the
    error is `e_(n+1) = (1 + dt A)^(-1) (e_n + r_n)`, and `|(1 + dt A)^(-1)| <= rho = 1 / (1 + dt a_min lambda_min)`, so
    that `|e_(n+1)| <= rho |e_n| + sqrt(rho) E_n` with the bound `E_n` of the step in its energy norm. The energy norm
    is that of `1 + dt A`. All bounds are those of the steps, not of the differential equation in time.

    Args:
        grid: As for `Diffusion`, of any walls.
        dt: Length of a step.
        forcing: As for `Diffusion`, constant in time.

    Raises:
        ValueError: If the step is not positive.
    """

    grid: Grid = eqx.field(static=True)
    dt: float = eqx.field(static=True)
    forcing: float | Float[Array, "*space"] = 0.0

    def __check_init__(self) -> None:
        if not self.dt > 0:
            raise ValueError(f"Expected a step dt > 0, got {self.dt}.")

    def enclose(
        self, x: Float[Array, "inputs *points"], prediction: Float[Array, "steps *space"], krylov: Krylov | None = None
    ) -> Bounds:
        """As in `AbstractBounded`, with one bound for each step.

        Raises:
            ValueError: If the input has more than two channels.
        """
        self.grid.check(x)
        self.grid.check(prediction)
        if x.shape[0] > 2:
            raise ValueError(f"Expected the state at time 0 and at most the coefficient, got {x.shape[0]} channels.")
        mesh, a = Mesh(self.grid), x[1] if x.shape[0] == 2 else jnp.ones_like(x[0])
        faces = [self.dt * face for face in _positive(mesh.at_faces(a))]
        f = jnp.broadcast_to(self.dt * jnp.asarray(self.forcing, x.dtype), self.grid.shape)[mesh.inner]
        states = jnp.concatenate((x[:1], prediction))[(slice(None), *mesh.inner)]

        def step(before: Array, after: Array) -> tuple[Enclosure, Interval, Array]:
            system = System(mesh, faces, before + f, 1.0)
            first = enclose(system, after)
            found = first if krylov is None else sharpen(system, after, first, krylov)
            return found, _size(system.energy(after), jnp.zeros(())), 1 / system.coercivity

        found, size, rho = jax.vmap(step)(states[:-1], states[1:])
        own = jnp.minimum(found.l2.upper, rho * (jax.vmap(mesh.norm)(found.residual) + found.slack))
        sums = lambda before, one: (one[0] * before + one[1],) * 2
        l2 = jax.lax.scan(sums, jnp.zeros((), own.dtype), (rho, own))[1] * (1 + 1e-14)
        carried = jnp.concatenate((jnp.zeros_like(l2[:1]), l2[:-1])) * jnp.sqrt(rho)
        energy = Interval(jnp.maximum(found.energy.lower - carried, 0), found.energy.upper + carried)
        linear = Diffusion(self.grid)
        walls = jax.vmap(lambda v, p: linear.norm(linear.field(v) - p[None]))(states[1:], prediction)
        errors = Interval(jnp.maximum(found.l2.lower - carried * jnp.sqrt(rho), 0), l2 + walls)
        norms = jax.vmap(mesh.norm)(states[1:])
        relatives = relative(energy, _size(size.lower, energy.upper)), relative(errors, _size(norms, l2))
        return Bounds(energy, relatives[0], errors, relatives[1])


def problem_of(generator: Any) -> AbstractBounded:
    """The problem whose discrete solutions the samples of a generator of `sciml.pdes` are.

    Raises:
        ValueError: If there is none, with the reason.
    """
    if isinstance(generator, pdes.Darcy):
        return SplineDarcy(generator)
    name = type(generator).__name__
    reasons = {
        "MultiscaleDarcy": "its finite elements use the permeability inside of cells, which a sample does not "
        "hold. Bound the error against the flux scheme at stored nodes: uq.Diffusion(problem.grid, problem.forcing)",
        "Helmholtz": "its operator is indefinite, so that a residual bounds no error without the smallest singular "
        "value. Look at the residual, or compare with the generator's own solution",
    }
    reason = reasons.get(name, "its solver is not one of the schemes whose residual bounds the error")
    raise ValueError(f"Samples of {name} have no rigorous bound: {reason}. Problems with bounds: {_KNOWN}.")


_KNOWN = "uq.Diffusion, uq.SplineDarcy (data of pdes.Darcy), uq.Semilinear, uq.ImplicitHeat"


def checked_double(
    x: Float[Array | np.ndarray, "inputs *points"], prediction: Float[Array | np.ndarray, "outputs *space"]
) -> tuple[Array, Array]:
    """Input and prediction in float64.

    Raises:
        ValueError: If float64 is switched off.
    """
    found = jnp.asarray(x, float), jnp.asarray(prediction, float)
    if found[0].dtype != jnp.float64:
        raise ValueError(
            f"Bounds are computed in float64, got {found[0].dtype}. Switch it on around the call: "
            "`with jax.enable_x64(True):`; the network may stay in float32."
        )
    return found


def bounds(
    problem: AbstractBounded,
    x: Float[Array | np.ndarray, "inputs *points"],
    prediction: Float[Array | np.ndarray, "outputs *space"],
    *,
    krylov: Krylov | None = None,
) -> Bounds:
    """Rigorous bounds of the error of a prediction against the discrete solution, which is not computed.

    The cost is one residual and two fast solves with constant coefficients. The rounding of float64 is part of the
    bounds. What is bounded is the difference from the solution of the discrete problem; how far that is from the
    solution of the differential equation is another question.

    Write `jax.jit(jax.vmap(lambda x, v: bounds(problem, x, v)))` for batches, within `jax.enable_x64`.

    Args:
        problem: The equations.
        x: The input of the network, in physical units.
        prediction: The output of the network, in physical units.
        krylov: Sharper bounds at more cost.

    Raises:
        ValueError: If a field does not live on the grid of the problem, or float64 is switched off.
        An error of Equinox at run time: If a coefficient is not positive, or the problem has no solution.
    """
    return problem.enclose(*checked_double(x, prediction), krylov)


def dual_norm(problem: AbstractLinear) -> Callable[[Array, Array], Array]:
    """A function `(x, prediction) -> ` squared bound of the energy error, for training without solutions.

    `|a^(-1/2) q|^2` with `q = scale D L^(-1) r`: at least the squared energy error, and it where `a` is constant.
    `losses.unsupervised(uq.dual_norm(problem))` is the loss. Differentiable, in the precision of the fields. What
    `SplineDarcy` leaves of a prediction is not part of it: train on problems of the grid itself, `Diffusion`.
    """

    def squared(x: Float[Array, "1 *points"], prediction: Float[Array, "1 *space"]) -> Float[Array, ""]:
        system = problem.system(x)
        v, _ = without_mean(system, problem.unknowns(prediction))
        return complementary_energy(system, system.precondition(residual(system, v)[0]))

    return squared
