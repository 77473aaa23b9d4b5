"""Weights of the official implementations, in and out: arrays by name, no other framework needed."""

from sciml.interop._mgno import mgno_from_torch as mgno_from_torch
from sciml.interop._mgno import mgno_to_torch as mgno_to_torch
from sciml.interop._prose import prose_from_torch as prose_from_torch
from sciml.interop._prose import prose_to_torch as prose_to_torch
