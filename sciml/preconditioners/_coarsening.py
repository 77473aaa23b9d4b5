"""Conductances of every second node: the other nodes are eliminated, and links that would spread are rerouted.

A block (I, J) of 2 x 2 nodes has the centre Z at (2I, 2J), the edges Y at (2I, 2J + 1) and X at (2I + 1, 2J), and the
coarse node C at (2I + 1, 2J + 1). Along an edge, neighbours are numbered by their order: `xc[0]` leads from X to the C
before it, `xc[1]` to the one after it.
"""

import functools
import itertools
import operator
from typing import NamedTuple, final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from sciml.preconditioners._conductances import Conductances, kept, padded, shifted, window

BOTH = tuple(itertools.product((0, 1), repeat=2))
Pair = list[Array]


class Colours(NamedTuple):
    """A field by the colours of its nodes, each `(blocks_x, blocks_y)`."""

    z: Array
    y: Array
    x: Array
    c: Array


def split(u: Float[Array, "n m"]) -> Colours:
    """The colours of a field, which is continued by zeros to even sizes."""
    u = jnp.pad(u, tuple((0, n % 2) for n in u.shape))
    return Colours(u[::2, ::2], u[::2, 1::2], u[1::2, ::2], u[1::2, 1::2])


def joined(u: Colours, shape: tuple[int, ...]) -> Float[Array, "n m"]:
    """The field of the colours."""
    rows = jnp.stack((jnp.stack((u.z, u.y), axis=-1), jnp.stack((u.x, u.c), axis=-1)), axis=1)
    return rows.reshape(2 * u.z.shape[0], 2 * u.z.shape[1])[: shape[0], : shape[1]]


class Links(NamedTuple):
    """The conductances of a conductances by the colours of both ends.

    Attributes:
        xc: From X(I, J) to C(I, J - 1 + t), for t = 0, 1.
        xz: From X(I, J) to Z(I + s, J), for s = 0, 1.
        yc: From Y(I, J) to C(I - 1 + s, J), for s = 0, 1.
        yz: From Y(I, J) to Z(I, J + t), for t = 0, 1.
        zc: From Z(I, J) to C(I - 1 + s, J - 1 + t), for (s, t) in `BOTH`; None without diagonal conductances.
        xy: From X(I, J) to Y(I + s, J - 1 + t), for (s, t) in `BOTH`; None without diagonal conductances.
        wall: From each node to the walls.
    """

    xc: Pair
    xz: Pair
    yc: Pair
    yz: Pair
    zc: Pair | None
    xy: Pair | None
    wall: Colours

    def table(self) -> list[tuple[str, str, Pair, list[tuple[int, int]]]]:
        """For each pair of colours, conductances and the steps in blocks from the first colour to the second."""
        rows = [
            ("x", "c", self.xc, [(0, -1), (0, 0)]),
            ("x", "z", self.xz, [(0, 0), (1, 0)]),
            ("y", "c", self.yc, [(-1, 0), (0, 0)]),
            ("y", "z", self.yz, [(0, 0), (0, 1)]),
        ]
        if self.zc is not None and self.xy is not None:
            rows.append(("z", "c", self.zc, [(s - 1, t - 1) for s, t in BOTH]))
            rows.append(("x", "y", self.xy, [(s, t - 1) for s, t in BOTH]))
        return rows


def links(conductances: Conductances) -> Links:
    """The conductances by colours."""
    x, y = split(conductances.x), split(conductances.y)
    zc = xy = None
    if conductances.down is not None and conductances.up is not None:
        down, up = split(conductances.down), split(conductances.up)
        zc = [shifted(down.c, -1, -1), shifted(up.c, -1, 0), up.z, down.z]
        xy = [shifted(down.y, 0, -1), up.y, up.x, down.x]
    return Links(
        [shifted(y.c, 0, -1), y.x], [x.z, x.x], [shifted(x.c, -1, 0), x.y], [y.z, y.y], zc, xy, split(conductances.wall)
    )


def over(a: Array, b: Array) -> Array:
    """A / b where b is positive, otherwise 0: nodes that continue a field to even sizes have no links."""
    return jnp.where(b > 0, a / jnp.where(b > 0, b, 1), 0)


