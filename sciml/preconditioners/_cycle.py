"""A multigrid cycle that reads its coefficients from the medium and is symmetric positive definite for all weights."""

import math
from collections.abc import Callable
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from sciml.preconditioners._coarsening import (
    Colours,
    Corrections,
    Detours,
    Links,
    Prolongation,
    coarsened,
    joined,
    links,
    over,
    product,
    split,
)
from sciml.preconditioners._conductances import Conductances, kept, padded, window

COARSEST, LARGEST = 64, 1024  # unknowns that are solved by a dense inverse: at most, and where coarsening must end
LOW, LEAK = 1e-8, 0.1  # of conductances in the logarithm, and of the network's activation


@final
class Read(eqx.Module):
    """What a `MediumReader` says about one level: corrections of the coarsening, relaxations, weights of clusters.

    Attributes:
        corrections: Of the coarsening.
        relaxation: Over-relaxation of each node, in (0, 2).
        cluster: Positive weight of the correction of each centre with its four edges.
    """

    corrections: Corrections
    relaxation: Colours
    cluster: Array


@final
class MediumReader(eqx.Module):
    """A small convolutional network from the conductances around each block of 2 x 2 nodes to `Read`.

    It sees logarithms of ratios of conductances, so that a multiple of the medium gives the same numbers, and computes
    in single precision. All outputs are bounded: positive factors in exp(+-3), relaxations in (0.05, 1.95), floors in
    (0, 1). The last layer begins as zero, which is the classical cycle: factors 1, relaxations 1, floors of 0.02 for
    X-Y and 0.98 for Z-Z.

    Attributes:
        first: A stencil of 3 x 3 blocks; beyond the ends are zeros.
        second: From hidden to hidden channels.
        last: From hidden channels to the outputs.
        biases: Of the three layers.
    """

    first: Float[Array, "3 3 hidden features"]
    second: Float[Array, "hidden hidden"]
    last: Float[Array, "outputs hidden"]
    biases: list[Array]

    def __init__(self, width: int, *, diagonals: int, key: PRNGKeyArray) -> None:
        """Draws the weights.

        Args:
            width: Number of hidden channels.
            diagonals: Number of links X-Y of a block: 4 or 0.
            key: Of the random initial values.
        """
        keys, single = jax.random.split(key, 2), jnp.float32
        features, outputs = 16 + 2 * diagonals, 15 + 3 * diagonals
        self.first = jax.random.normal(keys[0], (3, 3, width, features), single) / (9 * features) ** 0.5
        self.second = jax.random.normal(keys[1], (width, width), single) / width**0.5
        self.last = jnp.zeros((outputs, width), single)
        self.biases = [jnp.zeros(count, single) for count in (width, width, outputs)]

    def __call__(self, own: Links, diagonal: Colours) -> Read:
        """The numbers of one level."""
        out = self._outputs(kept(_features(own, diagonal)))
        detours = (len(out) - 9) // 3  # each with a factor for odds, one for the gain, and a floor
        factors, floors, relaxations = kept(
            (
                jnp.exp(3 * jnp.tanh(out[: 2 * detours + 5] / 3)),
                jax.nn.sigmoid(out[2 * detours + 5 : -4] + _first_floors(detours)),
                1 + 0.95 * jnp.tanh(out[-4:]),
            )
        )
        rows = lambda values: [one.astype(diagonal.z.dtype) for one in values]
        factors, floors = rows(factors), rows(floors)
        odds, gains, (*coarse, cluster) = factors[:detours], factors[detours:-5], factors[-5:]
        diagonals = Detours(odds[2:], floors[2:], gains[2:]) if detours > 2 else None
        corrections = Corrections(diagonals, Detours(odds[:2], floors[:2], gains[:2]), coarse)
        return Read(corrections, Colours(*rows(relaxations)), cluster)

    def _outputs(self, features: Float[Array, "features n m"]) -> Float[Array, "outputs n m"]:
        """The network's last layer."""
        n, m = features.shape[1:]
        around = kept(jnp.pad(features, ((0, 0), (1, 1), (1, 1))))
        parts = jnp.tensordot(self.first, around, axes=1)  # one product for all nine steps
        hidden = sum(parts[s, t, :, s : s + n, t : t + m] for s in range(3) for t in range(3))
        for weight, bias in zip((self.second, self.last), self.biases, strict=False):
            hidden = hidden + bias[:, None, None]
            hidden = jnp.tensordot(weight, kept(jnp.maximum(hidden, LEAK * hidden)), axes=1)
        return kept(hidden + self.biases[-1][:, None, None])


