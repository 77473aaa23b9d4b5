"""Models for other programs: StableHLO for XLA, ONNX for any runtime, a C interface for solvers, PyTorch.

| function | what it writes | what runs it |
|---|---|---|
| `stablehlo` | a program of XLA's operations; batch and resolution may be open | `jax.export`, without this package |
| `onnx` | a graph of ordinary real operations; the batch is open | onnxruntime and other runtimes |
| `c` | the graph, a C interface, a Fortran module, examples | a program in C, C++ or Fortran, with onnxruntime |
| `torch_module` | nothing: it gives a `torch.nn.Module` with gradients | PyTorch with this package |
| `card` | what the model takes, gives, was trained on, and how large its errors are | its reader |

Normalisation is a part of the model, so that all of them take and give fields in the units of the data, in float32.
"""

from sciml.export._c import c as c
from sciml.export._card import Card as Card
from sciml.export._card import card as card
from sciml.export._card import card_of as card_of
from sciml.export._card import shape_of as shape_of
from sciml.export._onnx import onnx as onnx
from sciml.export._stablehlo import stablehlo as stablehlo
from sciml.export._torch import torch_module as torch_module
