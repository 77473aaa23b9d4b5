"""Preconditioners of diffusion that are symmetric positive definite for all weights."""

from sciml.preconditioners._additive import AdditiveHierarchy as AdditiveHierarchy
from sciml.preconditioners._additive import AdditivePreconditioner as AdditivePreconditioner
from sciml.preconditioners._conductances import Conductances as Conductances
from sciml.preconditioners._conductances import flux_conductances as flux_conductances
from sciml.preconditioners._conductances import matrix_conductances as matrix_conductances
from sciml.preconditioners._cycle import Hierarchy as Hierarchy
from sciml.preconditioners._cycle import MediumReader as MediumReader
from sciml.preconditioners._cycle import SymmetricCycle as SymmetricCycle
from sciml.preconditioners._solve import as_operator as as_operator
from sciml.preconditioners._solve import conjugate_gradients as conjugate_gradients
