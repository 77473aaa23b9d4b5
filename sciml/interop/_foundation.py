"""Pretrained networks of foundax as operators: Poseidon, DPOT, MPP and Walrus, with channels of your own.

foundax (`pip install 'sciml-jax[foundation]'`) has these architectures as Equinox modules, each with a call of its own.
A form such as `Poseidon` says how a network is called; `Foundation` is the operator that calls it.
"""

import abc
import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any, TypeVar, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from sciml import cut
from sciml.grid import Grid
from sciml.interop._files import Path, read_safetensors
from sciml.nn import Dense
from sciml.operators import AbstractOperator

Model = TypeVar("Model", bound=PyTree)


class AbstractForm(abc.ABC):
    """How a network is called."""

    @abc.abstractmethod
    def channels(self, network: Any) -> tuple[int, int]:
        """Numbers of channels of a frame, of the input and of the output."""

    @abc.abstractmethod
    def __call__(self, network: Any, frames: Float[Array, "time in *space"]) -> Float[Array, "out *space"]:
        """The frame after the given ones."""


@final
@dataclasses.dataclass(frozen=True)
class Poseidon(AbstractForm):
    """The call of `foundax.poseidon`: from the latest frame to the one after a lead time.

    Source: Herde et al. 2024, arXiv:2405.19101. Fields are square; other sizes than the network's are interpolated by
    the network.

    Attributes:
        time: Lead time in the units of the pretraining, in which a trajectory takes 1.
    """

    time: float = 1.0

    def channels(self, network: Any) -> tuple[int, int]:
        """Those of the network's configuration."""
        return network.config.num_channels, network.config.num_out_channels

    def __call__(self, network: Any, frames: Float[Array, "time in x y"]) -> Float[Array, "out x y"]:
        """The frame after the lead time."""
        x = jnp.moveaxis(frames[-1], 0, -1)[None]
        y = network(pixel_values=x, time=jnp.full((1,), self.time, x.dtype), return_dict=False)
        return jnp.moveaxis(y[0][0], -1, 0)


@final
@dataclasses.dataclass(frozen=True)
class DPOT(AbstractForm):
    """The call of `foundax.dpot`: from `in_timesteps` frames on its own grid to the next one.

    Source: Hao et al. 2024, arXiv:2403.03542.
    """

    def channels(self, network: Any) -> tuple[int, int]:
        """Those of the network."""
        return network.in_channels, network.out_channels

    def __call__(self, network: Any, frames: Float[Array, "time in x y"]) -> Float[Array, "out x y"]:
        """The first of the frames that the network predicts."""
        y, _ = network(jnp.transpose(frames, (2, 3, 0, 1))[None])
        return jnp.moveaxis(y[0, :, :, 0], -1, 0)


@final
@dataclasses.dataclass(frozen=True)
class MPP(AbstractForm):
    """The call of `foundax.mpp`: from any number of frames to the next one, on any grid that the patches divide.

    Source: McCabe et al. 2024, "Multiple physics pretraining for spatiotemporal surrogate models", NeurIPS. It
    normalises each channel by its mean and deviation over the frames.

    Attributes:
        labels: Which of the network's states the channels are.
        periodic: Whether the axes are periodic.
    """

    labels: tuple[int, ...]
    periodic: tuple[bool, bool] = (False, False)

    def channels(self, network: Any) -> tuple[int, int]:
        """One for each label."""
        return len(self.labels), len(self.labels)

    def __call__(self, network: Any, frames: Float[Array, "time in x y"]) -> Float[Array, "in x y"]:
        """The next frame."""
        return network(frames[:, None], jnp.asarray(self.labels), jnp.asarray([self.periodic], jnp.int32))[0]


@final
@dataclasses.dataclass(frozen=True)
class Walrus(AbstractForm):
    """The call of `foundax.walrus`: from frames to the next one, in two dimensions.

    Source: McCabe et al. 2025, arXiv:2511.15684. The network's states 0 to 2 mark what lies beyond the walls.

    Attributes:
        labels: Which of the network's states the channels are, from 3 on.
        boundaries: For each axis and side what lies beyond: 0 a wall, 1 open, 2 periodic.
        strides: Strides of the two convolutions of the encoder for each of three axes; by default the network chooses
            them from the size of the field.
    """

    labels: tuple[int, ...]
    boundaries: tuple[tuple[int, int], ...] = ((2, 2), (2, 2), (2, 2))
    strides: tuple[tuple[int, int, int], tuple[int, int, int]] | None = None

    def channels(self, network: Any) -> tuple[int, int]:
        """One for each label."""
        return len(self.labels), len(self.labels)

    def __call__(self, network: Any, frames: Float[Array, "time in x y"]) -> Float[Array, "in x y"]:
        """The last of the frames that the network predicts, the next one."""
        first, second = (None, None) if self.strides is None else self.strides
        x = jnp.moveaxis(frames, 1, -1)[None]
        beyond = [list(pair) for pair in self.boundaries]
        y = network(x, jnp.asarray(self.labels), beyond, stride1=first, stride2=second)
        return jnp.moveaxis(y[0, -1], -1, 0)


