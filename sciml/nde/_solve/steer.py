"""STEER: random end times while training, so that the field is not tuned to a single one."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray


def steer(key: PRNGKeyArray, t1: Any, b: float) -> Float[Array, ""]:
    """An end time drawn uniformly from (t1 - b, t1 + b).

    Source: Ghosh, Behl, Dupont, Torr, Namboodiri, "STEER: simple temporal regularization for neural ODEs", 2020,
    arXiv:2006.10711; b = 0.5 on [0, 1] there. b must be less than the length of the interval.
    """
    t1 = jnp.asarray(t1, jnp.result_type(float, t1))
    return t1 + b * jax.random.uniform(key, (), t1.dtype, -1, 1)


def steer_times(key: PRNGKeyArray, ts: Float[Array, " times"]) -> Float[Array, " times"]:
    """Times drawn uniformly around `ts`, by up to half of the smaller gap beside each; the first one stays.

    Ghosh et al. 2020 take half of the gap before each time, which may exchange times if gaps are unequal; on equal gaps
    the two agree. The last time has one gap.
    """
    gaps = jnp.diff(ts)
    reach = jnp.minimum(gaps, jnp.append(gaps[1:], gaps[-1])) / 2
    return ts.at[1:].add(reach * jax.random.uniform(key, gaps.shape, ts.dtype, -1, 1))
