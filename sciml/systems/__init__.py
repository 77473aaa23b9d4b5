"""Families of equations as expressions, random draws of them, their solvers, and stored trajectories.

The families are those on which PROSE is trained: ordinary differential equations (`FAMILIES`), partial differential
equations on an interval (`PDE_FAMILIES`), and plane flows (`FLUID_FAMILIES`).
"""

from sciml.systems._draws import AbstractSystems as AbstractSystems
from sciml.systems._draws import Trajectories as Trajectories
from sciml.systems._draws import draw_trajectories as draw_trajectories
from sciml.systems._examples import SPIRAL as SPIRAL
from sciml.systems._examples import noisy_spiral as noisy_spiral
from sciml.systems._examples import relaxation as relaxation
from sciml.systems._examples import seasonal as seasonal
from sciml.systems._examples import spiral as spiral
from sciml.systems._examples import spirals as spirals
from sciml.systems._examples import two_moons as two_moons
from sciml.systems._families import FAMILIES as FAMILIES
from sciml.systems._families import Family as Family
from sciml.systems._fluid_families import FLUID_FAMILIES as FLUID_FAMILIES
from sciml.systems._fluid_families import FluidFamily as FluidFamily
from sciml.systems._fluid_mixture import FluidMixture as FluidMixture
from sciml.systems._integrate import Accuracy as Accuracy
from sciml.systems._integrate import integrate as integrate
from sciml.systems._mixture import Mixture as Mixture
from sciml.systems._pde_families import PDE_FAMILIES as PDE_FAMILIES
from sciml.systems._pde_families import PdeFamily as PdeFamily
from sciml.systems._pde_mixture import Evolutions as Evolutions
from sciml.systems._pde_mixture import PdeMixture as PdeMixture
from sciml.systems._random_systems import RandomSystems as RandomSystems
from sciml.systems._shards import generate_trajectories as generate_trajectories
from sciml.systems._shards import read_trajectories as read_trajectories
from sciml.systems._shards import stored_trajectories as stored_trajectories
from sciml.systems._solutions import Solutions as Solutions
