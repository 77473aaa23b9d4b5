"""Gaussian random fields with a Matern-like spectrum on the unit box: the inputs of many benchmarks."""

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key


@functools.cache
def _cosines(n: int) -> np.ndarray:
    """Orthonormal cosines at the cell centres `(i + 1/2) / n`: the inverse DCT-II as a matrix `[i, k]`."""
    k = np.arange(n)
    basis = np.sqrt(2 / n) * np.cos(np.pi * np.outer(k + 0.5, k) / n)
    basis[:, 0] /= np.sqrt(2)
    return basis


def along(axis: int, matrix: np.ndarray, x: Array) -> Array:
    """Applies a matrix along one axis of `x`, in the precision of `x`."""
    return jnp.moveaxis(jnp.tensordot(jnp.asarray(matrix, x.dtype), x, axes=(1, axis)), 0, axis)


def _spread(squares: list[np.ndarray], alpha: float, tau: float) -> np.ndarray:
    """Standard deviation of each mode: `tau^(alpha - d/2) (lambda + tau^2)^(-alpha/2)`, nothing for the mean."""
    eigenvalues = functools.reduce(np.add.outer, squares)
    spread = tau ** (alpha - len(squares) / 2) * (eigenvalues + tau**2) ** (-alpha / 2)
    spread[(0,) * len(squares)] = 0
    return spread


def check_field(alpha: float, tau: float, dimensions: int) -> None:
    """Raises ValueError unless a random field with these settings has a finite variance."""
    if alpha <= dimensions / 2 or tau <= 0:
        raise ValueError(
            f"A field of finite variance in {('one dimension', 'two dimensions', 'three dimensions')[dimensions - 1]} "
            f"needs alpha > {('1/2', '1', '3/2')[dimensions - 1]} and tau > 0, got alpha {alpha} and tau {tau}."
        )


def check_double(u: Array) -> None:
    """Raises ValueError unless a generator computes in float64."""
    if u.dtype != jnp.float64:
        raise ValueError(f"A generator computes in float64, got {u.dtype}. Sample within `with jax.enable_x64(True):`.")


def neumann_field(key: Key[Array, ""], shape: tuple[int, ...], *, alpha: float, tau: float) -> Float[Array, "*space"]:
    """One sample of `N(0, tau^(2 alpha - d) (-Laplace + tau^2)^(-alpha))` with homogeneous Neumann conditions.

    The mean over the box is zero. The field is the sum over `k` of
    `xi_k tau^(alpha - d/2) (pi^2 |k|^2 + tau^2)^(-alpha/2) phi_k`, with independent standard normal `xi_k` and the
    cosines `phi_k` that are orthonormal in `L^2((0, 1)^d)`; in two dimensions this is the field of the Darcy data of
    Li et al., Fourier Neural Operator (2021), section A.3.2.

    Args:
        key: Source of the normal numbers. Another shape draws other numbers, hence another field.
        shape: Number of cells along each axis of the box `(0, 1)^d`.
        alpha: Smoothness: samples have about `alpha - d/2` derivatives.
        tau: Inverse correlation length.

    Returns:
        Values at the cell centres `(i + 1/2) / n`, in JAX's default precision.
    """
    spread = _spread([(np.pi * np.arange(n)) ** 2 for n in shape], alpha, tau)
    field = jax.random.normal(key, shape, float) * jnp.asarray(math.sqrt(math.prod(shape)) * spread, float)
    for axis, n in enumerate(shape):
        field = along(axis, _cosines(n), field)
    return field


def neumann_modes(
    count: int, points: Sequence[np.ndarray], *, alpha: float, tau: float
) -> Float[np.ndarray, "count *space"]:
    """The `count` largest terms of the Karhunen-Loeve expansion of the field of `neumann_field`, at given points.

    `modes[j] = tau^(alpha - d/2) (pi^2 |k|^2 + tau^2)^(-alpha/2) phi_k`, in the order of falling variance and, among
    equal ones, of `k`. With independent standard normal `xi_j`, `sum_j xi_j modes[j]` is the field without its smaller
    terms: the same function at any points.

    Args:
        count: Number of terms.
        points: Coordinates in [0, 1] along each axis.
        alpha: Smoothness.
        tau: Inverse correlation length.

    Raises:
        ValueError: If there is no term, or the field has no finite variance.
    """
    check_field(alpha, tau, len(points))
    if count < 1:
        raise ValueError(f"Expected at least 1 term, got {count}. Use a larger number.")
    numbers = np.arange(count + 1)  # of each axis; there are `count` modes along a single one
    spread = _spread([(np.pi * numbers) ** 2 for _ in points], alpha, tau)
    largest = np.argsort(-np.round(spread.ravel(), 14), kind="stable")[:count]  # rounded: equal ones stay in order
    chosen = np.stack(np.unravel_index(largest, spread.shape), axis=1)
    modes = []
    for numbers_of_mode in chosen:
        waves = [np.sqrt(2 if k else 1) * np.cos(np.pi * k * x) for k, x in zip(numbers_of_mode, points, strict=True)]
        modes.append(spread[tuple(numbers_of_mode)] * functools.reduce(np.multiply.outer, waves))
    return np.stack(modes)


def periodic_field(key: Key[Array, ""], shape: tuple[int, ...], *, alpha: float, tau: float) -> Float[Array, "*space"]:
    """One sample of `N(0, tau^(2 alpha - d) (-Laplace + tau^2)^(-alpha))` with periodic conditions.

    The mean over the box is zero. With `alpha = 2.5` and `tau = 7` in two dimensions this is the initial vorticity of
    the Navier-Stokes data of Li et al., Fourier Neural Operator (2021), as their generator draws it (the paper prints
    the factor `7^(3/2)` where the code has `7^3`).

    Args:
        key: Source of the normal numbers. Another shape draws other numbers, hence another field.
        shape: Number of points along each axis of the box `[0, 1)^d`.
        alpha: Smoothness: samples have about `alpha - d/2` derivatives.
        tau: Inverse correlation length.

    Returns:
        Values at the points `i / n`, in JAX's default precision.
    """
    spread = _spread([(2 * np.pi * np.fft.fftfreq(n, 1 / n)) ** 2 for n in shape], alpha, tau)
    modes = jax.random.normal(key, shape, complex) * jnp.asarray(math.sqrt(2) * math.prod(shape) * spread, float)
    return jnp.fft.ifftn(modes).real