@final
class Foundation(AbstractOperator):
    """A pretrained network as an operator from frames, stacked as channels, to the next frame.

    Where the numbers of channels differ from the network's, a matrix at each point comes before it and another after
    it. They begin as the identity on the channels that both have: further channels of the input change nothing at
    first, and further ones of the output are zero. `operators.Normalised` around it, as `tasks.fields` puts it there,
    scales your fields to those of the pretraining.

    Attributes:
        network: The network, all of whose arrays are trained.
        into: The matrix before it, or None.
        out: The matrix after it, or None.
        form: How it is called.
        frames: Number of frames in the input, the latest one last.
    """

    network: Any
    into: Dense | None
    out: Dense | None
    form: AbstractForm = eqx.field(static=True)
    frames: int = eqx.field(static=True)

    def __init__(
        self,
        network: Any,
        form: AbstractForm,
        *,
        in_channels: int,
        out_channels: int,
        frames: int = 1,
        key: PRNGKeyArray,
    ) -> None:
        """Wraps the network.

        Args:
            network: From foundax, such as `foundax.poseidon.T()`, with random or loaded weights.
            form: How it is called, `Poseidon`, `DPOT`, `MPP` or `Walrus`.
            in_channels: Number of channels of the input, those of all frames together.
            out_channels: Number of channels of the output.
            frames: Number of frames.
            key: Not used at present: the matrices do not begin at random.

        Raises:
            ValueError: If the frames do not have equal numbers of channels.
        """
        if frames < 1 or in_channels % frames:
            raise ValueError(
                f"Expected {frames} frames of equal numbers of channels, got {in_channels}. Give their product."
            )
        del key
        read, written = form.channels(network)
        self.network = _public(network)
        self.into = _matching(in_channels // frames, read)
        self.out = _matching(written, out_channels)
        self.form, self.frames = form, frames

    def __call__(self, x: Float[Array, "in *space"]) -> Float[Array, "out *space"]:
        """The next frame.

        Raises:
            ValueError: If the input has another number of channels.
        """
        cut.refuse(x, x.ndim - 1, "A network of foundax")
        own = self.form.channels(self.network)[0] if self.into is None else self.into.weight.shape[0]
        if x.shape[0] != own * self.frames:
            raise ValueError(
                f"Expected {self.frames} frames of {own} channels, got {x.shape[0]} channels in a field of shape "
                f"{x.shape}. Build the operator with in_channels={x.shape[0]}."
            )
        frames = _at_points(self.into, x.reshape(self.frames, own, *x.shape[1:]))
        return _at_points(self.out, self.form(self.network, frames)[None])[0]


def foundation(network: Any, form: AbstractForm, *, frames: int = 1) -> Callable[..., Foundation]:
    """A maker `(in_channels, out_channels, *, grid, key) -> Foundation`, for `zoo.Architecture` and `tasks.fields`.

    Args:
        network: From foundax, with the weights from which fine-tuning starts.
        form: How it is called.
        frames: Number of frames in the input.
    """

    def make(in_channels: int, out_channels: int, *, grid: Grid, key: PRNGKeyArray) -> Foundation:
        del grid
        return Foundation(network, form, in_channels=in_channels, out_channels=out_channels, frames=frames, key=key)

    return make


def read_equinox(path: Path, *, like: Model) -> Model:
    """The model `like` with the weights of a file of `equinox.tree_serialise_leaves` or in safetensors.

    Args:
        path: The file, such as the weights that foundax publishes.
        like: A network of the same architecture and sizes. Numbers in it that are not static are read as well.

    Raises:
        FileNotFoundError: If the file is missing.
        Damaged: If a file in safetensors is cut off or has changed.
        ValueError: If the file belongs to other sizes or another architecture.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    with path.open("rb") as file:
        start = file.read(9)
    if start[8:9] == b"{":
        return read_safetensors(path, like=like)[0]
    if start[:6] != b"\x93NUMPY":
        raise ValueError(f"{path}: expected a file of equinox.tree_serialise_leaves or safetensors. Give one of them.")
    try:
        with path.open("rb") as file:
            found = eqx.tree_deserialise_leaves(file, like)
            left = len(file.read(1))
    except (RuntimeError, ValueError, EOFError, OSError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{path} does not belong to this network ({reason:.200}). Build it with the sizes of the saved one."
        ) from None
    if left:
        raise ValueError(f"{path} holds more arrays than this network has. Build it with the sizes of the saved one.")
    return found


def _public(network: Any) -> Any:
    """The network as an instance of its published class, if foundax has put a class inside of a function around it.

    Such a class has no name by which a saved model could find it, and changes the order of axes alone.
    """
    kinds = [kind for kind in type(network).__mro__ if "<locals>" not in kind.__qualname__]
    if kinds[0] is type(network):
        return network
    new = object.__new__(kinds[0])
    for field in dataclasses.fields(kinds[0]):
        object.__setattr__(new, field.name, getattr(network, field.name))
    return new


def _matching(size: int, other: int) -> Dense | None:
    """The rectangular identity as a layer; None between equal sizes."""
    if size == other:
        return None
    layer = eqx.filter_eval_shape(lambda: Dense(size, other, bias=False, key=jax.random.key(0)))
    return eqx.tree_at(lambda one: one.weight, layer, jnp.eye(size, other))


def _at_points(layer: Dense | None, frames: Float[Array, "time in *space"]) -> Float[Array, "time out *space"]:
    return frames if layer is None else jnp.moveaxis(layer(jnp.moveaxis(frames, 1, -1)), -1, 1)
