"""Neural operators: maps from fields to fields, on one sample."""

from sciml.operators._base import AbstractOperator as AbstractOperator
from sciml.operators._flax import FlaxOperator as FlaxOperator
from sciml.operators._fno import FNO as FNO
from sciml.operators._fno import Pointwise as Pointwise
from sciml.operators._mgno import MgNO as MgNO
from sciml.operators._wrappers import Normalised as Normalised
from sciml.operators._wrappers import Normaliser as Normaliser
from sciml.operators._wrappers import Resampled as Resampled
from sciml.operators._wrappers import Residual as Residual
from sciml.operators._wrappers import per_channel as per_channel
from sciml.operators._wrappers import per_point as per_point
