"""How a run is laid out over devices: parts of each batch, parts of each field, and parts of the state."""

import dataclasses
import math
import re
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from sciml import cut
from sciml.parallel._arrays import spread
from sciml.parallel._processes import devices as all_devices


@dataclasses.dataclass(frozen=True)
class Whole:
    """Every device holds all parameters and the whole state of the optimiser."""


@dataclasses.dataclass(frozen=True)
class Cut:
    """Large arrays of the state are cut over the devices that share a batch, and put together where they are used.

    Each is cut along its longest axis that these devices divide. As much is sent as without: the parts of a parameter
    are gathered instead of the whole of its gradient.

    Attributes:
        smallest: Bytes of the smallest array that is cut.
    """

    smallest: int = 4 << 20


@dataclasses.dataclass(frozen=True)
class Mapped:
    """Each device computes the loss of its part, and layers ask other devices for what they lack (`jax.shard_map`).

    What is sent is what the layers need and no more. The loss is a mean over the samples of a batch.
    """


@dataclasses.dataclass(frozen=True)
class Automatic:
    """The step is written for whole batches, and XLA decides what each device computes and sends (`jax.jit`).

    For gradients that `jax.shard_map` does not take, such as those by diffrax's default adjoint, for losses that are no
    mean over the samples, and for operators that need whole fields, of which more is sent then.
    """


@dataclasses.dataclass(frozen=True)
class Alone:
    """One device computes each batch, unless a layout is given: then as by `Automatic`.

    For steps in which devices would wait for one another more than they compute, such as small neural ODEs.
    """


@dataclasses.dataclass(frozen=True)
class Layout:
    """How a run is laid out over devices, in numbers: `Layout(data=8, space=(4, 2))`.

    Attributes:
        data: Number of parts of a batch; None for as many as share it equally with the devices that there are.
        space: Number of parts of each axis of space, the first ones; empty for whole fields.
        state: `Whole()` or `Cut()`: where parameters and optimiser are.

    Raises:
        ValueError: If a number is not positive, or there are more than 3 axes of space.
    """

    data: int | None = None
    space: tuple[int, ...] = ()
    state: Whole | Cut = Whole()

    def __post_init__(self) -> None:
        object.__setattr__(self, "space", tuple(self.space))
        if len(self.space) > len(cut.SPACE) or min(self.space, default=1) < 1 or (self.data or 1) < 1:
            raise ValueError(
                f"Expected a positive number of parts of the batch and of up to {len(cut.SPACE)} axes of space, got "
                f"data={self.data}, space={self.space}. Leave out what is not cut."
            )

    @classmethod
    def parse(cls, text: str) -> "Layout":
        """A layout from the words of the command line, such as `data=8,space=4x2,state=cut`.

        Raises:
            ValueError: If a word is not known.
        """
        found: dict[str, Any] = {}
        for word in text.split(","):
            name, _, value = word.partition("=")
            if name == "data" and value.isdecimal():
                found["data"] = int(value)
            elif name == "space" and re.fullmatch(r"\d+(x\d+)*", value):
                found["space"] = tuple(map(int, value.split("x")))
            elif name == "state" and value in ("whole", "cut"):
                found["state"] = Cut() if value == "cut" else Whole()
            else:
                raise ValueError(
                    f"Expected words like data=8, space=4x2 or state=cut with commas between, got {word!r}."
                )
        return cls(**found)

    def words(self) -> str:
        """The layout in the words of `parse`; empty for the default."""
        return _words(self.data, self.space, cut=isinstance(self.state, Cut))

    def on(self, batch: int, grid: tuple[int, ...] = (), devices: Sequence[Any] | None = None) -> "Placement":
        """The layout of a batch on devices. Without `data`, a batch of 50 uses 2 of 4 devices.

        Args:
            batch: Number of samples in a batch.
            grid: Shape of the fields' grid; needed where space is cut.
            devices: Devices to choose from, by default those of all processes.

        Raises:
            ValueError: If the batch or an axis cannot be cut into equal parts, or there are too few devices.
        """
        devices = all_devices() if devices is None else devices
        _check_axes(self.space, grid)
        each = math.prod(self.space)
        if each > len(devices):
            raise ValueError(
                f"Expected at least {each} devices for the parts {self.space} of the axes of space, got "
                f"{len(devices)}. Cut into fewer parts, or start with more devices."
            )
        most = len(devices) // each
        data = self.data or next(n for n in range(min(batch, most), 0, -1) if batch % n == 0)
        if data > most or batch % data:
            fitting = [n for n in range(1, most + 1) if batch % n == 0]
            raise ValueError(
                f"Expected a number of parts that divides the batch of {batch} samples, at most {most} on "
                f"{len(devices)} devices, got data={data}. These fit: {', '.join(map(str, fitting))}."
            )
        sizes = {cut.BATCH: data} | dict(zip(cut.SPACE, self.space, strict=False))
        chosen = np.asarray(devices[: data * each], object).reshape(tuple(sizes.values()))
        mesh = Mesh(chosen, tuple(sizes), axis_types=(AxisType.Auto,) * len(sizes))
        return Placement(mesh, grid if self.space else (), self.state.smallest if isinstance(self.state, Cut) else None)


