"""Solutions of drawn systems, in memory or mapped from files."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from sciml.systems._integrate import increasing


@dataclasses.dataclass(frozen=True, eq=False)
class Trajectories:
    """Solutions of some systems of equations, several of each.

    Attributes:
        times: When the states are, increasing.
        states: Floating-point array `(systems, starts, times, states)`, zero beyond the dimension of a system, or of
            fields `(systems, starts, times, channels, *space)`.
        equations: The tokens of each system's equations, joined by blanks: right-hand sides, or what is zero.
        families: What each system is called, for errors by family.
        tried: How many starts of each system were integrated to get as many good ones; of its last attempt.
        attributes: What else is known: generator, settings, seed, versions.

    Raises:
        ValueError: If the times do not increase, if an array has the wrong shape or type, or if a state is not finite.
    """

    times: np.ndarray
    states: np.ndarray
    _: dataclasses.KW_ONLY
    equations: tuple[str, ...]
    families: tuple[str, ...]
    tried: np.ndarray
    attributes: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        increasing(self.times)
        shape, kind = self.states.shape, self.states.dtype
        if len(shape) < 4 or kind.kind != "f" or self.states.size == 0 or shape[2] != len(self.times):
            raise ValueError(
                f"Expected floating-point states (systems, starts, times, states) at {len(self.times)} times, "
                f"got {kind} of shape {shape}. Add the missing axes, for one start of each system with states[:, None]."
            )
        counts = {"equations": len(self.equations), "families": len(self.families), "tried": len(self.tried)}
        if set(counts.values()) != {shape[0]}:
            raise ValueError(f"Expected one entry for each of {shape[0]} systems, got {counts}. Give one for each.")
        for i, states in enumerate(self.states):  # system by system, since the array may be larger than the memory
            if not np.isfinite(states).all():
                start = int(np.argmin(np.isfinite(states).reshape(len(states), -1).all(axis=1)))
                raise ValueError(
                    f"Trajectory {start} of system {i} ({self.families[i]}) has NaN or infinite states. Remove it, or "
                    "generate the set again."
                )

    def __len__(self) -> int:
        """Number of trajectories."""
        return self.states.shape[0] * self.states.shape[1]
