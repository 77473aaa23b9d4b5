"""A multigrid cycle whose stencils are learned: one linear map between fields on a grid."""

from collections.abc import Sequence
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from sciml.grid import AbstractBoundary, Dirichlet, Grid, Periodic, Sides
from sciml.nn._conv import Conv, Prolongation

Iterations = Sequence[Sequence[int]]


@final
class SmoothingStep(eqx.Module):
    """u <- u + S (f - A u) with 3-point stencils S and A along each axis; without A, u <- S f from u = 0.

    Attributes:
        smoother: S, from data f to states u.
        operator: A, from states to data, or None in the first step of a cycle.
    """

    smoother: Conv
    operator: Conv | None

    def channels_last(
        self, state: Float[Array, "batch *space state"] | None, data: Float[Array, "batch *space data"]
    ) -> Float[Array, "batch *space state"]:
        """The state after the step; a step without A expects and ignores None."""
        if self.operator is None or state is None:
            return self.smoother.channels_last(data)
        return state + self.smoother.channels_last(data - self.operator.channels_last(state))


@final
class VCycle(eqx.Module):
    """One multigrid cycle with learned stencils, a linear map (affine with `bias`) from data f to a state u.

    Levels l = 0, 1, ... from fine to coarse, each with its own stencils, nothing is shared:

        down    u_0 = S f_0, then u_l <- u_l + S (f_l - A u_l) for every further step of the level
                f_l = R f_{l-1} (or R (f_{l-1} - A u_{l-1})), u_l = Pi u_{l-1}
        up      u_l <- u_l + P u_{l+1}, then u_l <- u_l + S (f_l - A u_l) for every step

    S, A, R, Pi have 3 points along each axis, R and Pi keep every second node, P is `Prolongation`. The form is the
    published code's, from which the published parameter counts follow; the paper's text restricts the residual, starts
    every coarse state from zero and adds a correction.

    Source: He, Liu, Xu, "MgNO: Efficient parameterization of linear operators via multigrid", ICLR 2024, section 3.

    Attributes:
        pre: Smoothing steps of each level on the way down.
        post: Smoothing steps of each level on the way up.
        restrict_state: Pi, from each level to the next.
        restrict_data: R, from each level to the next.
        restrict_operator: A of the residual that is restricted from each level to the next, or None.
        prolong: P, to each level from the next.
    """

    pre: tuple[tuple[SmoothingStep, ...], ...]
    post: tuple[tuple[SmoothingStep, ...], ...]
    restrict_state: tuple[Conv, ...]
    restrict_data: tuple[Conv, ...]
    restrict_operator: tuple[Conv | None, ...]
    prolong: tuple[Prolongation, ...]
    grid: Grid = eqx.field(static=True)

    def __init__(
        self,
        data_channels: int,
        state_channels: int,
        *,
        grid: Grid,
        iterations: Iterations,
        bias: bool = False,
        residual: bool = False,
        extension: AbstractBoundary | Sequence[AbstractBoundary | Sides] = Dirichlet(),
        key: PRNGKeyArray,
    ) -> None:
        """Draws the stencils.

        Args:
            data_channels: Number of channels of f.
            state_channels: Number of channels of u.
            grid: Finest grid; its boundary says how fields continue under S, A, R and Pi.
            iterations: Smoothing steps (pre, post) of each level, finest first; their number is the number of levels.
            bias: Whether S and A add a constant to each channel.
            residual: Whether the residual is restricted instead of the data, with an A of its own.
            extension: How coarse states continue under P. Zeros, the default, are the published form on every grid;
                only the grid's own boundary makes a periodic cycle commute with shifts.
            key: Of the random initial values.

        Raises:
            ValueError: If the grid has too few points for the levels, or the first level has no step down.
        """
        steps = check_iterations(iterations)
        shapes = coarse_shapes(grid, len(steps))
        keys = iter(jax.random.split(key, 2 * sum(pre + post for pre, post in steps) + 4 * len(steps)))

        def conv(into: int, out: int, *, stride: int = 1, constant: bool = False) -> Conv:
            kernel, key = (3,) * len(grid.shape), next(keys)
            return Conv(into, out, kernel=kernel, stride=stride, boundary=grid.sides, bias=constant, key=key)

        def step(*, first: bool = False) -> SmoothingStep:
            smoother = conv(data_channels, state_channels, constant=bias)
            return SmoothingStep(smoother, None if first else conv(state_channels, data_channels, constant=bias))

        self.pre = tuple(tuple(step(first=level == i == 0) for i in range(pre)) for level, (pre, _) in enumerate(steps))
        self.post = tuple(tuple(step() for _ in range(post)) for _, post in steps)
        self.restrict_state = tuple(conv(state_channels, state_channels, stride=2) for _ in shapes[1:])
        self.restrict_data = tuple(conv(data_channels, data_channels, stride=2) for _ in shapes[1:])
        self.restrict_operator = tuple(
            conv(state_channels, data_channels, constant=bias) if residual else None for _ in shapes[1:]
        )
        self.prolong = tuple(
            Prolongation(state_channels, state_channels, fine=fine, boundary=extension, key=next(keys))
            for fine in shapes[:-1]
        )
        self.grid = grid

    def __call__(self, data: Float[Array, "data *space"]) -> Float[Array, "state *space"]:
        """The state on the finest grid for the data of one sample.

        Raises:
            ValueError: If the data live on another grid.
        """
        self.grid.check(data)
        return jnp.moveaxis(self.channels_last(jnp.moveaxis(data, 0, -1)[None])[0], -1, 0)

    def channels_last(self, data: Float[Array, "batch *space data"]) -> Float[Array, "batch *space state"]:
        """The same for fields with a leading batch axis and the channels last, the layout of the computation."""
        visited: list[tuple[Array, Array]] = []
        state = None
        for level, steps in enumerate(self.pre):
            if state is not None:
                visited.append((state, data))
                operator = self.restrict_operator[level - 1]
                data = data if operator is None else data - operator.channels_last(state)
                data = self.restrict_data[level - 1].channels_last(data)
                state = self.restrict_state[level - 1].channels_last(state)
            for step in steps:
                state = step.channels_last(state, data)
        assert state is not None
        for step in self.post[-1]:
            state = step.channels_last(state, data)
        for prolong, steps, (fine, data) in reversed(list(zip(self.prolong, self.post, visited, strict=False))):
            state = fine + prolong.channels_last(state)
            for step in steps:
                state = step.channels_last(state, data)
        return state


