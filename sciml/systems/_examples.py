"""Small problems with cheap solutions: the data of the experiments with neural differential equations."""

import numpy as np
from jaxtyping import Float
from scipy.integrate import solve_ivp

SPIRAL = np.array([[-0.1, 2.0], [-2.0, -0.1]])
"""A of the spiral dy/dt = A y^3."""


def spiral(y0: Float[np.ndarray, "2"], ts: Float[np.ndarray, " times"]) -> Float[np.ndarray, "times 2"]:
    """States of dy/dt = A y^3 (cubes of the entries), A = [[-0.1, 2], [-2, -0.1]], from y0 at `ts[0]`.

    An example that the papers on neural ODEs share since Chen et al., 2018, arXiv:1806.07366.
    """
    field = lambda t, y: SPIRAL @ y**3
    return solve_ivp(field, (ts[0], ts[-1]), y0, method="DOP853", t_eval=ts, rtol=1e-11, atol=1e-11).y.T


def spirals(ts: Float[np.ndarray, " times"], count: int, seed: int) -> Float[np.ndarray, "count times 2"]:
    """States as of `spiral`, from random initial states whose distance from 0 is between 1 and 2."""
    rng = np.random.default_rng(seed)
    angle, radius = rng.uniform(0, 2 * np.pi, count), rng.uniform(1, 2, count)
    initial = (radius * np.array([np.cos(angle), np.sin(angle)])).T
    return np.stack([spiral(y0, ts) for y0 in initial])


def noisy_spiral(
    ts: Float[np.ndarray, " times"],
    count: int,
    seed: int,
    *,
    drift: Float[np.ndarray, "2 2"] = SPIRAL,
    noise: float = 0.2,
    substeps: int = 40,
) -> Float[np.ndarray, "count times 2"]:
    """Paths of du = A u^3 dt + noise u dW from (2, 0), in the sense of Ito, by Milstein's method.

    Args:
        ts: Equally spaced times.
        count: Number of paths.
        seed: Of the noise.
        drift: A.
        noise: Factor of the diagonal noise.
        substeps: Steps between two times.
    """
    rng = np.random.default_rng(seed)
    h = (ts[1] - ts[0]) / substeps
    u = np.tile(np.array([2.0, 0.0]), (count, 1))
    found = [u]
    for _ in ts[1:]:
        for _ in range(substeps):
            dw = np.sqrt(h) * rng.normal(size=u.shape)
            u = u + h * u**3 @ drift.T + noise * u * dw + 0.5 * noise**2 * u * (dw**2 - h)
        found.append(u)
    return np.stack(found, axis=1)


def relaxation(ts: Float[np.ndarray, " times"], count: int, seed: int, k: float) -> Float[np.ndarray, "count times 3"]:
    """Exact states of x1' = -x2, x2' = x1, y' = -k (y - x1 x2): stiff for large k.

    They start at random, x between 0.5 and 1.5 from the origin, y between -1 and 1. With x = r (cos(t + a), sin(t + a))
    the attracting function is x1 x2 = r^2 / 2 sin(2 (t + a)), and y = p(t) + (y(0) - p(0)) e^(-k t) with
    p = k r^2 / 2 (k sin(2 (t + a)) - 2 cos(2 (t + a))) / (k^2 + 4).
    """
    rng = np.random.default_rng(seed)
    r, a = rng.uniform(0.5, 1.5, (count, 1)), rng.uniform(0, 2 * np.pi, (count, 1))
    start = rng.uniform(-1, 1, (count, 1))
    at = ts + a
    p = k * r**2 / 2 * (k * np.sin(2 * at) - 2 * np.cos(2 * at)) / (k**2 + 4)
    y = p + (start - p[:, :1]) * np.exp(-k * ts)
    return np.stack((r * np.cos(at), r * np.sin(at), y), axis=-1)


def two_moons(count: int, seed: int) -> Float[np.ndarray, "count 2"]:
    """Points of two half circles of radius 2 that reach into each other, with normal noise of 0.2."""
    rng = np.random.default_rng(seed)
    angle, lower = rng.uniform(0, np.pi, count), rng.random(count) < 0.5
    arc = np.stack((np.cos(angle), np.sin(angle)), axis=-1)
    x = np.where(lower[:, None], (1.0, 0.5) - arc, arc) - (0.5, 0.25)
    return 2 * x + 0.2 * rng.normal(size=x.shape)


def seasonal(count: int) -> Float[np.ndarray, " count"]:
    """A series with a period of 12, its first overtone and a slow drift, whose amplitudes and phases change slowly."""
    rng = np.random.default_rng(0)
    t = np.arange(count) / 12

    def slow(scale: float) -> np.ndarray:
        at = np.linspace(0, t[-1], count // 24)
        return np.interp(t, at, scale * rng.normal(size=len(at)))

    waves = [np.sin(2 * np.pi * k * t + slow(0.3)) * (amplitude + slow(0.2)) for k, amplitude in ((1, 1.0), (2, 0.4))]
    return waves[0] + waves[1] + slow(0.4)
