"""Weights of other implementations, in and out: arrays by name, no other framework needed.

| function | what it reads or writes |
|---|---|
| `read_arrays`, `neuraloperator_config` | arrays by name from safetensors, `.npz`, `.pt`; settings of neuraloperator |
| `fno_from_neuraloperator`, `uno_from_neuraloperator` | FNO, TFNO and UNO of neuraloperator 2.0 |
| `mgno_from_torch`, `mgno_to_torch` | the published MgNO |
| `prose_from_torch`, `prose_to_torch` | the published PROSE |
| `write_safetensors`, `read_safetensors` | any model, with a card |
| `Foundation`, `foundation`, `read_equinox` | networks of foundax as operators, their weights |
"""

from sciml.interop._files import neuraloperator_config as neuraloperator_config
from sciml.interop._files import read_arrays as read_arrays
from sciml.interop._files import read_safetensors as read_safetensors
from sciml.interop._files import write_safetensors as write_safetensors
from sciml.interop._foundation import DPOT as DPOT
from sciml.interop._foundation import MPP as MPP
from sciml.interop._foundation import Foundation as Foundation
from sciml.interop._foundation import Poseidon as Poseidon
from sciml.interop._foundation import Walrus as Walrus
from sciml.interop._foundation import foundation as foundation
from sciml.interop._foundation import read_equinox as read_equinox
from sciml.interop._mgno import mgno_from_torch as mgno_from_torch
from sciml.interop._mgno import mgno_to_torch as mgno_to_torch
from sciml.interop._neuraloperator import fno_from_neuraloperator as fno_from_neuraloperator
from sciml.interop._neuraloperator import uno_from_neuraloperator as uno_from_neuraloperator
from sciml.interop._neuraloperator_layers import ChannelScale as ChannelScale
from sciml.interop._neuraloperator_layers import NeuraloperatorBlock as NeuraloperatorBlock
from sciml.interop._neuraloperator_layers import NeuraloperatorFNO as NeuraloperatorFNO
from sciml.interop._neuraloperator_layers import NeuraloperatorUNO as NeuraloperatorUNO
from sciml.interop._neuraloperator_layers import PublishedSpectralConv as PublishedSpectralConv
from sciml.interop._prose import prose_from_torch as prose_from_torch
from sciml.interop._prose import prose_to_torch as prose_to_torch