@final
class Detours(eqx.Module):
    """How links k that are dropped are rerouted over two paths of two links each, for several links.

    A path of conductances k1, k2 conducts `s = k1 k2 / (k1 + k2)`. Of the amount `gain min(k, floor k + s + s')` the
    first path takes the part `odds s / (odds s + s')`, the second one the rest. With a floor of 0, a link whose paths
    are weak is lost, and the coarse level corrects too much where it led; with 1, ends of the paths are glued that the
    medium separates, and the coarse level corrects too little.

    Attributes:
        odds: Positive, for each link.
        floor: In [0, 1].
        gain: Positive.
    """

    odds: list[Array]
    floor: list[Array]
    gain: list[Array]

    def __call__(self, i: int, k: Array, first: Pair, second: Pair) -> Pair:
        """What is added to both links of the first path, and of the second one."""
        least = 1e-9 * k
        s, other = (over(a * b, a + b) + least for a, b in (first, second))
        amount = self.gain[i] * jnp.minimum(k, self.floor[i] * k + s + other)
        s = self.odds[i] * s
        part = amount * over(s, s + other)
        return [part, amount - part]


@final
class Prolongation(eqx.Module):
    """P: coarse values at C, then Z from four C, then X and Y from two C and two Z, all by positive weights.

    The weights of a node sum up to 1, or to less if it is linked with a wall. They are stored `padded`.
    """

    zc: Pair
    xc: Pair
    xz: Pair
    yc: Pair
    yz: Pair

    def __call__(self, coarse: Float[Array, "n m"]) -> Colours:
        """P u by colours."""
        around = tuple((1, n - m - 1) for n, m in zip(self.zc[0].shape, coarse.shape, strict=True))
        c = kept(jnp.pad(coarse, around))
        weights = zip(self.zc, BOTH, strict=True)
        z = padded(jnp.stack([window(w) * window(c, s - 1, t - 1) for w, (s, t) in weights]).sum(0))
        x, y = jnp.zeros_like(window(z)), jnp.zeros_like(window(z))
        for t in (0, 1):
            x = x + window(self.xc[t]) * window(c, 0, t - 1) + window(self.xz[t]) * window(z, t, 0)
            y = y + window(self.yc[t]) * window(c, t - 1, 0) + window(self.yz[t]) * window(z, 0, t)
        return Colours(window(z), y, x, window(c))

    def transposed(self, r: Colours, shape: tuple[int, ...]) -> Float[Array, "n m"]:
        """P^T r, for a coarse grid of the given shape."""
        z, c, x, y = r.z, r.c, padded(r.x), padded(r.y)
        take = lambda weight, field, *step: window(weight, *step) * window(field, *step)
        for t in (0, 1):
            z = z + take(self.xz[t], x, -t, 0) + take(self.yz[t], y, 0, -t)
            c = c + take(self.xc[t], x, 0, 1 - t) + take(self.yc[t], y, 1 - t, 0)
        z = padded(z)
        for w, (s, t) in zip(self.zc, BOTH, strict=True):
            c = c + take(w, z, 1 - s, 1 - t)
        return c[: shape[0], : shape[1]]


@final
class Corrections(eqx.Module):
    """What is free in the coarsening: positive numbers for each block.

    Attributes:
        diagonals: Of the links X-Y, in the order of `Links.xy`, through C and through Z; None without such links.
        centres: Of the links between two Z, through the two C at X, and through the two C at Y.
        coarse: Factors of the coarse conductances x, y, down, up.
    """

    diagonals: Detours | None
    centres: Detours
    coarse: list[Array]


