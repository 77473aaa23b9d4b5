"""Uncertainty of predictions: conformal bands, scores of ensembles, flags for unusual inputs.

Predictions are NumPy or JAX arrays `(samples, ...)`, members of ensembles `(samples, members, ...)`.
"""

from sciml.uq._conformal import AbstractScore as AbstractScore
from sciml.uq._conformal import Conformal as Conformal
from sciml.uq._conformal import EachStep as EachStep
from sciml.uq._conformal import L2Norm as L2Norm
from sciml.uq._conformal import SupNorm as SupNorm
from sciml.uq._conformal import calibrated as calibrated
from sciml.uq._conformal import conformal as conformal
from sciml.uq._conformal import coverage_interval as coverage_interval
from sciml.uq._conformal import sizes as sizes
from sciml.uq._flags import InputFlag as InputFlag
from sciml.uq._flags import SpectralFeatures as SpectralFeatures
from sciml.uq._flags import input_flag as input_flag
from sciml.uq._scores import coverage as coverage
from sciml.uq._scores import crps as crps
from sciml.uq._scores import fair_crps as fair_crps
from sciml.uq._scores import rank_histogram as rank_histogram
from sciml.uq._scores import spread as spread
from sciml.uq._scores import spread_skill as spread_skill
