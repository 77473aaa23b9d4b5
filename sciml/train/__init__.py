"""The engine: it trains any pytree with any loss, and knows no model."""

from sciml.train._average import averaged as averaged
from sciml.train._average import averaged_model as averaged_model
from sciml.train._batches import Batches as Batches
from sciml.train._batches import batches as batches
from sciml.train._batches import resident as resident
from sciml.train._batches import streamed as streamed
from sciml.train._checkpoint import Checkpoints as Checkpoints
from sciml.train._loop import Event as Event
from sciml.train._loop import Every as Every
from sciml.train._loop import Stop as Stop
from sciml.train._loop import every as every
from sciml.train._loop import fit as fit
from sciml.train._sharding import mesh_for as mesh_for
from sciml.train._sharding import predict as predict
from sciml.train._sharding import replicate as replicate
from sciml.train._state import TrainState as TrainState
from sciml.train._state import init as init
from sciml.train._state import make_step as make_step
from sciml.train._state import parameters as parameters
