"""Conductances of every second node: the other nodes are eliminated, and links that would spread are rerouted.

A block (I, J) of 2 x 2 nodes has the centre Z at (2I, 2J), the edges Y at (2I, 2J + 1) and X at (2I + 1, 2J), and the
coarse node C at (2I + 1, 2J + 1). Along an edge, neighbours are numbered by their order: `xc[0]` leads from X to the C
before it, `xc[1]` to the one after it.
"""

import itertools
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
class Detour(eqx.Module):
    """How much of a dropped link k a path of two links takes over: gain min(k, s)^(1 - share) k^share.

    s is what the path conducts by itself, `k1 k2 / (k1 + k2)`.

    Attributes:
        share: In [0, 1]: with 0 a weak path stays weak, with 1 it takes over all of k.
        gain: Positive.
    """

    share: Array
    gain: Array

    def __call__(self, k: Array, first: Array, second: Array) -> Array:
        """What is added to both links of the path."""
        least = jnp.minimum(k, over(first * second, first + second))
        logarithm = jnp.log(jnp.where(least > 0, over(k, least), 1))
        return kept(least * jnp.exp(self.share * logarithm) * self.gain)


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
        via_c: Of the 4 paths through C that replace half of each link X-Y, in the order of `Links.xy`.
        via_z: The same through Z.
        between: Of the paths that replace the links between two Z: through the two C at X, and the two C at Y.
        coarse: Factors of the coarse conductances x, y, down, up.
    """

    via_c: Detour
    via_z: Detour
    between: Detour
    coarse: Float[Array, "4 blocks_x blocks_y"]


def coarsened(conductances: Conductances, corrections: Corrections) -> tuple[Conductances, Prolongation]:
    """The conductances of the nodes C, and the prolongation from them.

    Every link X-Y is dropped and rerouted over both paths of two links between its ends, then X and Y are eliminated
    exactly; every link Z-Z that this creates is rerouted over two paths through C, then Z is eliminated exactly. All
    conductances stay positive, whatever the corrections are. With constant conductances and corrections of gain 1
    the energy of linear fields is kept.
    """
    own = kept(_without_xy(links(conductances), corrections))
    across_x, across_y = kept((_inverse([*own.xc, *own.xz, own.wall.x]), _inverse([*own.yc, *own.yz, own.wall.y])))
    zc = kept(_around_centres(own, across_x, across_y, corrections))
    wall_z, wall_c = own.wall.z, own.wall.c
    for t in (0, 1):
        to_x, to_y = own.wall.x * across_x, own.wall.y * across_y
        wall_z = wall_z + shifted(own.xz[t] * to_x, -t, 0) + shifted(own.yz[t] * to_y, 0, -t)
        wall_c = wall_c + shifted(own.xc[t] * to_x, 0, 1 - t) + shifted(own.yc[t] * to_y, 1 - t, 0)
    wall_z, wall_c = kept((wall_z, wall_c))
    across_z = _inverse([*zc, wall_z])
    weights = kept([k * across_z for k in zc])
    for w, (s, t) in zip(weights, BOTH, strict=True):
        wall_c = wall_c + shifted(w * wall_z, 1 - s, 1 - t)
    x = shifted(own.yc[0] * own.yc[1] * across_y, 1, 0)
    x = x + shifted(weights[0] * zc[2], 1, 1) + shifted(weights[1] * zc[3], 1, 0)
    y = shifted(own.xc[0] * own.xc[1] * across_x, 0, 1)
    y = y + shifted(weights[0] * zc[1], 1, 1) + shifted(weights[2] * zc[3], 0, 1)
    down, up = shifted(weights[0] * zc[3], 1, 1), shifted(weights[1] * zc[2], 1, 0)
    n, m = (size // 2 for size in conductances.shape)
    x, y, down, up = ((k * gain)[:n, :m] for k, gain in zip((x, y, down, up), corrections.coarse, strict=True))
    scaled = lambda pair, inverse: [padded(k * inverse) for k in pair]
    prolongation = Prolongation(
        [padded(w) for w in weights],
        scaled(own.xc, across_x),
        scaled(own.xz, across_x),
        scaled(own.yc, across_y),
        scaled(own.yz, across_y),
    )
    return kept((Conductances(x, y, down, up, wall_c[:n, :m]), prolongation))


def _inverse(conductances: list[Array]) -> Array:
    total = sum(conductances[1:], conductances[0])
    return over(jnp.ones_like(total), total)


def _without_xy(own: Links, corrections: Corrections) -> Links:
    """The links with those between X and Y rerouted through the Z and the C of their square."""
    if own.xy is None:
        return own
    xc, xz, yc, yz = (list(pair) for pair in (own.xc, own.xz, own.yc, own.yz))
    half = jnp.stack(own.xy) / 2  # X(I, J), Y(I + s, J - 1 + t), Z(I + s, J), C(I, J - 1 + t)
    here_c, here_z = jnp.stack([xc[t] for _, t in BOTH]), jnp.stack([xz[s] for s, _ in BOTH])
    there_c = jnp.stack([shifted(yc[1 - s], s, t - 1) for s, t in BOTH])
    there_z = jnp.stack([shifted(yz[1 - t], s, t - 1) for s, t in BOTH])
    over_c, over_z = corrections.via_c(half, here_c, there_c), corrections.via_z(half, here_z, there_z)
    for i, (s, t) in enumerate(BOTH):
        xc[t], xz[s] = xc[t] + over_c[i], xz[s] + over_z[i]
        yc[1 - s] = yc[1 - s] + shifted(over_c[i], -s, 1 - t)
        yz[1 - t] = yz[1 - t] + shifted(over_z[i], -s, 1 - t)
    return Links(xc, xz, yc, yz, own.zc, None, own.wall)


def _around_centres(own: Links, across_x: Array, across_y: Array, corrections: Corrections) -> Pair:
    """Conductances from Z to its four C after the elimination of X and Y, those between two Z rerouted."""
    zc = [jnp.zeros_like(across_x)] * 4 if own.zc is None else list(own.zc)
    for i, (s, t) in enumerate(BOTH):
        from_x = shifted(own.xz[1 - s] * own.xc[t] * across_x, s - 1, 0)
        from_y = shifted(own.yz[1 - t] * own.yc[s] * across_y, 0, t - 1)
        zc[i] = zc[i] + from_x + from_y
    between_x, between_y = own.xz[0] * own.xz[1] * across_x, own.yz[0] * own.yz[1] * across_y
    zc, between_x, between_y = kept((zc, between_x, between_y))
    # Z(I, J) and Z(I + 1, J) through C(I, J - 1 + t), Z(I, J) and Z(I, J + 1) through C(I - 1 + t, J)
    paths = ((2, 0, 1, 0), (3, 1, 1, 0), (1, 0, 0, 1), (3, 2, 0, 1))
    links_zz = jnp.stack((between_x, between_x, between_y, between_y))
    first = jnp.stack([zc[i] for i, *_ in paths])
    more = corrections.between(links_zz, first, jnp.stack([shifted(zc[j], s, t) for _, j, s, t in paths]))
    rerouted = list(zc)
    for one, (i, j, s, t) in zip(more, paths, strict=True):
        rerouted[i] = rerouted[i] + one
        rerouted[j] = rerouted[j] + shifted(one, -s, -t)
    return rerouted
