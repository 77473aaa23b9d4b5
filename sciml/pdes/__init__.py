"""Reference solvers of partial differential equations: the data generators."""

from sciml.pdes._elliptic import Darcy as Darcy
from sciml.pdes._elliptic import solve_diffusion as solve_diffusion
from sciml.pdes._random_fields import neumann_field as neumann_field
from sciml.pdes._random_fields import periodic_field as periodic_field