def check_iterations(iterations: Iterations) -> tuple[tuple[int, int], ...]:
    """The smoothing steps (pre, post) of each level as a tuple.

    Raises:
        ValueError: If a level has another number of entries or a negative one, or the first has no step down.
    """
    steps = tuple(tuple(pair) for pair in iterations)
    if not steps or any(len(pair) != 2 or min(pair) < 0 for pair in steps) or steps[0][0] < 1:
        raise ValueError(
            f"Expected one pair (pre, post) of smoothing steps for each level, the first with pre >= 1, got {steps}. "
            "Six levels as published: ((1, 0),) * 5 + ((2, 0),)."
        )
    return tuple((pre, post) for pre, post in steps)


def coarse_shapes(grid: Grid, levels: int) -> tuple[tuple[int, ...], ...]:
    """Shape of the grid on each level, finest first.

    Raises:
        ValueError: If a level would have fewer than 2 points along an axis, or a periodic axis of odd size would have
            to be coarsened.
    """
    shapes = [grid.shape]
    while len(shapes) < levels and _can_coarsen(shapes[-1], grid.sides):
        shapes.append(tuple(pair[0].coarsen(n) for n, pair in zip(shapes[-1], grid.sides, strict=True)))
    if len(shapes) < levels or min(grid.shape) < 2:
        fit = len(shapes) if min(grid.shape) > 1 else 0
        raise ValueError(
            f"{levels} levels need at least 2 points along each axis of every level, and an even size wherever a "
            f"periodic axis is coarsened; a grid of {grid.shape} points has room for {fit}: {shapes[:fit]}. "
            f"Use at most {fit} levels or a finer grid."
        )
    return tuple(shapes)


def _can_coarsen(shape: tuple[int, ...], sides: Sequence[Sides]) -> bool:
    return all(n > 2 and not (isinstance(low, Periodic) and n % 2) for n, (low, _) in zip(shape, sides, strict=True))
