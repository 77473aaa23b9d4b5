"""Weights of the official implementations, in and out: arrays by name, no other framework needed."""

from sciml.interop._mgno import mgno_from_torch as mgno_from_torch
from sciml.interop._mgno import mgno_to_torch as mgno_to_torch
