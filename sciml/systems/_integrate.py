"""Many trajectories at once, in double precision."""

import dataclasses
import functools

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, PyTree

from sciml import parallel


@dataclasses.dataclass(frozen=True, kw_only=True)
class Accuracy:
    """Tsitouras' pair of orders 5 and 4 with a step size for each trajectory.

    Attributes:
        rtol: Error of a step relative to the state; the errors of chaotic systems grow from there.
        atol: Absolute error of a step.
        steps: Trajectories that need more steps, rejected ones included, count as failed.
    """

    rtol: float = 1e-7
    atol: float = 1e-9
    steps: int = 20_000


ACCURATE = Accuracy()


def integrate(
    fields: PyTree,
    initial: Float[np.ndarray, "trajectories states"],
    times: Float[np.ndarray, " times"],
    *,
    largest: float,
    accuracy: Accuracy = ACCURATE,
) -> tuple[Float[np.ndarray, "trajectories times states"], Bool[np.ndarray, " trajectories"]]:
    """Solutions of `u' = field(t, u, None)` from many initial states, each with its own right-hand side.

    The devices of this process share the trajectories. One program is compiled for each structure of the fields and
    each number of trajectories.

    Args:
        fields: Callable modules, stacked: their arrays have a leading axis of trajectories. A
            `sciml.symbolic.VectorField` with many constants, or `sciml.symbolic.programs` of any systems.
        initial: States at the first time.
        times: Increasing times.
        largest: Solutions that reach this absolute value at one of the times are not good.
        accuracy: Of the time steps.

    Returns:
        The states, and which solutions are good: solved within the number of steps, finite, and below `largest`. The
        states of the others have no meaning.

    Raises:
        ValueError: If the times do not increase.
    """
    check_times(times)
    with jax.enable_x64(True):
        arrays = jax.tree.map(jnp.asarray, (fields, initial, times, np.float64(largest), accuracy.rtol, accuracy.atol))
        mesh = parallel.shared_by(len(initial), parallel.drawing_devices(own=True))
        states, good = _solve(arrays[:2], arrays[2:], steps=accuracy.steps, mesh=mesh)
        return np.asarray(states), np.asarray(good)


def _solve_plain(
    fields: PyTree, initial: Array, times: Array, largest: Array, rtol: Array, atol: Array, *, steps: int
) -> tuple[Array, Array]:
    # A solution that blows up needs ever smaller steps. It is stopped, but late: between the times that are looked at
    # it may pass the bound and return.
    escaped = lambda t, u, args, **rest: jnp.max(jnp.abs(u)) > 100 * largest

    def one(field: PyTree, initial: Array) -> tuple[Array, Array]:
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, u, field: field(t, u)),
            diffrax.Tsit5(),
            times[0],
            times[-1],
            0.1 * (times[1] - times[0]),
            initial,
            args=field,
            saveat=diffrax.SaveAt(ts=times),
            stepsize_controller=diffrax.PIDController(rtol=rtol, atol=atol),
            event=diffrax.Event(escaped),
            max_steps=steps,
            adjoint=diffrax.ForwardMode(),  # keeps nothing for a gradient
            throw=False,
        )
        states = solution.ys
        assert states is not None
        bounded = jnp.all(jnp.isfinite(states)) & (jnp.max(jnp.abs(states)) < largest)
        return states, bounded & (solution.result == diffrax.RESULTS.successful)

    return jax.vmap(one)(fields, initial)


@functools.partial(jax.jit, static_argnames=("steps", "mesh"))
def _solve(own: tuple[PyTree, Array], common: tuple[Array, ...], *, steps: int, mesh: Mesh) -> tuple[Array, Array]:
    return parallel.on_shares(functools.partial(_solve_plain, steps=steps), mesh, common=common)(*own)


def check_times(times: np.ndarray) -> None:
    """Raises a ValueError if times do not increase."""
    if times.ndim != 1 or len(times) < 2 or not np.all(np.diff(times) > 0):
        raise ValueError(f"Expected at least 2 times that increase, got {times} of shape {times.shape}. Sort them.")
