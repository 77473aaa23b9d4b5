"""Figures from arrays. Each function returns matplotlib figures; `save` writes one whole or not at all.

| function | what it shows |
|---|---|
| `fields`, `all_fields` | input, truth, predictions and errors of fields in one to three dimensions |
| `best_to_worst` | the same for the samples with the lowest, the median and the largest error |
| `predictions`, `profiles` | the same for images, and for fields in one dimension |
| `animation` | a rollout over time, truth beside models, as GIF or MP4 |
| `error_over_time` | median errors with bands between their quartiles, against the step |
| `spectra` | radially binned energy spectra of truth and models |
| `curves` | lines on a logarithmic axis |
| `densities`, `trajectories` | points in the plane, and states over time |
"""

from sciml.plot._animation import animation as animation
from sciml.plot._animation import can_write_mp4 as can_write_mp4
from sciml.plot._fields import all_fields as all_fields
from sciml.plot._fields import best_to_worst as best_to_worst
from sciml.plot._fields import fields as fields
from sciml.plot._fields import predictions as predictions
from sciml.plot._fields import profiles as profiles
from sciml.plot._fields import ranks as ranks
from sciml.plot._lines import curves as curves
from sciml.plot._lines import error_over_time as error_over_time
from sciml.plot._lines import quartiles as quartiles
from sciml.plot._points import densities as densities
from sciml.plot._points import trajectories as trajectories
from sciml.plot._save import save as save
from sciml.plot._save import save_each as save_each
from sciml.plot._spectra import energy_spectrum as energy_spectrum
from sciml.plot._spectra import spectra as spectra
