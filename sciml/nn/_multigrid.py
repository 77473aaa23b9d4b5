"""A multigrid cycle whose stencils are learned: one linear map between fields on a grid."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from sciml import cut
from sciml.grid import AbstractBoundary, Dirichlet, Grid, Periodic, Sides
from sciml.nn._conv import Conv, Prolongation, coarsened
from sciml.nn._ghosts import at_walls, convolved, exchanged, own_part, prolonged, restricted, without
from sciml.nn._norms import FieldNorm

Iterations = Sequence[Sequence[int]]
Norm = Callable[[int, tuple[int, ...]], FieldNorm]


@dataclasses.dataclass(frozen=True)
class CycleConfig:
    """What a multigrid cycle does besides its smoothing steps; the defaults are the published Darcy variant.

    Attributes:
        bias: Whether S and A add a constant to each channel.
        residual: Whether the residual f - A u is restricted instead of the data f, with an A of its own.
        carry: Whether the state is restricted as well; otherwise it starts from zero on every level, so that what comes
            back up is a correction.
        shared: Whether all steps of a level, and the residual that leaves it, have one A.
        inner: Whether R, Pi and P connect a level to nodes 1, 3, ... of the finer one, whose stencils lie inside of it;
            otherwise to nodes 0, 2, 4, ... with the grid's boundary.
        extension: How coarse states continue under P. Published are zeros on every grid; only the grid's own boundary
            makes a periodic cycle commute with shifts.
        multiples: Channels of state and data on each level in multiples of those on the finest; empty for equal ones.
        norm: Makes the normalisation of the state after each prolongation from its channels and shape: `FieldNorm` per
            point, `per_channel_norm` for every grid; None leaves it out.
    """

    bias: bool = False
    residual: bool = False
    carry: bool = True
    shared: bool = False
    inner: bool = False
    extension: AbstractBoundary | tuple[AbstractBoundary | Sides, ...] = Dirichlet()
    multiples: tuple[int, ...] = ()
    norm: Norm | None = None


CORRECTION = CycleConfig(residual=True, carry=False, shared=True)
"""The cycle as the paper writes it and as linear solvers have it: one A per level, residuals down, corrections up."""


@final
class SmoothingStep(eqx.Module):
    """u <- u + S (f - A u) with 3-point stencils S and A along each axis; from u = 0, u <- S f.

    Attributes:
        smoother: S, from data f to states u.
        operator: A, from states to data; None in the first step of a state, and where the level has one for all.
    """

    smoother: Conv
    operator: Conv | None

    def channels_last(
        self,
        state: Float[Array, "batch *space state"] | None,
        data: Float[Array, "batch *space data"],
        shared: Conv | None = None,
    ) -> Float[Array, "batch *space state"]:
        """The state after the step; None is the state zero, and `shared` the A of a step without its own."""
        if state is None:
            return self.smoother.channels_last(data)
        operator = shared if self.operator is None else self.operator
        assert operator is not None
        return state + self.smoother.channels_last(data - operator.channels_last(state))

    def on_parts(self, state: Array | None, data: Array, ghosts: int, shared: Conv | None = None) -> Array:
        """The same of parts, with so many ghost layers; the state has 2 more before the step, and the data have 1."""
        sides = self.smoother.sides
        if state is None:
            return at_walls(convolved(self.smoother, data), sides, ghosts)
        operator = shared if self.operator is None else self.operator
        assert operator is not None
        residual = at_walls(data - convolved(operator, state), sides, ghosts + 1)
        return at_walls(without(state, len(sides), 2) + convolved(self.smoother, residual), sides, ghosts)


@final
class VCycle(eqx.Module):
    """One multigrid cycle with learned stencils, a linear map (affine with a bias) from data f to a state u.

    Levels l = 0, 1, ... from fine to coarse, each with its own stencils:

        down    u_0 = S f_0, then u_l <- u_l + S (f_l - A u_l) for every further step of the level
                f_l = R f_{l-1} (or R (f_{l-1} - A u_{l-1})), u_l = Pi u_{l-1} (or 0)
        up      u_l <- u_l + P u_{l+1}, normalised if asked for, then u_l <- u_l + S (f_l - A u_l) for every step

    S, A, R, Pi have 3 points along each axis, R and Pi keep every second node, P is `Prolongation`. `CycleConfig`
    chooses between the alternatives: its defaults are those of the published code and give the published parameter
    counts, `CORRECTION` is the paper's text. A periodic axis may have an odd size on a level that is coarsened; its
    coarse ring then closes with half of a coarse spacing, and the cycle commutes with no shift.

    Source: He, Liu, Xu, "MgNO: Efficient parameterization of linear operators via multigrid", ICLR 2024, section 3.

    Attributes:
        pre: Smoothing steps of each level on the way down.
        post: Smoothing steps of each level on the way up.
        operator: A of the residual that leaves each level, and of its steps if they share one; or None.
        restrict_state: Pi from each level to the next, or None.
        restrict_data: R from each level to the next.
        prolong: P to each level from the next.
        norm: Normalisation on each level after the prolongation, or None.
        residual: Whether the residual is restricted, or the data.
    """

    pre: tuple[tuple[SmoothingStep, ...], ...]
    post: tuple[tuple[SmoothingStep, ...], ...]
    operator: tuple[Conv | None, ...]
    restrict_state: tuple[Conv | None, ...]
    restrict_data: tuple[Conv, ...]
    prolong: tuple[Prolongation, ...]
    norm: tuple[FieldNorm | None, ...]
    residual: bool = eqx.field(static=True)
    grid: Grid = eqx.field(static=True)

    def __init__(
        self,
        data_channels: int,
        state_channels: int,
        *,
        grid: Grid,
        iterations: Iterations,
        config: CycleConfig = CycleConfig(),
        key: PRNGKeyArray,
    ) -> None:
        """Draws the stencils.

        Args:
            data_channels: Number of channels of f on the finest level.
            state_channels: Number of channels of u on the finest level.
            grid: Finest grid; its boundary says how fields continue under S, A, R and Pi.
            iterations: Smoothing steps (pre, post) of each level, finest first; their number is the number of levels.
            config: What else the cycle does.
            key: Of the random initial values.

        Raises:
            ValueError: If the grid has too few points for the levels, a level that starts from zero has no step down,
                or the multiples are not one per level.
        """
        steps = check_iterations(iterations, carry=config.carry)
        shapes = coarse_shapes(grid, len(steps), inner=config.inner)
        multiples = config.multiples or (1,) * len(steps)
        if len(multiples) != len(steps):
            raise ValueError(f"Expected one multiple for each of {len(steps)} levels, got {multiples}.")
        f = [data_channels * m for m in multiples]
        u = [state_channels * m for m in multiples]
        keys = iter(jax.random.split(key, 2 * sum(pre + post for pre, post in steps) + 4 * len(steps)))

        def conv(into: int, out: int, *, stride: int = 1, inner: bool = False, bias: bool = False) -> Conv:
            make = functools.partial(Conv, kernel=(3,) * len(grid.shape), boundary=grid.sides)
            return make(into, out, stride=stride, inner=inner, bias=bias, key=next(keys))

        def step(level: int, *, first: bool = False) -> SmoothingStep:
            smoother = conv(f[level], u[level], bias=config.bias)
            own = not (first or config.shared)
            return SmoothingStep(smoother, conv(u[level], f[level], bias=config.bias) if own else None)

        def restriction(channels: list[int], level: int) -> Conv:
            return conv(channels[level], channels[level + 1], stride=2, inner=config.inner)

        levels, coarse = range(len(steps)), range(len(steps) - 1)
        self.pre = tuple(
            tuple(step(i, first=k == 0 and not (i and config.carry)) for k in range(steps[i][0])) for i in levels
        )
        self.post = tuple(tuple(step(i) for _ in range(steps[i][1])) for i in levels)
        self.restrict_state = tuple(restriction(u, i) if config.carry else None for i in coarse)
        self.restrict_data = tuple(restriction(f, i) for i in coarse)
        self.operator = tuple(
            conv(u[i], f[i], bias=config.bias) if _has_operator(config, steps, i) else None for i in levels
        )
        self.prolong = tuple(
            Prolongation(u[i + 1], u[i], fine=shapes[i], inner=config.inner, boundary=config.extension, key=next(keys))
            for i in coarse
        )
        self.norm = tuple(None if config.norm is None else config.norm(u[i], shapes[i]) for i in coarse)
        self.grid = grid
        self.residual = config.residual

    def __call__(self, data: Float[Array, "data *space"]) -> Float[Array, "state *space"]:
        """The state on the finest grid for the data of one sample.

        Raises:
            ValueError: If the data live on another grid.
        """
        self.grid.check(data)
        return jnp.moveaxis(self.channels_last(jnp.moveaxis(data, 0, -1)[None])[0], -1, 0)

    def channels_last(self, data: Float[Array, "batch *space data"]) -> Float[Array, "batch *space state"]:
        """The same for fields with a leading batch axis and the channels last, the layout of the computation."""
        if any(cut.axes(data, len(self.grid.shape))) and self._goes_down_and_up():
            return self._on_parts(0, None, data)
        return self.finest(data, self.correction)

    def finest(
        self, data: Float[Array, "batch *space data"], correction: Callable[[Array, Array], Array]
    ) -> Float[Array, "batch *space state"]:
        """The work of the finest level, with `correction(state, data)` for what the coarser ones add to its state."""
        return self._run(0, None, data, correction)

    def coarse_part(self, data: Float[Array, "batch *space data"]) -> Float[Array, "batch *space state"]:
        """The correction of the finest level alone: P u_1."""
        state = None
        for step in self.pre[0]:
            state = step.channels_last(state, data, self.operator[0])
        assert state is not None
        return self.correction(state, data)

    def correction(
        self, state: Float[Array, "batch *space state"], data: Float[Array, "batch *space data"], level: int = 0
    ) -> Float[Array, "batch *space state"]:
        """What the levels below `level` add to its state.

        Where the parts of a field that is cut over devices are too small to be coarsened, the field is put together,
        and every device does the work of the coarser levels.
        """
        names = cut.axes(data, len(self.grid.shape))
        if any(names) and not all(_can_coarsen(n, name) for n, name in zip(data.shape[1:-1], names, strict=True)):
            state, data = cut.joined(state, names, 1), cut.joined(data, names, 1)
            with cut.whole_fields():
                whole = self.correction(state, data, level)
            return cut.own_part(whole, names, 1)
        operator, carry = self.operator[level], self.restrict_state[level]
        if operator is not None and self.residual:
            data = data - operator.channels_last(state)
        data = self.restrict_data[level].channels_last(data)
        coarse = None if carry is None else carry.channels_last(state)
        below = functools.partial(self.correction, level=level + 1)
        return self.prolong[level].channels_last(self._run(level + 1, coarse, data, below))

    def _goes_down_and_up(self) -> bool:
        """Whether nothing but prolongations happens on the way up, so that ghost layers last for all of a level."""
        sides = [pair for prolong in self.prolong for pair in zip(prolong.sides, self.grid.sides, strict=True)]
        fitting = all(isinstance(own[0], Periodic) or not isinstance(coarse[0], Periodic) for coarse, own in sides)
        return fitting and not any(self.post) and not any(self.norm) and not any(r.inner for r in self.restrict_data)

    def _on_parts(self, level: int, state: Array | None, data: Array) -> Array:
        """The state of a level of a field that is cut over devices, with one ghost layer but on the finest level.

        The devices exchange state and data once, with as many ghost layers as the stencils of the level consume, or
        before each step where parts have too few points for that. Where these are too few even so, they put the level
        together. On the finest level a ghost layer of the state, which Pi reads, costs more than it saves, unless it is
        computed from data of at most half as many channels, as in a layer that reads the input fields.
        """
        dimensions, ghosts = len(self.grid.shape), min(level, 1)
        last = level + 1 == len(self.pre)
        left = ghosts  # ghost layers of the state after the steps
        if self.residual and not last:
            left = 2
        elif not last and self.restrict_state[level] is not None:
            few = 2 * data.shape[-1] <= self.pre[level][0].smoother.weight.shape[-1]
            left = 1 if few else ghosts
        names = cut.axes(data, dimensions)
        parts = [n for n, name in zip(data.shape[1:-1], names, strict=True) if name is not None]
        if min(parts) < left + 3 or any(n % 2 for n in parts if not last):
            return self._together(level, state, data, names)
        u, f = self._stepped(level, state, data, left)
        if last:
            return u
        operator, carry = self.operator[level], self.restrict_state[level]
        if operator is not None and self.residual:
            f = at_walls(f - convolved(operator, u), self.grid.sides, 1)
        below = self._on_parts(
            level + 1,
            None if carry is None else restricted(carry, u, left) if left else carry.channels_last(u),
            restricted(self.restrict_data[level], f, 1),
        )
        return without(u, dimensions, left - ghosts) + prolonged(self.prolong[level], below, ghosts)

    def _stepped(self, level: int, state: Array | None, data: Array, left: int) -> tuple[Array, Array]:
        """State and data of parts after the steps of a level, with `left` ghost layers and with 1."""
        dimensions, sides, steps = len(self.grid.shape), self.grid.sides, self.pre[level]
        names = cut.axes(data, dimensions)
        room = min(n for n, name in zip(data.shape[1:-1], names, strict=True) if name is not None)
        groups = (steps,) if left + 2 * len(steps) < room else tuple((step,) for step in steps)
        f = data
        for number, group in enumerate(groups, start=1):
            end = left if number == len(groups) else 0
            given = end + 2 * len(group)  # ghost layers of the state; the data have 1 less
            wide = max(given - 1, 1)
            if state is None:
                (f,) = exchanged((data,), sides, (wide,))
            else:
                state, f = exchanged((state, data), sides, (given, wide))
            for i, step in enumerate(group, start=1):
                state = step.on_parts(state, without(f, dimensions, 2 * i - 2), given - 2 * i, self.operator[level])
            f = without(f, dimensions, wide - 1)
        assert state is not None
        return state, f

    def _together(self, level: int, state: Array | None, data: Array, names: tuple[str | None, ...]) -> Array:
        """As `_on_parts`, for a level and all below that every device computes as a whole."""
        fields = data if state is None else jnp.concatenate((state, data), -1)
        whole = cut.joined(fields, names, 1)
        first, second = jnp.split(whole, [0 if state is None else state.shape[-1]], -1)
        with cut.whole_fields():
            below = functools.partial(self.correction, level=level)
            found = self._run(level, None if state is None else first, second, below)
        return own_part(found, names, min(level, 1))

    def _run(
        self, level: int, state: Array | None, data: Array, correction: Callable[[Array, Array], Array]
    ) -> Float[Array, "batch *space state"]:
        """A level's steps down, the correction and its normalisation, the steps up."""
        for step in self.pre[level]:
            state = step.channels_last(state, data, self.operator[level])
        assert state is not None
        if level + 1 < len(self.pre):
            norm, state = self.norm[level], state + correction(state, data)
            state = state if norm is None else norm.channels_last(state)
        for step in self.post[level]:
            state = step.channels_last(state, data, self.operator[level])
        return state


