"""Uncertainty and guarantees: bounds of errors, certified predictions, conformal bands, scores of ensembles, flags.

Predictions are NumPy or JAX arrays `(samples, ...)`, members of ensembles `(samples, members, ...)`; `bounds` and
`certify` are of one sample.
"""

from sciml.uq._certified import Certificate as Certificate
from sciml.uq._certified import Certified as Certified
from sciml.uq._certified import certify as certify
from sciml.uq._certified import certify_all as certify_all
from sciml.uq._conformal import AbstractScore as AbstractScore
from sciml.uq._conformal import Conformal as Conformal
from sciml.uq._conformal import EachStep as EachStep
from sciml.uq._conformal import L2Norm as L2Norm
from sciml.uq._conformal import SupNorm as SupNorm
from sciml.uq._conformal import calibrated as calibrated
from sciml.uq._conformal import conformal as conformal
from sciml.uq._conformal import coverage_interval as coverage_interval
from sciml.uq._conformal import sizes as sizes
from sciml.uq._enclosure import Interval as Interval
from sciml.uq._enclosure import Krylov as Krylov
from sciml.uq._flags import InputFlag as InputFlag
from sciml.uq._flags import SpectralFeatures as SpectralFeatures
from sciml.uq._flags import input_flag as input_flag
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
