"""Inverse problems with a surrogate: estimates, samplers of the posterior, and what their chains are worth.

>>> import jax, jax.numpy as jnp
>>> from sciml import uq
>>> slope = jnp.array([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]])
>>> problem = uq.InverseProblem(lambda c: slope @ c, jnp.array([0.1, 1.1, 1.9]), 0.1, size=2)
>>> uq.laplace(problem, uq.maximum_a_posteriori(problem, jnp.zeros(2)).coefficients).mean.round(2).tolist()
[0.13..., 0.89...]
"""

from sciml.uq._chains import AbstractKernel as AbstractKernel
from sciml.uq._chains import Chains as Chains
from sciml.uq._chains import ChainState as ChainState
from sciml.uq._chains import CrankNicolson as CrankNicolson
from sciml.uq._chains import DelayedAcceptance as DelayedAcceptance
from sciml.uq._chains import sample as sample
from sciml.uq._diagnostics import effective_sample_size as effective_sample_size
from sciml.uq._diagnostics import rhat as rhat
from sciml.uq._estimates import Estimate as Estimate
from sciml.uq._estimates import Gaussian as Gaussian
from sciml.uq._estimates import Recentred as Recentred
from sciml.uq._estimates import ensemble_kalman_inversion as ensemble_kalman_inversion
from sciml.uq._estimates import laplace as laplace
from sciml.uq._estimates import maximum_a_posteriori as maximum_a_posteriori
from sciml.uq._inverse_problem import InverseProblem as InverseProblem
from sciml.uq._inverse_problem import PointObservations as PointObservations
from sciml.uq._nuts import nuts as nuts
