"""Models that several tests of exports share."""

import jax
import numpy as np

from sciml.grid import Grid
from sciml.operators import FNO, Conditioned, Increments, Numbers, as_channels, per_channel

HISTORY, CHANNELS, FIXED, BUNDLE = 3, 2, 1, 2


def conditioned(*space):
    """A step that sees three frames of two channels, a fixed field and a parameter, and predicts two frames."""
    rng = np.random.default_rng(0)
    statistics = lambda channels: per_channel(rng.normal(2, 3, (7, channels, *space)).astype(np.float32))
    make = lambda into, out, *, grid, key: FNO(into, out, modes=(4,) * len(space), width=6, depth=1, key=key)
    into, out = FIXED + HISTORY * CHANNELS, BUNDLE * CHANNELS
    return Conditioned(
        as_channels(make, into, out, numbers=1, grid=Grid(space), key=jax.random.key(0)),
        statistics(CHANNELS),
        Increments(statistics(CHANNELS)),
        fixed=statistics(FIXED),
        numbers=Numbers(per_channel(rng.normal(2, 3, (7, 1)).astype(np.float32))),
        history=HISTORY,
        bundle=BUNDLE,
    )
