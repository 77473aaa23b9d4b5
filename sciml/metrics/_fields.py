"""Errors of one sample in one norm over all channels."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from sciml import cut
from sciml.grid import Grid, Periodic


def root(squares: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Square root whose derivative at zero is zero, so that an exact prediction does not make gradients NaN."""
    zero = squares == 0  # not "> 0": NaN must stay NaN
    return jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, squares)))


def relative_l2(
    prediction: Float[Array, "channels *space"],
    truth: Float[Array, "channels *space"],
    *,
    epsilon: float = 0.0,
    epsilon_squared: float = 0.0,
) -> Float[Array, ""]:
    """||prediction - truth||_2 / (sqrt(||truth||_2^2 + epsilon_squared) + epsilon).

    All axes enter one norm, so that a trajectory (time, components) has one error as well; `jax.vmap` gives the errors
    of samples or frames.

    Args:
        prediction: The predicted field.
        truth: The true field.
        epsilon: Added to the norm of the truth: 1e-7 in PROSE-PDE and PROSE-FD.
        epsilon_squared: Added to the squared norm of the truth: 1e-6 in PROSE-ODE.
    """
    squares, errors = cut.sums_over_parts(jnp.sum(truth**2), jnp.sum((prediction - truth) ** 2))
    return root(errors) / (root(squares + epsilon_squared) + epsilon)


def differences(x: Float[Array, "channels *space"], grid: Grid) -> list[Float[Array, "channels *space"]]:
    """First derivatives along each axis by second-order finite differences.

    Central inside and across periodic ends, one-sided (three points) at the other ends. Of a part of a field that is
    cut over devices, these are the derivatives at its points.

    Raises:
        ValueError: If the field does not live on the grid, or an axis that is not periodic has less than 3 points.
    """
    grid.check(x)
    derivatives = []
    names = cut.axes(x, len(grid.shape))
    for axis, (h, (low, _), name) in enumerate(zip(grid.spacing, grid.sides, names, strict=True), start=1):
        u = jnp.moveaxis(x, axis, 0)
        if name is not None:
            du = _differences_of_a_part(u, h, name, ring=isinstance(low, Periodic))
        elif isinstance(low, Periodic):
            du = (jnp.roll(u, -1, 0) - jnp.roll(u, 1, 0)) / (2 * h)
        else:
            if u.shape[0] < 3:
                raise ValueError(f"A one-sided difference needs 3 points along axis {axis - 1}, got {u.shape[0]}.")
            first, last = _one_sided(u, h)
            du = jnp.concatenate((first, (u[2:] - u[:-2]) / (2 * h), last))
        derivatives.append(jnp.moveaxis(du, 0, axis))
    return derivatives


def _one_sided(u: Array, h: float) -> tuple[Array, Array]:
    """The derivatives at the first and the last point of axis 0."""
    first = (-3 * u[:1] + 4 * u[1:2] - u[2:3]) / (2 * h)
    return first, (3 * u[-1:] - 4 * u[-2:-1] + u[-3:-2]) / (2 * h)


def _differences_of_a_part(u: Array, h: float, name: str, *, ring: bool) -> Array:
    """The derivatives along axis 0, which is cut along an axis of the mesh."""
    (before,), (after,) = (cut.received((u,), name, 0, (1,), towards=towards, ring=ring) for towards in (1, -1))
    wide = jnp.concatenate((before, u, after))
    du = (wide[2:] - wide[:-2]) / (2 * h)
    if ring:
        return du
    if u.shape[0] < 3:
        raise ValueError(
            f"A one-sided difference needs 3 points, got {u.shape[0]} in a part of the axis cut along {name!r}."
        )
    first, last = _one_sided(u, h)
    number = cut.offset(name, 1)
    du = du.at[:1].set(jnp.where(number == 0, first, du[:1]))
    return du.at[-1:].set(jnp.where(number == cut.parts(name) - 1, last, du[-1:]))


def relative_h1(
    prediction: Float[Array, "channels *space"], truth: Float[Array, "channels *space"], *, grid: Grid
) -> Float[Array, ""]:
    """Relative H1 error by finite differences, sqrt(||e||^2 + ||grad e||^2) / sqrt(||u||^2 + ||grad u||^2).

    Derivatives as in `differences`, in the units of `grid.extent`.
    """

    def squares(u: Array) -> Array:
        return cut.sum_over_parts(jnp.sum(u**2) + sum(jnp.sum(du**2) for du in differences(u, grid)))

    return root(squares(prediction - truth)) / root(squares(truth))


def absolute_h1(
    prediction: Float[Array, "channels *space"],
    truth: Float[Array, "channels *space"],
    *,
    spacing: float,
    weight: float = 1.0,
) -> Float[Array, ""]:
    """sqrt(sum(weight e^2 + |grad e|^2)) over the points, without their volume: a loss, its size grows with the grid.

    Derivatives are central differences inside and one-sided ones of first order at the ends, unlike in `differences`.

    The training loss of MgNO for the Helmholtz equation (He, Liu, Xu, ICLR 2024) on n points along each axis is this
    one with weight 10 and the spacing 1 / n, where the grid's is 1 / (n - 1).
    """
    cut.refuse(prediction, prediction.ndim - 1, "The absolute H1 error")
    error = prediction - truth
    squares = weight * jnp.sum(error**2)
    for axis in range(1, error.ndim):
        squares = squares + jnp.sum(jnp.square(jnp.asarray(jnp.gradient(error, spacing, axis=axis))))
    return root(squares)


def rmse(prediction: Float[Array, "channels *space"], truth: Float[Array, "channels *space"]) -> Float[Array, ""]:
    """Root of the mean squared error over channels and points, in the units of the field."""
    return root(cut.mean_square(prediction - truth))
