"""How files are written and read: complete or not there at all, with digests, without following links or running code.

| verb | what it does |
|---|---|
| `write_bytes`, `write_json` | a file that appears complete or not at all |
| `new_folder` | a folder that appears complete or not at all |
| `remove_leftovers` | removes what killed processes have left of such files |
| `read_json` | checks the digest and the types of a JSON file |
| `write_hdf5` | an HDF5 file that appears complete or not at all, with its digest in front |
| `check_digest`, `open_hdf5` | compares the digest; opens an HDF5 file that leads nowhere else and lacks nothing |
| `hdf5_array`, `hdf5_attribute`, `hdf5_json` | one part of an HDF5 file, its type checked |
| `read_torch`, `torch_archive` | a file of `torch.save` as arrays, numbers and texts; none of its code is run |
| `read_safetensors`, `write_safetensors` | arrays by name and a card, with a digest |
| `write_manifest`, `check_manifest` | SHA-256 digests of all files of a folder |
| `check_tree` | refuses links and devices inside of a folder |
| `locked` | one process at a time in a folder |
"""

from sciml.files._hdf5 import check_digest as check_digest
from sciml.files._hdf5 import hdf5_array as hdf5_array
from sciml.files._hdf5 import hdf5_attribute as hdf5_attribute
from sciml.files._hdf5 import hdf5_json as hdf5_json
from sciml.files._hdf5 import open_hdf5 as open_hdf5
from sciml.files._hdf5 import write_hdf5 as write_hdf5
from sciml.files._json import as_kind as as_kind
from sciml.files._json import decode_json as decode_json
from sciml.files._json import read_json as read_json
from sciml.files._json import sealed as sealed
from sciml.files._json import unsealed as unsealed
from sciml.files._json import write_json as write_json
from sciml.files._lock import locked as locked
from sciml.files._manifest import MANIFEST as MANIFEST
from sciml.files._manifest import check_manifest as check_manifest
from sciml.files._manifest import digest_of as digest_of
from sciml.files._manifest import write_manifest as write_manifest
from sciml.files._plain import Damaged as Damaged
from sciml.files._plain import check_tree as check_tree
from sciml.files._plain import new_folder as new_folder
from sciml.files._plain import remove_leftovers as remove_leftovers
from sciml.files._plain import write_bytes as write_bytes
from sciml.files._safetensors import read_safetensors as read_safetensors
from sciml.files._safetensors import write_safetensors as write_safetensors
from sciml.files._torch import read_torch as read_torch
from sciml.files._torch import torch_archive as torch_archive
