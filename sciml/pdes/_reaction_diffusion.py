"""Two species that react and diffuse on a periodic square: the equations of FitzHugh and Nagumo."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from sciml.grid import Grid, Periodic
from sciml.pdes._etd import dealias_mask, wavenumbers
from sciml.pdes._periodic import AbstractFlow, check_positive, check_sizes, solve_pseudo_spectral
from sciml.pdes._random_fields import check_field, periodic_field


@dataclasses.dataclass(frozen=True)
class FitzHughNagumo(AbstractFlow):
    """An activator `u` and an inhibitor `v`: `u_t = D_u Laplace u + u - u^3 - k - v`, `v_t = D_v Laplace v + u - v`.

    The defaults are the constants of the diffusion-reaction data of PDEBench (Takamoto et al. 2022, arXiv:2210.07182)
    on a square of the same size. Differs from it in that the square is periodic, where there nothing flows through the
    sides, and in that the initial fields are smooth, where there each value is an independent normal number.

    Pseudo-spectral with the modes `|m| < resolution / 4` along each axis, so that the cube has no aliases; ETDRK4 in
    time, with the diffusion exact.

    Args:
        resolution: Number of points along each axis.
        length: Length of the square.
        frames: Number of stored frames after the initial one, equally spaced.
        interval: Time between frames.
        activator_diffusivity: `D_u`, length^2 / time.
        inhibitor_diffusivity: `D_v`, length^2 / time.
        threshold: `k`.
        step: Largest time step; the next smaller one that divides the interval is taken.
        alpha: Smoothness of the initial fields, as for `periodic_field`, where the square has length 1.
        tau: Inverse correlation length of the initial fields, in the same unit.
    """

    names: ClassVar[tuple[str, ...]] = ("activator", "inhibitor")

    resolution: int = 128
    length: float = 2.0
    frames: int = 20
    interval: float = 0.25
    activator_diffusivity: float = 1e-3
    inhibitor_diffusivity: float = 5e-3
    threshold: float = 5e-3
    step: float = 0.05
    alpha: float = 4.0
    tau: float = 20.0

    def __post_init__(self) -> None:
        check_sizes(self.resolution, self.frames)
        check_positive(length=self.length, interval=self.interval, step=self.step)
        if min(self.activator_diffusivity, self.inhibitor_diffusivity) < 0:
            raise ValueError(
                f"Expected diffusivities >= 0, got {self.activator_diffusivity} and {self.inhibitor_diffusivity}."
            )
        check_field(self.alpha, self.tau, 2)

    @property
    def grid(self) -> Grid:
        """The points `i length / resolution`."""
        return Grid((self.resolution,) * 2, self.length, Periodic())

    def initial(self, key: Key[Array, ""]) -> Float[Array, "2 x y"]:
        """Two Gaussian fields, cut to the modes that the solver keeps, in JAX's default precision."""
        shape, keep = (self.resolution,) * 2, jnp.asarray(dealias_mask((self.resolution,) * 2, 3))
        fields = [periodic_field(one, shape, alpha=self.alpha, tau=self.tau) for one in jax.random.split(key)]
        return jnp.stack([jnp.fft.irfft2(jnp.fft.rfft2(field) * keep, shape) for field in fields])

    def solve(
        self,
        start: Float[Array, "2 x y"],
        *,
        diffusivities: Float[Array, " 2"] | None = None,
        threshold: Float[Array, ""] | float | None = None,
    ) -> Float[Array, "frames 2 x y"]:
        """The stored frames from fields at time 0, whose modes beyond those of the solver are dropped.

        Args:
            start: Activator and inhibitor; their precision is that of the solution.
            diffusivities: `D_u` and `D_v` in place of the settings; may be traced, for trajectories that differ.
            threshold: `k` in place of the setting, in the same way.

        Raises:
            ValueError: If the fields do not live on the grid.
        """
        self.grid.check(start)
        shape = (self.resolution,) * 2
        given = (self.activator_diffusivity, self.inhibitor_diffusivity) if diffusivities is None else diffusivities
        k = self.threshold if threshold is None else threshold
        squared = sum(k**2 for k in wavenumbers(shape, (self.length,) * 2)) * dealias_mask(shape, 3)
        linear = -jnp.asarray(given, start.dtype).reshape(2, 1, 1) * jnp.asarray(squared[None], start.dtype)

        def reaction(fields: Array) -> Array:
            u, w = fields
            return jnp.stack((u - u**3 - k - w, u - w))

        timing = {"interval": self.interval, "step": self.step, "frames": self.frames}
        return solve_pseudo_spectral(start, linear, reaction, degree=3, **timing)
