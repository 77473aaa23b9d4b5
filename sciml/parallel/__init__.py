"""Several processes that work as one: how they find each other, and what the first of them decides for all.

| verb | what it does |
|---|---|
| `join` | makes this process one of those that a launcher has started |
| `is_first`, `several`, `process_count` | whether this is process 0; whether there are others; how many there are |
| `devices` | those of all processes |
| `broadcast`, `by_first` | the value that process 0 has; what a function returns there |
| `after_first` | what a function returns on each process, called on process 0 before the others |
| `alone` | in the block, this process works by itself, with its own devices |
| `barrier` | waits until all processes are there |
| `asked_to_end`, `ending` | whether a SIGTERM ends all of them at this step; in the block, one by itself too |
| `broadcast_arrays`, `spread` | the arrays of process 0; arrays of each process on the devices of all |
| `own`, `gathered` | of arrays on all devices the copy of this process; the arrays of all processes |
| `Shares`, `on_shares`, `shared_by` | samples of which each device computes a share; a function on shares; devices |
| `drawing_devices` | those that solve equations to draw samples |
| `last_word`, `leave` | ends all processes after an error of this one |
| `Layout`, `Placement` | how a run is laid out over devices, in numbers and on given ones |
| `Whole`, `Cut` | where parameters and optimiser are |
| `Mapped`, `Automatic`, `Alone` | who shares a batch among devices: the layers, XLA, nobody |
| `exchanges`, `sent` | what the devices send one another in a compiled program |

With one process they cost nothing.
"""

from sciml.parallel._arrays import broadcast_arrays as broadcast_arrays
from sciml.parallel._arrays import gathered as gathered
from sciml.parallel._arrays import own as own
from sciml.parallel._arrays import spread as spread
from sciml.parallel._launch import Launch as Launch
from sciml.parallel._launch import launch as launch
from sciml.parallel._layout import Alone as Alone
from sciml.parallel._layout import Automatic as Automatic
from sciml.parallel._layout import Cut as Cut
from sciml.parallel._layout import Layout as Layout
from sciml.parallel._layout import Mapped as Mapped
from sciml.parallel._layout import Placement as Placement
from sciml.parallel._layout import Whole as Whole
from sciml.parallel._processes import after_first as after_first
from sciml.parallel._processes import alone as alone
from sciml.parallel._processes import asked_to_end as asked_to_end
from sciml.parallel._processes import barrier as barrier
from sciml.parallel._processes import broadcast as broadcast
from sciml.parallel._processes import by_first as by_first
from sciml.parallel._processes import devices as devices
from sciml.parallel._processes import ending as ending
from sciml.parallel._processes import is_first as is_first
from sciml.parallel._processes import join as join
from sciml.parallel._processes import last_word as last_word
from sciml.parallel._processes import leave as leave
from sciml.parallel._processes import process_count as process_count
from sciml.parallel._processes import several as several
from sciml.parallel._shares import Shares as Shares
from sciml.parallel._shares import drawing_devices as drawing_devices
from sciml.parallel._shares import on_shares as on_shares
from sciml.parallel._shares import shared_by as shared_by
from sciml.parallel._traffic import Exchange as Exchange
from sciml.parallel._traffic import exchanges as exchanges
from sciml.parallel._traffic import sent as sent
