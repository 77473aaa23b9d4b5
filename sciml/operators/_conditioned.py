"""Steps in time and maps under conditions: an operator that sees frames, fixed fields, parameters and the time step."""

import abc
from collections.abc import Callable, Sequence
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from sciml.grid import Grid
from sciml.nn import MLP, Dense, gelu
from sciml.operators._wrappers import Normaliser, per_channel
from sciml.rollout import Conditions


@final
class Numbers(eqx.Module):
    """The numbers of a sample that a model is told, normalised: its parameters, then log dt.

    Attributes:
        parameters: Statistics `(parameters,)` of the parameters, of their logarithms where those enter; None if the
            model is told none of them.
        log_dt: Statistics `(1,)` of log dt; None if the model is not told, as for data of one time step.
        logarithms: Numbers of the parameters that enter by their logarithm, such as a viscosity over several decades.
    """

    parameters: Normaliser | None = None
    log_dt: Normaliser | None = None
    logarithms: tuple[int, ...] = eqx.field(static=True, default=())

    @property
    def size(self) -> int:
        """How many there are."""
        parts = (self.parameters, self.log_dt)
        return sum(part.mean.value.shape[0] for part in parts if part is not None)

    def __call__(self, conditions: Conditions) -> Float[Array, " numbers"]:
        """The normalised numbers of one sample; NaN or infinite where a logarithm of a number <= 0 is asked for.

        Raises:
            ValueError: If the number of parameters differs from the statistics.
        """
        values, parts = jnp.asarray(conditions.parameters), []
        if self.parameters is not None:
            known = self.parameters.mean.value.shape[0]
            if values.shape != (known,):
                raise ValueError(
                    f"Expected {known} parameters as in the statistics, got shape {values.shape}. Conditions belong to "
                    "one sample: use jax.vmap for a batch."
                )
            parts.append(self.parameters.encode(_with_logarithms(values, self.logarithms)))
        if self.log_dt is not None:
            parts.append(self.log_dt.encode(jnp.log(jnp.asarray(conditions.dt))[None]))
        return jnp.concatenate(parts) if parts else jnp.zeros(0)


def _with_logarithms(values: Float[Array, " parameters"], which: tuple[int, ...]) -> Float[Array, " parameters"]:
    at = np.isin(np.arange(values.shape[0]), which)
    return jnp.where(at, jnp.log(jnp.where(at, values, 1)), values)


def number_statistics(
    parameters: Float[np.ndarray, "samples parameters"],
    dt: Float[np.ndarray, " windows"],
    *,
    logarithms: Sequence[int] = (),
) -> Numbers:
    """Statistics of the numbers of training data. The time step is among them only if the windows have several.

    Args:
        parameters: Parameters of the samples.
        dt: Time steps of their windows, positive.
        logarithms: Numbers of the parameters that enter by their logarithm.

    Raises:
        ValueError: If a logarithm is asked for of a number that is not positive, or of a parameter that is not there.
    """
    count = parameters.shape[1]
    if any(not 0 <= i < count for i in logarithms):
        raise ValueError(f"Expected numbers of parameters from 0 to {count - 1}, got {tuple(logarithms)}.")
    least = min([dt.min(), *(parameters[:, i].min() for i in logarithms)])
    if not least > 0:
        raise ValueError(
            f"Logarithms need positive parameters and time steps, the least is {least:.6g}. "
            "Leave this parameter out of logarithms."
        )
    values = np.array(parameters)
    values[:, list(logarithms)] = np.log(values[:, list(logarithms)])
    several = dt.max() - dt.min() > 1e-6 * dt.max()  # times are stored in float32
    return Numbers(
        per_channel(values) if count else None,
        per_channel(np.log(dt)[:, None]) if several else None,
        tuple(logarithms),
    )


class AbstractOutput(eqx.Module):
    """What the operator's normalised output means."""

    @abc.abstractmethod
    def decode(
        self, y: Float[Array, "bundle channels *space"], frames: Float[Array, "history channels *space"]
    ) -> Float[Array, "bundle channels *space"]:
        """The next frames, for the normalised output `y` and the frames seen."""


@final
class NextFrames(AbstractOutput):
    """The output is the next frames, normalised. For maps, and for steps that change the state much.

    Attributes:
        frames: Statistics of the frames, `(channels, 1, ...)`.
    """

    frames: Normaliser

    def decode(
        self, y: Float[Array, "bundle channels *space"], frames: Float[Array, "history channels *space"]
    ) -> Float[Array, "bundle channels *space"]:
        """As in `AbstractOutput`."""
        return jax.vmap(self.frames.decode)(y)


