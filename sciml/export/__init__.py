"""Models for other programs."""

from sciml.export._stablehlo import stablehlo as stablehlo