def coarsened(own: Links, corrections: Corrections, coarse_shape: tuple[int, int]) -> tuple[Conductances, Prolongation]:
    """The conductances of the nodes C, and the prolongation from them, for padded links of a level.

    Every link X-Y is dropped and rerouted over both paths of two links between its ends, then X and Y are eliminated
    exactly; every link Z-Z that this creates is rerouted over two paths through C, then Z is eliminated exactly. All
    conductances stay positive, whatever the corrections are. With constant conductances and corrections of odds and
    gain 1 the energy of linear fields is kept.
    """
    own = _without_xy(own, corrections)
    across_x, across_y = _inverse([*own.xc, *own.xz, own.wall.x]), _inverse([*own.yc, *own.yz, own.wall.y])
    zc = _around_centres(own, across_x, across_y, corrections)
    wall_z, wall_c = window(own.wall.z), window(own.wall.c)
    for t in (0, 1):
        wall_z = wall_z + product(-t, 0, own.xz[t], own.wall.x, across_x)
        wall_z = wall_z + product(0, -t, own.yz[t], own.wall.y, across_y)
        wall_c = wall_c + product(0, 1 - t, own.xc[t], own.wall.x, across_x)
        wall_c = wall_c + product(1 - t, 0, own.yc[t], own.wall.y, across_y)
    wall_z = padded(wall_z)
    across_z = _inverse([*zc, wall_z])
    scaled = lambda pair, inverse: [padded(product(0, 0, k, inverse)) for k in pair]
    weights = scaled(zc, across_z)
    for w, (s, t) in zip(weights, BOTH, strict=True):
        wall_c = wall_c + product(1 - s, 1 - t, w, wall_z)
    x = product(1, 0, own.yc[0], own.yc[1], across_y)
    x = x + product(1, 1, weights[0], zc[2]) + product(1, 0, weights[1], zc[3])
    y = product(0, 1, own.xc[0], own.xc[1], across_x)
    y = y + product(1, 1, weights[0], zc[1]) + product(0, 1, weights[2], zc[3])
    down, up = product(1, 1, weights[0], zc[3]), product(1, 0, weights[1], zc[2])
    n, m = coarse_shape
    x, y, down, up = ((k * gain)[:n, :m] for k, gain in zip((x, y, down, up), corrections.coarse, strict=True))
    prolongation = Prolongation(
        weights,
        scaled(own.xc, across_x),
        scaled(own.xz, across_x),
        scaled(own.yc, across_y),
        scaled(own.yz, across_y),
    )
    return kept((Conductances(x, y, down, up, wall_c[:n, :m]), prolongation))


def product(rows: int, columns: int, *fields: Array) -> Array:
    """The product of padded fields, shifted."""
    return functools.reduce(operator.mul, [window(field, rows, columns) for field in fields])


def _inverse(conductances: list[Array]) -> Array:
    """One over the sum of padded conductances, padded."""
    total = functools.reduce(operator.add, [window(k) for k in conductances])
    return padded(over(jnp.ones_like(total), total))


def _without_xy(own: Links, corrections: Corrections) -> Links:
    """Padded links with those between X and Y rerouted through the Z and the C of their square."""
    if own.xy is None or corrections.diagonals is None:
        return own
    xc, xz, yc, yz = ([window(k) for k in pair] for pair in (own.xc, own.xz, own.yc, own.yz))
    for i, (s, t) in enumerate(BOTH):  # X(I, J), Y(I + s, J - 1 + t), Z(I + s, J), C(I, J - 1 + t)
        by_c = [window(own.xc[t]), window(own.yc[1 - s], s, t - 1)]
        by_z = [window(own.xz[s]), window(own.yz[1 - t], s, t - 1)]
        first, second = (padded(one) for one in corrections.diagonals(i, window(own.xy[i]), by_c, by_z))
        xc[t], xz[s] = xc[t] + window(first), xz[s] + window(second)
        yc[1 - s] = yc[1 - s] + window(first, -s, 1 - t)
        yz[1 - t] = yz[1 - t] + window(second, -s, 1 - t)
    xc, xz, yc, yz = ([padded(k) for k in pair] for pair in (xc, xz, yc, yz))
    return Links(xc, xz, yc, yz, own.zc, None, own.wall)


def _around_centres(own: Links, across_x: Array, across_y: Array, corrections: Corrections) -> Pair:
    """Padded conductances from Z to its four C after the elimination of X and Y, those between two Z rerouted."""
    zc = []
    for i, (s, t) in enumerate(BOTH):
        new = product(s - 1, 0, own.xz[1 - s], own.xc[t], across_x)
        new = new + product(0, t - 1, own.yz[1 - t], own.yc[s], across_y)
        zc.append(padded(new if own.zc is None else window(own.zc[i]) + new))
    between = kept([2 * product(0, 0, *own.xz, across_x), 2 * product(0, 0, *own.yz, across_y)])
    # Z(I, J) and Z(I + 1, J) through C(I, J - 1 + t), Z(I, J) and Z(I, J + 1) through C(I - 1 + t, J)
    rerouted = [window(k) for k in zc]
    for number, (s, t, paths) in enumerate(((1, 0, ((2, 0), (3, 1))), (0, 1, ((1, 0), (3, 2))))):
        both = ([window(zc[i]), window(zc[j], s, t)] for i, j in paths)
        for one, (i, j) in zip(corrections.centres(number, between[number], *both), paths, strict=True):
            one = padded(one)
            rerouted[i] = rerouted[i] + window(one)
            rerouted[j] = rerouted[j] + window(one, -s, -t)
    return [padded(k) for k in rerouted]