@final
class Increments(AbstractOutput):
    """The output is the increments from the latest frame, normalised: frame j is last + (j + 1) (mean + deviation y_j).

    Frame j, counted from 0, is j + 1 steps away, and mean and deviation are those of one step: what moves steadily then
    has outputs of one size at all frames of a bundle.

    Attributes:
        step: Statistics of the differences of neighbouring frames, `(channels, 1, ...)`.
    """

    step: Normaliser

    def decode(
        self, y: Float[Array, "bundle channels *space"], frames: Float[Array, "history channels *space"]
    ) -> Float[Array, "bundle channels *space"]:
        """As in `AbstractOutput`.

        Raises:
            ValueError: If there is no frame to add to.
        """
        if not frames.shape[0]:
            raise ValueError("Increments need a latest frame, maps have none (history 0). Use NextFrames for maps.")
        steps = jnp.arange(1, y.shape[0] + 1, dtype=y.dtype).reshape(-1, *(1,) * (y.ndim - 1))
        return frames[-1:] + steps * jax.vmap(self.step.decode)(y)


class AbstractConditionedOperator(eqx.Module):
    """Maps fields and numbers to fields, all normalised, on one sample.

    Attributes:
        operator: The operator inside. Another resolution of the same box is `Resampled` in its place.
    """

    operator: eqx.AbstractVar[Callable[..., Array]]

    @abc.abstractmethod
    def __call__(self, x: Float[Array, "in *space"], numbers: Float[Array, " numbers"]) -> Float[Array, "out *space"]:
        """The output fields."""


Maker = Callable[..., Callable[..., Array]]


@final
class AsChannels(AbstractConditionedOperator):
    """Numbers as channels that are constant in space, before the fields: operator([numbers, x])."""

    operator: Callable[..., Array]

    def __call__(self, x: Float[Array, "in *space"], numbers: Float[Array, " numbers"]) -> Float[Array, "out *space"]:
        """The operator's output for the numbers at every point and the fields."""
        constant = numbers.astype(x.dtype).reshape(-1, *(1,) * (x.ndim - 1))
        return self.operator(jnp.concatenate((jnp.broadcast_to(constant, (numbers.size, *x.shape[1:])), x)))


def as_channels(
    make: Maker, in_channels: int, out_channels: int, *, numbers: int, grid: Grid, key: PRNGKeyArray
) -> AsChannels:
    """Any operator with numbers as channels.

    Args:
        make: `(in_channels, out_channels, *, grid, key) -> operator`, such as `zoo.MODELS["fno"].make`.
        in_channels: Number of channels of fields: fixed ones and frames.
        out_channels: Number of output channels.
        numbers: Number of numbers.
        grid: Where the fields are.
        key: Random key.
    """
    return AsChannels(make(numbers + in_channels, out_channels, grid=grid, key=key))


@final
class FiLM(AbstractConditionedOperator):
    r"""Numbers as scales and shifts of the channels around an operator G of hidden fields.

    .. math::  h = \sigma((1 + \gamma_1) (A x + a) + \beta_1), \quad
               y = B \sigma((1 + \gamma_2) G(h) + \beta_2) + b, \quad
               (\gamma_1, \beta_1, \gamma_2, \beta_2) = N(numbers)

    A and B act at each point, N is a network of one hidden layer whose last layer begins with zeros: at first the
    numbers change nothing. They take no memory at the points.

    Source: Perez et al., "FiLM: Visual reasoning with a general conditioning layer", AAAI 2018, arXiv:1709.07871,
    equation (1), at two places around the operator in place of every layer.

    Attributes:
        operator: G, from `width` channels to as many.
        lifting: A, a.
        projection: B, b.
        modulation: N.
    """

    operator: Callable[..., Array]
    lifting: Dense
    projection: Dense
    modulation: MLP

    def __init__(
        self,
        make: Maker,
        in_channels: int,
        out_channels: int,
        *,
        numbers: int,
        width: int = 32,
        grid: Grid,
        key: PRNGKeyArray,
    ):
        """Draws the weights.

        Args:
            make: `(in_channels, out_channels, *, grid, key) -> operator`.
            in_channels: Number of channels of fields: fixed ones and frames.
            out_channels: Number of output channels.
            numbers: Number of numbers.
            width: Number of channels of the hidden fields; N has twice as many in its hidden layer.
            grid: Where the fields are.
            key: Random key.
        """
        keys = jax.random.split(key, 4)
        self.operator = make(width, width, grid=grid, key=keys[0])
        self.lifting = Dense(in_channels, width, key=keys[1])
        self.projection = Dense(width, out_channels, key=keys[2])
        network = MLP((max(1, numbers), 2 * width, 4 * width), key=keys[3])
        last = jax.tree.map(jnp.zeros_like, network.layers[-1])
        self.modulation = eqx.tree_at(lambda network: network.layers[-1], network, last)

    def __call__(self, x: Float[Array, "in *space"], numbers: Float[Array, " numbers"]) -> Float[Array, "out *space"]:
        """The output fields for the fields and the numbers."""
        numbers = numbers.astype(x.dtype) if numbers.size else jnp.zeros(1, x.dtype)
        scale, shift, last_scale, last_shift = jnp.split(self.modulation(numbers[None])[0], 4)
        hidden = gelu(_modulated(_pointwise(self.lifting, x), scale, shift))
        return _pointwise(self.projection, gelu(_modulated(self.operator(hidden), last_scale, last_shift)))