def _first_floors(detours: int) -> Float[Array, "detours 1 1"]:
    """Floors before the training, through a sigmoid: of the two links Z-Z near 1, of links X-Y near 0."""
    return jnp.where(jnp.arange(detours) < 2, 4.0, -4.0).astype(jnp.float32)[:, None, None]


def _features(own: Links, diagonal: Colours) -> Float[Array, "features blocks_x blocks_y"]:
    """Logarithms of the conductances of each block relative to its largest diagonal entry, from -1 to about 0."""
    values = [*own.xc, *own.xz, *own.yc, *own.yz, *(own.zc or []), *(own.xy or []), *own.wall, *diagonal]
    largest = jnp.maximum(jnp.maximum(diagonal.z, diagonal.y), jnp.maximum(diagonal.x, diagonal.c))
    ratios = kept(jnp.stack(values)) * kept(over(jnp.ones_like(largest), largest))[None]
    return jnp.log(ratios.astype(jnp.float32) + LOW) * (-1 / math.log(LOW))


@final
class Level(eqx.Module):
    """One level of a cycle, ready to be applied.

    Attributes:
        own: Conductances, each `padded`.
        diagonal: Of A.
        step: Relaxation over diagonal, the smoother's diagonal.
        keep: 1 - relaxation.
        prolongation: P.
        cluster_x: Values of W at X(I + s, J) around Z(I, J), `padded`.
        cluster_y: The same at Y.
        cluster: D.
        coarse_shape: Of the next level.
    """

    own: Links
    diagonal: Colours
    step: Colours
    keep: Colours
    prolongation: Prolongation
    cluster_x: list[Array]
    cluster_y: list[Array]
    cluster: Array
    coarse_shape: tuple[int, ...] = eqx.field(static=True)

    def relaxed(self, f: Colours, u: dict[str, Array], colours: str) -> dict[str, Array]:
        """Over-relaxed Gauss-Seidel steps at one colour after the other, on padded fields; what `u` lacks is zero."""
        u = dict(u)
        for colour in colours:
            new = getattr(self.step, colour) * (getattr(f, colour) + _neighbours(self.own, colour, u))
            u[colour] = padded(new + getattr(self.keep, colour) * window(u[colour]) if colour in u else new)
        return u

    def residual(self, f: Colours, u: dict[str, Array]) -> Colours:
        """The residual f - A u."""
        of = lambda c: getattr(f, c) - getattr(self.diagonal, c) * window(u[c]) + _neighbours(self.own, c, u)
        return kept(Colours(*[of(colour) for colour in Colours._fields]))

    def of_clusters(self, r: Colours) -> Colours:
        """W D W^T r, where the columns of W are a centre and the edges around it, relaxed for the centre's value 1."""
        total, x, y = r.z, padded(r.x), padded(r.y)
        for t in (0, 1):
            total = total + window(self.cluster_x[t], -t, 0) * window(x, -t, 0)
            total = total + window(self.cluster_y[t], 0, -t) * window(y, 0, -t)
        z = padded(self.cluster * total)
        x = window(self.cluster_x[0]) * window(z) + window(self.cluster_x[1]) * window(z, 1, 0)
        y = window(self.cluster_y[0]) * window(z) + window(self.cluster_y[1]) * window(z, 0, 1)
        return Colours(window(z), y, x, jnp.zeros_like(r.c))


def _neighbours(own: Links, colour: str, u: dict[str, Array]) -> Array | float:
    """Sum of conductance times value over the neighbours of the nodes of one colour."""
    total: Array | float = 0.0
    for first, second, conductances, steps in own.table():
        for k, (rows, columns) in zip(conductances, steps, strict=True):
            if colour == first and second in u:
                total = total + window(k) * window(u[second], rows, columns)
            elif colour == second and first in u:
                total = total + window(k, -rows, -columns) * window(u[first], -rows, -columns)
    return total


@final
class Hierarchy(eqx.Module):
    """A cycle for one medium, a symmetric positive definite linear map f -> M f that approximates the inverse of A.

    Attributes:
        levels: From fine to coarse.
        inverse: Dense inverse of the coarsest matrix.
    """

    levels: list[Level]
    inverse: Float[Array, "unknowns unknowns"]

    def __call__(self, f: Float[Array, "n m"]) -> Float[Array, "n m"]:
        """M f."""
        return self._cycle(f, 0)

    def _cycle(self, f: Array, depth: int) -> Array:
        if depth == len(self.levels):
            return (self.inverse @ f.ravel()).reshape(f.shape)
        level, data = self.levels[depth], kept(split(f))
        u = level.relaxed(data, {}, "zcxy")
        r = level.residual(data, u)
        coarse = self._cycle(kept(level.prolongation.transposed(r, level.coarse_shape)), depth + 1)
        more = zip(level.prolongation(coarse), level.of_clusters(r), strict=True)
        u = {c: padded(window(u[c]) + a + b) for c, (a, b) in zip(Colours._fields, more, strict=True)}
        u = level.relaxed(data, u, "yxcz")
        return joined(Colours(*[window(u[c]) for c in Colours._fields]), f.shape)


