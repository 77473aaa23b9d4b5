"""Models for other programs: StableHLO for XLA, ONNX for any runtime, a C interface for solvers, PyTorch.

| function | what it writes | what runs it |
|---|---|---|
| `stablehlo` | a program of XLA's operations, for several platforms, batch and resolution open | `jax.export`, without this package |
| `onnx` | a graph of ordinary real operations, batch open | onnxruntime and other runtimes |
"""

from sciml.export._onnx import onnx as onnx
from sciml.export._stablehlo import stablehlo as stablehlo
