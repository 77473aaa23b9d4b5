"""Data sets: pairs in memory, files, generated samples, and the order of batches.

| verb | what it does |
|---|---|
| `open_data` | data of any known format, read when they are asked for |
| `describe_data` | what they hold, in words |
| `read`, `read_npz`, `read_arrays` | from a file into memory |
| `draw` | samples of a solver into memory |
| `generate` | into a file |
| `cached` | reads a file, generated if it is not there |
| `split`, `subsample` | some of the samples, some of the points |
"""

from sciml.data._arrays import read_arrays as read_arrays
from sciml.data._arrays import read_npz as read_npz
from sciml.data._batches import Ordered as Ordered
from sciml.data._batches import batch_rows as batch_rows
from sciml.data._batches import in_order as in_order
from sciml.data._batches import rows as rows
from sciml.data._convert import convert as convert
from sciml.data._dataset import Arrays as Arrays
from sciml.data._dataset import Dataset as Dataset
from sciml.data._dataset import Pairs as Pairs
from sciml.data._describe import describe_data as describe_data
from sciml.data._digits import digits as digits
from sciml.data._fingerprint import fingerprint as fingerprint
from sciml.data._generated import GENERATORS as GENERATORS
from sciml.data._generated import Parametrised as Parametrised
from sciml.data._generated import Problem as Problem
from sciml.data._generated import cached as cached
from sciml.data._generated import draw as draw
from sciml.data._generated import generate as generate
from sciml.data._hdf5 import read as read
from sciml.data._layout import AbstractReader as AbstractReader
from sciml.data._layout import Channel as Channel
from sciml.data._layout import Layout as Layout
from sciml.data._layout import uniform as uniform
from sciml.data._moments import Moments as Moments
from sciml.data._moments import Statistics as Statistics
from sciml.data._moments import from_stats_yaml as from_stats_yaml
from sciml.data._moments import moments as moments
from sciml.data._open import open_data as open_data
from sciml.data._parts import split as split
from sciml.data._parts import subsample as subsample
from sciml.data._readers._formats import Hints as Hints
from sciml.data._readers._xarray import from_xarray as from_xarray
from sciml.data._stream import Streamed as Streamed
from sciml.data._stream import ahead as ahead
from sciml.data._stream import in_pieces as in_pieces
from sciml.data._trajectories import InMemory as InMemory
from sciml.data._trajectories import Trajectories as Trajectories
from sciml.data._trajectories import TrajectoryWindows as TrajectoryWindows
from sciml.data._windows import Windows as Windows
from sciml.data._windows import joined_frames as joined_frames
