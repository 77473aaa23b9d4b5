"""Layers shared by all models."""

from sciml.nn._activations import gelu as gelu
from sciml.nn._conv import Conv as Conv
from sciml.nn._conv import Prolongation as Prolongation
from sciml.nn._frozen import Frozen as Frozen
from sciml.nn._frozen import partition as partition
from sciml.nn._layout import fold_vmap as fold_vmap
from sciml.nn._matmul import matmul as matmul
from sciml.nn._multigrid import VCycle as VCycle
from sciml.nn._resampling import resample as resample
from sciml.nn._spectral import SpectralConv as SpectralConv
