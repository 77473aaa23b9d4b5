"""Trajectories: windows of consecutive frames as pairs, and the trajectories that a generator wrote as pairs."""

import dataclasses
from typing import Any

import numpy as np

from sciml.data._dataset import Pairs
from sciml.data._layout import Space
from sciml.data._trajectories import Trajectories


@dataclasses.dataclass(frozen=True, eq=False)
class Windows:
    """Every run of consecutive frames of trajectories, as a pair of the frames seen and the frames to predict.

    `data[rows]` is the tuple `(x, y)` with `x` of shape `(rows, history * channels, *space)` and `y` of shape
    `(rows, horizon * channels, *space)`, the channels of the earliest frame first. Sample `i` begins at frame
    `i % windows` of trajectory `i // windows`. Windows of one trajectory overlap, so that `split` cuts between
    trajectories and counts those.

    Args:
        trajectories: Floating-point array `(samples, time, channels, *space)`; no copy is made. Or
            `Trajectories`, whose frames are read into memory.
        history: Number of frames seen.
        horizon: Number of frames to predict, which follow those seen.
        stop: Number of frames of each trajectory that are used, from the first; all by default.

    Raises:
        ValueError: If the array has the wrong rank or type or values that are not finite; if a number is not positive;
            if the trajectories are too short for one window.
    """

    trajectories: Any
    _: dataclasses.KW_ONLY
    history: int = 1
    horizon: int = 1
    stop: int | None = None

    def __post_init__(self) -> None:
        given: Any = self.trajectories
        array = given[:]["frames"] if isinstance(given, Trajectories) else np.asarray(given)
        object.__setattr__(self, "trajectories", array)
        if array.dtype.kind != "f" or array.ndim < 4 or array.size == 0:
            raise ValueError(
                "Expected floating-point trajectories (samples, time, channels, *space), "
                f"got {array.dtype} of shape {array.shape}. Add a missing channel axis with trajectories[:, :, None]."
            )
        if min(self.history, self.horizon) < 1:
            raise ValueError(f"A window needs history >= 1 and horizon >= 1, got {self.history} and {self.horizon}.")
        if self.stop is not None and not 1 <= self.stop <= array.shape[1]:
            raise ValueError(f"Expected stop from 1 to the {array.shape[1]} frames that there are, got {self.stop}.")
        if self._windows < 1:
            raise ValueError(
                f"History {self.history} and horizon {self.horizon} need {self.history + self.horizon} frames, "
                f"got {array.shape[1]} frames and stop {self.stop}. Use shorter windows or longer trajectories."
            )
        finite = np.array([np.isfinite(one).all() for one in array])
        if not finite.all():
            raise ValueError(
                f"{np.count_nonzero(~finite)} of {len(array)} trajectories have NaN or infinite values, the first is "
                f"{np.argmin(finite)}. Remove them."
            )

    def take(self, rows: Any) -> "Windows":
        """The windows of the trajectories at an index array or slice."""
        return dataclasses.replace(self, trajectories=self.trajectories[rows])

    @property
    def _windows(self) -> int:
        frames = self.trajectories.shape[1] if self.stop is None else self.stop
        return frames - self.history - self.horizon + 1

    def __len__(self) -> int:
        """Number of windows of all trajectories."""
        return len(self.trajectories) * self._windows

    def __getitem__(self, rows: Any) -> tuple[np.ndarray, np.ndarray]:
        """Inputs and outputs at an index array or slice."""
        return self.part(rows, ())

    def part(self, rows: Any, space: Space) -> tuple[np.ndarray, np.ndarray]:
        """As `data[rows]`, with the points of a box alone: one slice for each axis of space."""
        sample, start = np.divmod(np.arange(len(self))[rows], self._windows)
        seen = self._frames(sample, start, self.history, space)
        return seen, self._frames(sample, start + self.history, self.horizon, space)

    def _frames(
        self, sample: np.ndarray | np.integer, start: np.ndarray | np.integer, count: int, space: Space
    ) -> np.ndarray:
        """`count` frames from each start, one after another along the channel axis."""
        times = np.expand_dims(start, -1) + np.arange(count)
        found = self.trajectories[(np.expand_dims(sample, -1), times, slice(None), *space)]
        return found.reshape(*sample.shape, count * self.trajectories.shape[2], *found.shape[sample.ndim + 2 :])


def joined_frames(pairs: Pairs) -> np.ndarray:
    """The trajectories `(samples, time, channels, *space)` of pairs of a first frame and all later frames as channels.

    This is how the generators of `sciml.pdes` for equations in time store them.

    Raises:
        ValueError: If the channels of `y` are no whole number of frames with the channels of `x`.
    """
    channels, later = pairs.x.shape[1], pairs.y.shape[1]
    if later % channels:
        raise ValueError(
            f"Expected y to hold whole frames of {channels} channels as x does, got {later} channels. "
            "Only pairs of a first frame and later frames are trajectories."
        )
    joined = np.concatenate((pairs.x, pairs.y), axis=1)
    return joined.reshape(len(pairs), -1, channels, *pairs.x.shape[2:])
