"""Uncertainty, guarantees and inverse problems.

Bounds of errors and certified predictions, conformal bands, scores of ensembles and flags for unusual inputs; estimates
and samplers of a posterior with a surrogate, and what their chains are worth. Predictions are NumPy or JAX arrays
`(samples, ...)`, members of ensembles `(samples, members, ...)`; `bounds` and `certify` are of one sample.

>>> import jax, jax.numpy as jnp
>>> from sciml import uq
>>> slope = jnp.array([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]])
>>> problem = uq.InverseProblem(lambda c: slope @ c, jnp.array([0.1, 1.1, 1.9]), 0.1, size=2)
>>> uq.laplace(problem, uq.maximum_a_posteriori(problem, jnp.zeros(2)).coefficients).mean.round(2).tolist()
[0.13..., 0.89...]
"""

from sciml.uq._certified import Certificate as Certificate
from sciml.uq._certified import Certified as Certified
from sciml.uq._certified import certify as certify
from sciml.uq._certified import certify_all as certify_all
from sciml.uq._chains import AbstractKernel as AbstractKernel
from sciml.uq._chains import Chains as Chains
from sciml.uq._chains import ChainState as ChainState
from sciml.uq._chains import CrankNicolson as CrankNicolson
from sciml.uq._chains import DelayedAcceptance as DelayedAcceptance
from sciml.uq._chains import sample as sample
from sciml.uq._conformal import AbstractScore as AbstractScore
from sciml.uq._conformal import Conformal as Conformal
from sciml.uq._conformal import EachStep as EachStep
from sciml.uq._conformal import L2Norm as L2Norm
from sciml.uq._conformal import SupNorm as SupNorm
from sciml.uq._conformal import calibrated as calibrated
from sciml.uq._conformal import conformal as conformal
from sciml.uq._conformal import coverage_interval as coverage_interval
from sciml.uq._conformal import sizes as sizes
from sciml.uq._diagnostics import effective_sample_size as effective_sample_size
from sciml.uq._diagnostics import rhat as rhat
from sciml.uq._enclosure import Interval as Interval
from sciml.uq._enclosure import Krylov as Krylov
from sciml.uq._estimates import Estimate as Estimate
from sciml.uq._estimates import Gaussian as Gaussian
from sciml.uq._estimates import Recentred as Recentred
from sciml.uq._estimates import ensemble_kalman_inversion as ensemble_kalman_inversion
from sciml.uq._estimates import laplace as laplace
from sciml.uq._estimates import maximum_a_posteriori as maximum_a_posteriori
from sciml.uq._flags import InputFlag as InputFlag
from sciml.uq._flags import SpectralFeatures as SpectralFeatures
from sciml.uq._flags import input_flag as input_flag
from sciml.uq._inverse_problem import InverseProblem as InverseProblem
from sciml.uq._inverse_problem import PointObservations as PointObservations
from sciml.uq._nuts import nuts as nuts
from sciml.uq._problems import AbstractBounded as AbstractBounded
from sciml.uq._problems import AbstractLinear as AbstractLinear
from sciml.uq._problems import Bounds as Bounds
from sciml.uq._problems import Diffusion as Diffusion
from sciml.uq._problems import ImplicitHeat as ImplicitHeat
from sciml.uq._problems import Semilinear as Semilinear
from sciml.uq._problems import SplineDarcy as SplineDarcy
from sciml.uq._problems import bounds as bounds
from sciml.uq._problems import dual_norm as dual_norm
from sciml.uq._problems import problem_of as problem_of
from sciml.uq._scores import coverage as coverage
from sciml.uq._scores import crps as crps
from sciml.uq._scores import fair_crps as fair_crps
from sciml.uq._scores import rank_histogram as rank_histogram
from sciml.uq._scores import spread as spread
from sciml.uq._scores import spread_skill as spread_skill
