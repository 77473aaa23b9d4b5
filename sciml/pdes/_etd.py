"""Time stepping of semilinear equations in Fourier space: `v' = L v + N(v)` with a diagonal, stiff `L`."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Complex, Float, Inexact

Modes = Complex[Array, "*modes"]
Step = Callable[[Modes], Modes]
Nonlinear = Callable[[Modes], Modes]


def wavenumbers(shape: Sequence[int], lengths: Sequence[float]) -> tuple[Float[np.ndarray, "..."], ...]:
    """The wave numbers `2 pi m / length` of `rfftn` along each axis of a periodic box, shaped to broadcast.

    Args:
        shape: Number of points along each axis; the last axis has `n // 2 + 1` modes.
        lengths: Length of each axis.
    """
    d = len(shape)
    found = []
    for axis, (n, length) in enumerate(zip(shape, lengths, strict=True)):
        m = np.fft.rfftfreq(n, 1 / n) if axis == d - 1 else np.fft.fftfreq(n, 1 / n)
        found.append((2 * np.pi / length * m).reshape([-1 if other == axis else 1 for other in range(d)]))
    return tuple(found)


def dealias_mask(shape: Sequence[int], degree: int) -> Bool[np.ndarray, "..."]:
    """The modes of `rfftn` that a product of `degree` fields of such modes determines without aliasing.

    They satisfy `|m| < n / (degree + 1)` along each axis: the 2/3 rule (of the largest wave number `n / 2`) for
    quadratic, the 1/2 rule for cubic terms. A product evaluated at the `n` points and cut to these modes is the
    Galerkin projection, so that what the equation conserves quadratically stays conserved.
    """
    keep = [
        np.abs(m) * (degree + 1) < n for m, n in zip(wavenumbers(shape, [2 * np.pi] * len(shape)), shape, strict=True)
    ]
    return functools.reduce(np.logical_and, keep)


def _contour_means(z: np.ndarray | Array, points: int = 32) -> list[Any]:
    """Means over a circle around each `z` of the functions that multiply the nonlinear terms.

    Their closed forms cancel near `z = 0`; on a circle of radius 1 they do not, and the mean of an analytic function
    is its value at the centre. 32 points reach rounding (Kassam & Trefethen, SIAM J. Sci. Comput. 26, 2005, section 3).
    """
    roots = np.exp(2j * np.pi * (np.arange(points) + 0.5) / points)
    if isinstance(z, jax.Array):  # coefficients that are traced: one loop in the compiled program
        kind = jnp.result_type(z.dtype, jnp.complex64)
        at = lambda i: _contour_terms(z + jnp.asarray(roots, kind)[i], jnp.exp)
        add = lambda i, sums: [total + term for total, term in zip(sums, at(i), strict=True)]
        sums = jax.lax.fori_loop(0, points, add, [jnp.zeros(z.shape, kind) for _ in range(4)])
        real = not jnp.iscomplexobj(z)
    else:
        sums = [np.zeros(z.shape, complex) for _ in range(4)]
        for root in roots:
            sums = [total + term for total, term in zip(sums, _contour_terms(z + root, np.exp), strict=True)]
        real = np.isrealobj(z)
    means = [total / points for total in sums]
    return [mean.real for mean in means] if real else means


def _contour_terms(r: Any, exp: Callable[[Any], Any]) -> list[Any]:
    e, half = exp(r), exp(r / 2)
    return [
        (half - 1) / r,
        (-4 - r + e * (4 - 3 * r + r**2)) / r**3,
        (2 + r + e * (r - 2)) / r**3,
        (-4 - 3 * r - r**2 + e * (4 - r)) / r**3,
    ]


def etdrk4(linear: Inexact[np.ndarray | Array, "*modes"], nonlinear: Nonlinear, dt: float) -> Step:
    """A step of exponential time differencing with the classical four stages: fourth order, exact if `N` is constant.

    Cox & Matthews, J. Comput. Phys. 176 (2002), eqs. (26)-(29), with the coefficients as contour means.

    Args:
        linear: The diagonal of `L`, real or complex; a JAX array if it depends on traced constants.
        nonlinear: `N`, from modes to modes.
        dt: Time step.
    """
    z = dt * linear
    exp = jnp.exp if isinstance(z, jax.Array) else np.exp
    whole, half = exp(z), exp(z / 2)
    q, f1, f2, f3 = (dt * mean for mean in _contour_means(z))

    def step(v: Modes) -> Modes:
        e, e2, c, c1, c2, c3 = (_like(v, factor) for factor in (whole, half, q, f1, 2 * f2, f3))
        at_v, moved = nonlinear(v), e2 * v
        a = moved + c * at_v
        at_a = nonlinear(a)
        at_b = nonlinear(moved + c * at_a)
        at_c = nonlinear(e2 * a + c * (2 * at_b - at_v))
        return e * v + c1 * at_v + c2 * (at_a + at_b) + c3 * at_c

    return step


def crank_nicolson_euler(linear: Inexact[np.ndarray | Array, "*modes"], nonlinear: Nonlinear, dt: float) -> Step:
    """A step of the Crank-Nicolson rule for `L` and the explicit Euler rule for `N`: first order.

    `(1 - dt L / 2) v_new = (1 + dt L / 2) v + dt N(v)`, for linear parts whose real parts are not positive.

    Args:
        linear: The diagonal of `L`, real or complex.
        nonlinear: `N`, from modes to modes.
        dt: Time step.
    """
    explicit, implicit = 1 + dt / 2 * linear, 1 / (1 - dt / 2 * linear)

    def step(v: Modes) -> Modes:
        return _like(v, explicit * implicit) * v + _like(v, dt * implicit) * nonlinear(v)

    return step


def _like(v: Array, factor: np.ndarray | Array) -> Array:
    """A factor in the precision of `v`; real factors stay real."""
    return jnp.asarray(factor, v.real.dtype if np.isrealobj(factor) else v.dtype)


def count_steps(interval: float, longest: float) -> int:
    """The smallest number of equal steps, each at most `longest`, that fills an interval of time."""
    return math.ceil(interval / longest * (1 - 1e-12))  # the quotient may round upwards


def evolve(
    step: Step, v: Modes, *, frames: int, steps: int, observe: Callable[[Modes], Array] = lambda v: v
) -> Inexact[Array, "frames *observed"]:
    """What `observe` sees after `steps`, `2 steps`, ..., `frames * steps` steps; the initial state is not included."""

    def advance(v: Modes, _: None) -> tuple[Modes, Array]:
        v = jax.lax.fori_loop(0, steps, lambda _, v: step(v), v)
        return v, observe(v)

    return jax.lax.scan(advance, v, None, length=frames)[1]