def _can_coarsen(n: int, name: str | None) -> bool:
    """Whether the parts of `n` points of an axis stay equal, with at least 2 points, on the next level."""
    return name is None or (n % 2 == 0 and n >= 4)


def _has_operator(config: CycleConfig, steps: Sequence[tuple[int, int]], level: int) -> bool:
    """Whether a level has an A besides those of its steps: for the residual that leaves it, or shared by the steps."""
    from_zero = level == 0 or not config.carry
    return (config.residual and level + 1 < len(steps)) or (config.shared and sum(steps[level]) > from_zero)


def check_iterations(iterations: Iterations, *, carry: bool = True) -> tuple[tuple[int, int], ...]:
    """The smoothing steps (pre, post) of each level as a tuple.

    Raises:
        ValueError: If a level has another number of entries or a negative one, or one that starts from zero (the first,
            or all of them if no state is carried down) has no step down.
    """
    steps = tuple(tuple(pair) for pair in iterations)
    if not steps or any(len(pair) != 2 or min(pair) < 0 for pair in steps):
        first = 0
    else:
        first = steps[0][0] if carry else min(pre for pre, _ in steps)
    if first < 1:
        raise ValueError(
            f"Expected one pair (pre, post) of smoothing steps for each level, the first with pre >= 1 (all of them if "
            f"no state is carried down), got {steps}. Six levels as published: ((1, 0),) * 5 + ((2, 0),)."
        )
    return tuple((pre, post) for pre, post in steps)


def coarse_shapes(grid: Grid, levels: int, *, inner: bool = False) -> tuple[tuple[int, ...], ...]:
    """Shape of the grid on each level, finest first.

    Raises:
        ValueError: If a level would have fewer than 2 points along an axis.
    """
    shapes = [grid.shape]
    while len(shapes) < levels:
        shape = tuple(coarsened(n, 2, inner=inner) for n in shapes[-1])
        if min(shape) < 2:
            break
        shapes.append(shape)
    if len(shapes) < levels or min(grid.shape) < 2:
        fit = len(shapes) if min(grid.shape) > 1 else 0
        raise ValueError(
            f"{levels} levels need at least 2 points along each axis of every level; a grid of {grid.shape} points has "
            f"room for {fit}: {shapes[:fit]}. Use at most {fit} levels or a finer grid."
        )
    return tuple(shapes)
