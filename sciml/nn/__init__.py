"""Layers shared by all models."""

from sciml.nn._frozen import Frozen as Frozen
from sciml.nn._frozen import partition as partition
from sciml.nn._resampling import resample as resample