def _pointwise(layer: Dense, x: Float[Array, "in *space"]) -> Float[Array, "out *space"]:
    return jnp.moveaxis(layer(jnp.moveaxis(x, 0, -1)[None])[0], -1, 0)


def _modulated(
    x: Float[Array, "channels *space"], scale: Float[Array, " channels"], shift: Float[Array, " channels"]
) -> Float[Array, "channels *space"]:
    scale, shift = (part.reshape(-1, *(1,) * (x.ndim - 1)) for part in (scale, shift))
    return (1 + scale) * x + shift


@final
class Conditioned(eqx.Module):
    """Frames and conditions to the next frames, in the units of the data.

    The operator sees the normalised numbers (`Numbers`), and as channels the normalised fixed fields and then the
    normalised frames, the earliest first: the latest state has the last channels. A map has history 0: fixed fields and
    numbers determine its single frame. The statistics are part of the model, saved and not trained.

    Attributes:
        operator: From fixed + history channels fields and the numbers to bundle channels fields.
        frames: Statistics of the frames, `(channels, 1, ...)`.
        output: What the operator's output means, `Increments` or `NextFrames`.
        fixed: Statistics of the fixed fields, `(fixed, 1, ...)`; None if the model does not see them.
        numbers: Statistics of parameters and time step; by default the model is told neither.
        history: Number of frames seen.
        bundle: Number of frames predicted at once.
    """

    operator: AbstractConditionedOperator
    frames: Normaliser
    output: AbstractOutput
    fixed: Normaliser | None = None
    numbers: Numbers = Numbers()
    history: int = eqx.field(static=True, default=1)
    bundle: int = eqx.field(static=True, default=1)

    def __check_init__(self) -> None:
        if self.history < 0 or self.bundle < 1:
            raise ValueError(f"Expected history >= 0 and bundle >= 1, got {self.history} and {self.bundle}.")

    def __call__(
        self, frames: Float[Array, "history channels *space"], conditions: Conditions
    ) -> Float[Array, "bundle channels *space"]:
        """The frames that follow `frames`.

        Raises:
            ValueError: If the numbers of frames, channels, fixed fields or parameters differ from the statistics.
        """
        channels = self.frames.mean.value.shape[0]
        if frames.shape[:2] != (self.history, channels):
            raise ValueError(
                f"Expected frames ({self.history}, {channels}, *space) as in the statistics, got {frames.shape}. "
                "Frames belong to one sample: use jax.vmap for a batch."
            )
        space = frames.shape[2:]
        states = jax.vmap(self.frames.encode)(frames).reshape(-1, *space)
        fields = jnp.concatenate((self._fixed(conditions, space).astype(states.dtype), states))
        y = self.operator(fields, self.numbers(conditions))
        if y.shape != (self.bundle * channels, *space):
            raise ValueError(
                f"Expected an operator with {self.bundle * channels} output channels on the points of the frames, "
                f"{space}, got {y.shape}. It returns bundle * channels channels."
            )
        return self.output.decode(y.reshape(-1, channels, *space), frames)

    def _fixed(self, conditions: Conditions, space: tuple[int, ...]) -> Float[Array, "fixed *space"]:
        if self.fixed is None:
            return jnp.zeros((0, *space))
        known, fixed = self.fixed.mean.value.shape[0], jnp.asarray(conditions.fixed)
        if fixed.shape != (known, *space):
            raise ValueError(
                f"Expected fixed fields ({known}, {', '.join(map(str, space))}) as in the statistics and the frames, "
                f"got {fixed.shape}. Conditions belong to one sample: use jax.vmap for a batch."
            )
        return self.fixed.encode(fixed)
