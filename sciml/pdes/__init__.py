"""Reference solvers of partial differential equations: the data generators."""

from sciml.pdes._elliptic import Darcy as Darcy
from sciml.pdes._elliptic import diffusion_residual as diffusion_residual
from sciml.pdes._elliptic import solve_diffusion as solve_diffusion
from sciml.pdes._etd import alias_free as alias_free
from sciml.pdes._etd import crank_nicolson_euler as crank_nicolson_euler
from sciml.pdes._etd import etdrk4 as etdrk4
from sciml.pdes._etd import evolve as evolve
from sciml.pdes._etd import wavenumbers as wavenumbers
from sciml.pdes._helmholtz import Helmholtz as Helmholtz
from sciml.pdes._multiscale import MultiscaleDarcy as MultiscaleDarcy
from sciml.pdes._navier_stokes import NavierStokes as NavierStokes
from sciml.pdes._navier_stokes import Scheme as Scheme
from sciml.pdes._random_fields import neumann_field as neumann_field
from sciml.pdes._random_fields import periodic_field as periodic_field
from sciml.pdes._semilinear import AllenCahn as AllenCahn
from sciml.pdes._semilinear import Burgers as Burgers
from sciml.pdes._semilinear import KdV as KdV
from sciml.pdes._semilinear import KuramotoSivashinsky as KuramotoSivashinsky