@final
class SymmetricCycle(eqx.Module):
    """A family of preconditioners: `cycle(conductances)` is the `Hierarchy` of a medium, for grids of any size.

    One level, with the residual r = f - A u:

        u = S f,   u <- u + (P B P^T + W D W^T) r,   u <- u + S^T r

    S is one sweep of over-relaxation (SOR) over four colours with a relaxation in (0, 2) at each node, S^T the sweep in
    reverse order. P and the coarse conductances come from an approximate elimination (`coarsened`), B is the same cycle
    for them, W D W^T one correction for each centre and the edges around it, which a coarse grid misses
    where they are an island in the medium. With R = P B P^T + W D W^T,

        M = S + S^T - S^T A S + (I - S^T A) R (I - A S).

    The first part is positive definite, since S + S^T - S^T A S = N^-T ((2/omega - 1) D_A) N^-1 with the lower triangle
    N = S^-1; the second is semidefinite as soon as B and D are. Hence M is symmetric positive definite for all weights.

    Two networks read the numbers of a level, `finest` where the conductances have no diagonals, `coarser` elsewhere; so
    the weights do not depend on the grid.

    Attributes:
        finest: Of levels without diagonal conductances.
        coarser: Of the other levels.
    """

    finest: MediumReader
    coarser: MediumReader

    def __init__(self, *, width: int = 16, key: PRNGKeyArray) -> None:
        """Draws the weights; before training, the cycle is the classical one, with all factors and relaxations 1.

        Args:
            width: Number of hidden channels of both networks.
            key: Of the random initial values.
        """
        first, second = jax.random.split(key)
        self.finest = MediumReader(width, diagonals=0, key=first)
        self.coarser = MediumReader(width, diagonals=4, key=second)

    def __call__(self, conductances: Conductances) -> Hierarchy:
        """The preconditioner of a medium.

        Raises:
            ValueError: If the grid is so much longer than wide that too many unknowns are left on the coarsest level.
        """
        levels: list[Level] = []
        while conductances.wall.size > COARSEST and min(conductances.shape) > 1:
            reader = self.finest if conductances.down is None else self.coarser
            level, conductances = _level(conductances, reader)
            levels.append(level)
        if conductances.wall.size > LARGEST:
            raise ValueError(
                f"The coarsest grid {conductances.shape} has {conductances.wall.size} unknowns, more than the "
                f"{LARGEST} of a dense inverse. Use a grid that is less long: each level halves both axes."
            )
        return Hierarchy(levels, _dense_inverse(conductances))


def _level(conductances: Conductances, reader: Callable[[Links, Colours], Read]) -> tuple[Level, Conductances]:
    n, m = conductances.shape
    own, diagonal = kept((links(conductances), split(conductances.diagonal())))
    read = reader(own, diagonal)
    own = jax.tree.map(padded, own)
    coarse, prolongation = coarsened(own, read.corrections, (n // 2, m // 2))
    one_over = lambda d: kept(over(jnp.ones_like(d), d))
    inverse = Colours(*[one_over(d) for d in diagonal])
    cluster_x, cluster_y = (
        [padded(window(k) * d) for k in pair] for pair, d in ((own.xz, inverse.x), (own.yz, inverse.y))
    )
    energy = diagonal.z
    for t in (0, 1):
        energy = energy - product(-t, 0, own.xz[t], cluster_x[t]) - product(0, -t, own.yz[t], cluster_y[t])
    # Links X-Y only lower the energy of a cluster; the floor keeps rounding from making it zero or negative.
    energy = kept(jnp.maximum(energy, 1e-4 * jnp.finfo(energy.dtype).eps ** 0.5 * diagonal.z))
    weight = kept(over(read.cluster, energy))
    step = Colours(*[kept(omega * d) for omega, d in zip(read.relaxation, inverse, strict=True)])
    keep = Colours(*[kept(1 - omega) for omega in read.relaxation])
    return Level(own, diagonal, step, keep, prolongation, cluster_x, cluster_y, weight, coarse.shape), coarse


def _dense_inverse(conductances: Conductances) -> Float[Array, "unknowns unknowns"]:
    """The inverse of the matrix, symmetric to rounding."""
    n = conductances.wall.size
    unit = jnp.eye(n, dtype=conductances.wall.dtype).reshape(n, *conductances.shape)
    matrix = jax.vmap(conductances.product)(unit).reshape(n, n)
    inverse = jnp.linalg.inv(matrix)
    return (inverse + inverse.T) / 2
