"""How tests solve the equations of `sciml.pdes`: in float64, each problem compiled once."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


@functools.cache
def compiled(problem):
    return jax.jit(problem.solve)


def solve(problem, start):
    return np.asarray(compiled(problem)(jnp.asarray(start)))


def initial(problem, seed=0):
    return np.asarray(jax.jit(problem.initial)(jax.random.key(seed)))
