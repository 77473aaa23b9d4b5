"""Windows of the trajectories of flows as samples of a data set."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sciml.prose._samples.dataset import EquationIds, Guess, Sample
from sciml.symbolic import Vocabulary
from sciml.systems import FLUID_FAMILIES, Trajectories


class FluidData:
    """A data set of windows of consecutive frames, as `Sample`s: a pure function of the row.

    Each trajectory appears once for each of the frames at which a window may begin, so that a pass through the data
    has every starting time once, in the random order of the rows; the published sampler draws one in each step.

    Args:
        parts: From `draw_trajectories` or `read_trajectories` with a `FluidMixture`.
        vocabulary: Of the tokens.
        window: Number of frames of a sample, given and predicted ones.
        guess: What the model is told of the equations, `known_equations` or `skeleton_equations`.
        weights: How many times the windows of a family appear, by name; once by default.
        begins: The window may begin at the first so many frames; by default at all that leave enough frames.

    Attributes:
        families: The names of the families; `Sample.family` and `Sample.system` are numbers of them.

    Raises:
        ValueError: If the trajectories are too short for a window, or if a weight is not positive.
    """

    def __init__(
        self,
        parts: Sequence[Trajectories],
        vocabulary: Vocabulary,
        *,
        window: int,
        guess: Guess,
        weights: Mapping[str, int] | None = None,
        begins: int | None = None,
    ):
        frames = parts[0].states.shape[2]
        count = frames - window + 1 if begins is None else begins
        if not 1 <= count <= frames - window + 1:
            raise ValueError(
                f"Expected trajectories of at least {window + max(count, 1) - 1} frames for windows of {window} that "
                f"begin at {max(count, 1)} of them, got {frames}. Use shorter windows or longer trajectories."
            )
        self._states = tuple(part.states[:, 0] for part in parts)
        self._ends = np.cumsum([len(states) for states in self._states])
        self._window = window
        names = [name for part in parts for name in part.families]
        self.families = tuple(dict.fromkeys(names))
        counts = [(weights or {}).get(name, 1) for name in names]
        if min(counts) < 1:
            raise ValueError(f"Expected weights of at least 1, got {dict(weights or {})}. Leave families out instead.")
        self._rows = np.repeat(np.arange(len(names) * count, dtype=np.int32), np.repeat(counts, count))
        self._begins = count
        self._family = np.array([self.families.index(name) for name in names], np.int32)
        present = np.array([len(FLUID_FAMILIES[name].channels) for name in names])
        self._components = np.arange(parts[0].states.shape[3]).reshape(1, -1) < present.reshape(-1, 1)
        texts = [text.split() for part in parts for text in part.equations]
        self._ids = EquationIds(texts, vocabulary, guess)

    def __len__(self) -> int:
        """Number of windows, as many times as they appear."""
        return len(self._rows)

    def __getitem__(self, rows: Any) -> Sample:
        """The samples at an index array or slice, with a leading axis."""
        rows = self._rows[rows]
        flow, begin = np.divmod(rows, self._begins)
        return Sample(
            times=np.broadcast_to(np.arange(self._window, dtype=np.float32), (*rows.shape, self._window)),
            states=self._windows(flow, begin),
            components=self._components[flow],
            **self._ids.of(flow),
            system=self._family[flow],
            family=self._family[flow],
            index=rows,
        )

    def _windows(self, flow: np.ndarray, begin: np.ndarray) -> np.ndarray:
        """Windows, each read from its own part."""
        found = np.empty((*flow.shape, self._window, *self._states[0].shape[2:]), np.float32)
        parts = np.searchsorted(self._ends, flow, side="right")
        for place in np.ndindex(flow.shape):
            states = self._states[parts[place]]
            row = flow[place] - (self._ends[parts[place]] - len(states))
            found[place] = states[row, begin[place] : begin[place] + self._window]
        return found
