"""What an inverse problem is: observations, noise, the map from coefficients to observations."""

import itertools
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from sciml.grid import Grid


class PointObservations(eqx.Module):
    """Values of a field at points, by multilinear interpolation between the unknowns of its grid.

    Args:
        grid: Where the field lives.
        points: Coordinates of the points, in the units of the grid.

    Raises:
        ValueError: If there is no point, or a point is outside of the grid, that is, not between its first and its last
            unknown along each axis.
    """

    corners: tuple[Int[np.ndarray, " points corners"], ...]
    weights: Float[np.ndarray, "points corners"]
    grid: Grid = eqx.field(static=True)

    def __init__(self, grid: Grid, points: Float[Array | np.ndarray, "points axes"]) -> None:
        places = np.asarray(points, np.float64)
        if places.ndim != 2 or places.shape[1] != len(grid.shape) or not len(places):
            raise ValueError(
                f"Expected at least 1 observation and points (observations, {len(grid.shape)}), got {places.shape}."
            )
        axes = grid.points()
        for number, known in enumerate(axes):
            outside = ~((places[:, number] >= known[0]) & (places[:, number] <= known[-1]))
            if outside.any():
                raise ValueError(
                    f"Expected observations inside of the grid, {known[0]:g} to {known[-1]:g} along axis {number}, "
                    f"got {places[outside][0]}. Leave such points out, or take a grid that contains them."
                )
        cells = [
            np.clip(np.searchsorted(one, x, "right") - 1, 0, len(one) - 2)
            for one, x in zip(axes, places.T, strict=True)
        ]
        parts = [(x - one[i]) / (one[i + 1] - one[i]) for one, i, x in zip(axes, cells, places.T, strict=True)]
        ends = list(itertools.product((0, 1), repeat=len(axes)))
        self.corners = tuple(np.stack([cell + end[k] for end in ends], 1) for k, cell in enumerate(cells))
        share = lambda end: np.prod([part if one else 1 - part for part, one in zip(parts, end, strict=True)], axis=0)
        self.weights = np.stack([share(end) for end in ends], 1)
        self.grid = grid

    def __call__(self, field: Float[Array, "channels *space"]) -> Float[Array, " observations"]:
        """The values of all channels, one channel after the other.

        Raises:
            ValueError: If the field does not live on the grid.
        """
        self.grid.check(field)
        values = field[(slice(None), *self.corners)]
        return jnp.sum(values * jnp.asarray(self.weights, field.dtype)[None], axis=-1).reshape(-1)


class InverseProblem(eqx.Module):
    """`y = G(c) + noise` for coefficients `c` that are independent standard normal a priori, with Gaussian noise.

    The posterior density is proportional to `exp(-misfit(c) - |c|^2 / 2)` with `misfit(c) = |(y - G(c)) / s|^2 / 2`,
    where `s` is the standard deviation of the noise. A Gaussian prior of any other kind is a part of `G`: its
    coefficients in the Karhunen-Loeve basis are standard normal (`pdes.LogNormalDarcy`).

    Args:
        forward: `G`, from coefficients to observations. A pytree, such as an `eqx.Module`, whose arrays are not
            constants of compiled programs.
        observed: The observations `y`.
        noise: Standard deviation `s`, one for all observations or one for each.
        size: Number of coefficients.

    Raises:
        ValueError: If there are no observations, or they are not finite, or the noise is not positive.
    """

    forward: Callable[[Array], Array]
    observed: Float[Array, " observations"]
    noise: Float[Array, " observations"]
    size: int = eqx.field(static=True)

    def __init__(
        self,
        forward: Callable[[Array], Array],
        observed: Float[Array | np.ndarray, " observations"],
        noise: float | Float[Array | np.ndarray, " observations"],
        *,
        size: int,
    ) -> None:
        if not observed.shape[0]:
            raise ValueError(
                "Expected at least 1 observation, got none. Without observations the posterior is the prior."
            )
        if not np.all(np.isfinite(observed)):
            raise ValueError(f"Expected finite observations, got {observed}. Leave the others out.")
        if not np.all(np.asarray(noise) > 0):
            raise ValueError(
                f"Expected noise with a positive standard deviation, got {noise}. For exact observations "
                "give the error of the model."
            )
        self.forward, self.size = forward, size
        self.observed = jnp.asarray(observed)
        self.noise = jnp.broadcast_to(jnp.asarray(noise, self.observed.dtype), self.observed.shape)

    def whitened(self, coefficients: Float[Array, " size"]) -> Float[Array, " observations"]:
        """`(G(c) - y) / s`.

        Raises:
            ValueError: If `G` gives another number of values than there are observations.
        """
        values = self.forward(coefficients)
        if values.shape != self.observed.shape:
            raise ValueError(
                f"Expected a forward map to {self.observed.shape} values, one per observation, got {values.shape}."
            )
        return (values - self.observed) / self.noise

    def misfit(self, coefficients: Float[Array, " size"]) -> Float[Array, ""]:
        """Half the sum of the squared errors in units of the noise."""
        return jnp.sum(self.whitened(coefficients) ** 2) / 2

    def energy(self, coefficients: Float[Array, " size"]) -> Float[Array, ""]:
        """Minus the logarithm of the posterior density, up to a constant."""
        return self.misfit(coefficients) + jnp.sum(coefficients**2) / 2


@eqx.filter_jit
def misfits(misfit: Callable[[Array], Array], positions: Array) -> Array:
    """The misfit of several positions, one after the other."""
    return jax.lax.map(misfit, positions)


def check_starts(misfit: Callable[[Array], Array], positions: Array) -> None:
    """Refuses positions without a finite misfit.

    Raises:
        ValueError: If there is one.
    """
    found = np.asarray(misfits(misfit, positions))
    if not np.isfinite(found).all():
        raise ValueError(
            f"Expected a finite misfit at the first coefficients, got {found}: the forward map has no solution there, "
            "as where a permeability is not positive. Use a link such as exp, or start elsewhere."
        )