def _words(data: int | None, space: tuple[int, ...], *, cut: bool) -> str:
    given = (f"data={data}", data), (f"space={'x'.join(map(str, space))}", space), ("state=cut", cut)
    return ",".join(word for word, there in given if there)


def _check_axes(space: tuple[int, ...], grid: tuple[int, ...]) -> None:
    if len(space) > len(grid):
        raise ValueError(f"Expected parts of at most {len(grid)} axes of space, as many as the grid has, got {space}.")
    for axis, (parts, n) in enumerate(zip(space, grid, strict=False)):
        if n % parts:
            fitting = [k for k in range(1, min(n, 1024) + 1) if n % k == 0]
            raise ValueError(
                f"Expected equal parts of each axis, got {parts} parts of the {n} points of axis {axis}. "
                f"These fit: {', '.join(map(str, fitting))}."
            )


@dataclasses.dataclass(frozen=True)
class Placement:
    """Devices, and which part of a batch, of a field and of the state each of them has: a `Layout` of given sizes.

    Attributes:
        mesh: The devices along the axes `cut.BATCH` and those of `cut.SPACE` that are cut.
        grid: Shape of the grid of fields that are cut; empty for whole ones.
        smallest: Bytes of the smallest array of the state that is cut over `cut.BATCH`; None for a state that is whole.
        automatic: Whether XLA decides what each device computes, see `Automatic`.
    """

    mesh: Mesh
    grid: tuple[int, ...] = ()
    smallest: int | None = None
    automatic: bool = False

    def words(self) -> str:
        """The layout in the words of `Layout.parse`."""
        space = tuple(self.mesh.shape[name] for name in cut.SPACE if name in self.mesh.shape)
        return _words(self.mesh.shape[cut.BATCH], space, cut=self.smallest is not None)

    @property
    def cuts_space(self) -> bool:
        """Whether fields are cut."""
        return any(self.mesh.shape.get(name, 1) > 1 for name in cut.SPACE)

    def of_fields(self, tree: PyTree, *leading: str | None) -> PyTree:
        """How arrays are cut: their first axes along axes of the mesh, their last ones where they are those of space.

        Args:
            tree: Arrays. The last axes of those that end with the sizes of the grid are the axes of space.
            leading: Axes of the mesh along which the first axes are cut, None for those that are not.
        """
        names = tuple(name if name in self.mesh.axis_names else None for name in cut.SPACE[: len(self.grid)])

        def spec(array: Any) -> PartitionSpec:
            before, shape = leading[: np.ndim(array)], np.shape(array)
            between = len(shape) - len(before) - len(self.grid)
            if not self.grid or between < 0 or shape[-len(self.grid) :] != self.grid:
                return PartitionSpec(*before)
            return PartitionSpec(*before, *(None,) * between, *names)

        return jax.tree.map(spec, tree)

    def of_state(self, tree: PyTree) -> PyTree:
        """How the arrays of a state are cut."""
        devices = self.mesh.shape[cut.BATCH]

        def spec(array: Any) -> PartitionSpec:
            shape = np.shape(array)
            divided = [axis for axis, n in enumerate(shape) if n and n % devices == 0]
            if self.smallest is None or devices == 1 or not divided or array.nbytes < self.smallest:
                return PartitionSpec()
            longest = max(divided, key=lambda axis: shape[axis])
            return PartitionSpec(*(cut.BATCH if axis == longest else None for axis in range(len(shape))))

        return jax.tree.map(spec, tree)

    def put(self, tree: PyTree, specs: PyTree) -> PyTree:
        """The arrays of a tree on the devices, cut as `specs` says. Each process gives arrays that are whole."""

        def one(array: Any, spec: PartitionSpec) -> Any:
            sharding = NamedSharding(self.mesh, spec)
            return spread(array, sharding) if self.mesh.is_multi_process else jax.device_put(array, sharding)

        return jax.tree.map(one, tree, specs)

    def held(self, tree: PyTree, specs: PyTree) -> PyTree:
        """The arrays of a tree inside of a compiled function, cut as `specs` says: what XLA has to keep to."""
        hold = lambda array, spec: jax.lax.with_sharding_constraint(array, NamedSharding(self.mesh, spec))
        return jax.tree.map(hold, tree, specs)

    def own_rows(self, rows: np.ndarray) -> np.ndarray:
        """The rows of a batch of which devices of this process have a part."""
        return rows.reshape(len(self._by_part), -1)[self._own_parts].ravel()

    @property
    def own_space(self) -> tuple[slice, ...]:
        """The smallest box of the grid that holds the parts of all devices of this process."""
        owners = np.array([one.process_index for one in self.mesh.devices.flat]).reshape(self.mesh.devices.shape)
        mine, box = np.argwhere(owners == jax.process_index()), []
        for n, name in zip(self.grid, cut.SPACE, strict=False):
            parts = mine[:, self.mesh.axis_names.index(name)].tolist() if name in self.mesh.axis_names else []
            size = n // self.mesh.shape.get(name, 1)
            box.append(slice(min(parts, default=0) * size, (max(parts, default=0) + 1) * size))
        return tuple(box)

    def united(self, tree: PyTree, whole: PyTree | None = None) -> PyTree:
        """Arrays `(batches, rows, ...)` on the devices of all processes, each of which gives its `own_rows`.

        Args:
            tree: Arrays of this process.
            whole: Arrays `(any, ...)` of the sizes of whole samples, if the process gives of fields the points
                `own_space` alone.
        """
        own, parts = self._own_parts, len(self._by_part)
        whole = jax.tree.map(lambda array: array[0], tree) if whole is None else whole
        full = jax.tree.map(
            lambda array, one: _shaped(array, (len(array), array.shape[1] // len(own) * parts), one), tree, whole
        )

        def one(array: np.ndarray, full: jax.ShapeDtypeStruct, spec: PartitionSpec) -> jax.Array:
            each = array.shape[1] // len(own)

            def of_device(index: Any) -> np.ndarray:
                at = own.index((index[1].start or 0) // each) * each
                return array[(index[0], slice(at, at + each), *self._in_box(index, array.shape, full.shape)[2:])]

            return jax.make_array_from_callback(full.shape, NamedSharding(self.mesh, spec), of_device)

        return jax.tree.map(one, tree, full, self.of_fields(full, None, cut.BATCH))

    def in_boxes(self, tree: PyTree, whole: PyTree) -> PyTree:
        """Arrays `(rows, ...)` on the devices of all processes, each of which gives all rows, as in `united`."""
        full = jax.tree.map(lambda array, one: _shaped(array, (len(array),), one), tree, whole)

        def one(array: np.ndarray, full: jax.ShapeDtypeStruct, spec: PartitionSpec) -> jax.Array:
            of_device = lambda index: array[self._in_box(index, array.shape, full.shape)]
            return jax.make_array_from_callback(full.shape, NamedSharding(self.mesh, spec), of_device)

        return jax.tree.map(one, tree, full, self.of_fields(full))

    def _in_box(self, index: Any, own: tuple[int, ...], full: tuple[int, ...]) -> tuple[slice, ...]:
        """The slices of a whole array as those of one that holds the points `own_space` alone."""
        starts = [0] * len(full) + [one.start for one in self.own_space]
        return tuple(
            one if n == size else slice(one.start - start, one.stop - start)
            for one, n, size, start in zip(index, own, full, starts[-len(full) :], strict=True)
        )

    @property
    def _by_part(self) -> np.ndarray:
        """The devices of each part of a batch."""
        along = self.mesh.axis_names.index(cut.BATCH)
        return np.moveaxis(self.mesh.devices, along, 0).reshape(self.mesh.shape[cut.BATCH], -1)

    @property
    def _own_parts(self) -> list[int]:
        """Numbers of the parts of a batch that devices of this process have."""
        here = jax.process_index()
        return [i for i, part in enumerate(self._by_part) if any(one.process_index == here for one in part)]


def _shaped(array: np.ndarray, leading: tuple[int, ...], samples: np.ndarray) -> jax.ShapeDtypeStruct:
    """An array with other first axes, and the sizes of whole samples."""
    return jax.ShapeDtypeStruct((*leading, *samples.shape[1:]), array.dtype)
