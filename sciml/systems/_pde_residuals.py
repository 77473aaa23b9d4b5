"""The equations of PROSE-PDE as expressions that are zero; `rate` multiplies d/dt, constants are positive."""

from sciml.symbolic import DERIVATIVES, cos, sin, variables
from sciml.symbolic import AbstractExpression as Expression

U, X, UT, UTT, UX, UXX, UXXX, UXXXX = variables(" ".join(("u_0", "x", *DERIVATIVES)))


def heat(rate: float, c: float) -> Expression:
    """u_t = c u_xx."""
    return rate * UT - c * UXX


def porous_medium(rate: float, m: float, less: float, both: float, two_less: float) -> Expression:
    """u_t = (u^m)_xx = m u^(m - 1) u_xx + m (m - 1) u^(m - 2) u_x^2; the constants are m, m - 1, m (m - 1), m - 2."""
    return rate * UT - m * (U**less * UXX) - both * (U**two_less * UX**2)


def klein_gordon(rate: float, c2: float, q: float) -> Expression:
    """u_tt = c^2 u_xx - q u."""
    return rate**2 * UTT - c2 * UXX + q * U


def sine_gordon(rate: float, c: float) -> Expression:
    """u_tt = u_xx - c sin u."""
    return rate**2 * UTT - UXX + c * sin(U)


def cahn_hilliard(rate: float, e2: float) -> Expression:
    """u_t = -e^2 u_xxxx + 6 (u u_x)_x."""
    return rate * UT + e2 * UXXXX - 6.0 * UX**2 - 6.0 * (U * UXX)


def kdv(rate: float, d2: float) -> Expression:
    """u_t = -d^2 u_xxx - u u_x."""
    return rate * UT + d2 * UXXX + U * UX


def advection(rate: float, b: float) -> Expression:
    """u_t = -b u_x."""
    return rate * UT + b * UX


def wave(rate: float, b2: float) -> Expression:
    """u_tt = b^2 u_xx."""
    return rate**2 * UTT - b2 * UXX


def linear_reaction(rate: float, n: float, r: float) -> Expression:
    """u_t = n u_xx + r u."""
    return rate * UT - n * UXX - r * U


def logistic(rate: float, n: float, r: float) -> Expression:
    """u_t = n u_xx + r u (1 - u)."""
    return rate * UT - n * UXX - r * (U * (1.0 - U))


def squared_logistic(rate: float, n: float, r: float) -> Expression:
    """u_t = n u_xx + r u^2 (1 - u)^2."""
    return rate * UT - n * UXX - r * (U**2 * (1.0 - U) ** 2)


def bistable(rate: float, n: float, r: float, a: float) -> Expression:
    """u_t = n u_xx + r u (1 - u) (u - a)."""
    return rate * UT - n * UXX - r * (U * ((1.0 - U) * (U - a)))


def inviscid_burgers(rate: float, k: float) -> Expression:
    """u_t = -k u u_x."""
    return rate * UT + k * (U * UX)


def inviscid_cubic(rate: float, k: float) -> Expression:
    """u_t = -k u^2 u_x."""
    return rate * UT + k * (U**2 * UX)


def inviscid_sine(rate: float, k: float) -> Expression:
    """u_t = -k cos(u) u_x."""
    return rate * UT + k * (cos(U) * UX)


def linear(rate: float, k: float, n: float) -> Expression:
    """u_t = -k u_x + n u_xx."""
    return advection(rate, k) - n * UXX


def burgers(rate: float, k: float, n: float) -> Expression:
    """u_t = -k u u_x + n u_xx."""
    return inviscid_burgers(rate, k) - n * UXX


def cubic(rate: float, k: float, n: float) -> Expression:
    """u_t = -k u^2 u_x + n u_xx."""
    return inviscid_cubic(rate, k) - n * UXX


def sine(rate: float, k: float, n: float) -> Expression:
    """u_t = -k cos(u) u_x + n u_xx."""
    return inviscid_sine(rate, k) - n * UXX


def fokker_planck(rate: float, d: float, a: float, w: float) -> Expression:
    """u_t = d u_xx - a (sin(w (x - 1)) u)_x."""
    angle = w * (X - 1.0)
    return rate * UT - d * UXX + a * (sin(angle) * UX + w * (cos(angle) * U))
