"""Families of equations as expressions: their draws, solvers and stored trajectories.

ODE families, families of PDEs on an interval, and plane flows, as PROSE is trained on.
"""

from sciml.systems._draws import AbstractSystems as AbstractSystems
from sciml.systems._draws import draw_trajectories as draw_trajectories
from sciml.systems._examples import SPIRAL as SPIRAL
from sciml.systems._examples import noisy_spiral as noisy_spiral
from sciml.systems._examples import relaxation as relaxation
from sciml.systems._examples import seasonal as seasonal
from sciml.systems._examples import spiral as spiral
from sciml.systems._examples import two_moons as two_moons
from sciml.systems._families import CODEC as CODEC
from sciml.systems._families import FAMILIES as FAMILIES
from sciml.systems._families import Family as Family
from sciml.systems._families import families as families
from sciml.systems._fluid_families import CHANNELS as CHANNELS
from sciml.systems._fluid_families import FLUID_FAMILIES as FLUID_FAMILIES
from sciml.systems._fluid_families import FluidFamily as FluidFamily
from sciml.systems._fluid_mixture import Flow as Flow
from sciml.systems._fluid_mixture import FluidMixture as FluidMixture
from sciml.systems._integrate import Accuracy as Accuracy
from sciml.systems._integrate import increasing as increasing
from sciml.systems._integrate import integrate as integrate
from sciml.systems._mixture import Mixture as Mixture
from sciml.systems._pde_families import PDE_FAMILIES as PDE_FAMILIES
from sciml.systems._pde_families import PdeFamily as PdeFamily
from sciml.systems._pde_families import pde_families as pde_families
from sciml.systems._pde_mixture import Evolutions as Evolutions
from sciml.systems._pde_mixture import PdeMixture as PdeMixture
from sciml.systems._pde_residuals import DERIVATIVES as DERIVATIVES
from sciml.systems._random_systems import RandomSystems as RandomSystems
from sciml.systems._shards import generate_trajectories as generate_trajectories
from sciml.systems._shards import read_trajectories as read_trajectories
from sciml.systems._shards import stored_trajectories as stored_trajectories
from sciml.systems._solutions import AbstractOdeSystems as AbstractOdeSystems
from sciml.systems._solutions import Solutions as Solutions
from sciml.systems._trajectories import Trajectories as Trajectories
