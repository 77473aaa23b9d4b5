"""Uncertainty and guarantees: bounds of the errors of predictions."""

from sciml.uq._certified import Certificate as Certificate
from sciml.uq._certified import Certified as Certified
from sciml.uq._certified import certify as certify
from sciml.uq._certified import certify_all as certify_all
from sciml.uq._enclosure import Interval as Interval
from sciml.uq._enclosure import Krylov as Krylov
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
