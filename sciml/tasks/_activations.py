"""What a step of training keeps of the values inside of an operator, and in which data type."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from sciml.experiment import check_settings, chosen
from sciml.grid import Grid
from sciml.operators import InPrecision, rematerialised
from sciml.zoo import Architecture

PRECISIONS: dict[str, Any] = {"float32": None, "bfloat16": jnp.bfloat16}
"""Name of a data type of activations -> the data type; None for that of the fields."""


@dataclasses.dataclass(frozen=True)
class Activations:
    """Options of the values inside of an operator, a field of a Config: `activations: Activations = Activations()`.

    The command line has them as `--rematerialise` and `--precision`. Both save memory; parameters, gradients, the state
    of the optimiser and the statistics of the data stay in float32.

    Raises:
        ValueError: If there is no such precision.
    """

    rematerialise: bool = False
    """Whether the backward pass computes the values inside of each layer again, in place of keeping them
    (`operators.rematerialised`)."""
    precision: str = "float32"
    """Data type of the activations, float32 or bfloat16 (`operators.InPrecision`)."""

    def __post_init__(self) -> None:
        check_settings(self)
        chosen("a precision", self.precision, PRECISIONS)

    def of(self, architecture: Architecture) -> Architecture:
        """The architecture whose operators have such activations; itself for the defaults.

        Its operators raise ValueError when they are made, if they have no layers to rematerialise.
        """
        return (
            architecture if self == Activations() else dataclasses.replace(architecture, make=_Made(self, architecture))
        )


@dataclasses.dataclass(frozen=True)
class _Made:
    activations: Activations
    architecture: Architecture

    def __call__(self, in_channels: int, out_channels: int, *, grid: Grid, key: PRNGKeyArray) -> Callable[..., Array]:
        model = self.architecture.make(in_channels, out_channels, grid=grid, key=key)
        if self.activations.rematerialise:
            model = rematerialised(model)
        dtype = PRECISIONS[self.activations.precision]
        return model if dtype is None else InPrecision(model, dtype)
