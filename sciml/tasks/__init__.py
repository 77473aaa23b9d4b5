"""The ways to make an experiment: operators between fields, and the forecasts of PROSE."""

from sciml.tasks._field_errors import draw_predictions as draw_predictions
from sciml.tasks._field_errors import relative_errors as relative_errors
from sciml.tasks._field_errors import rollout_errors as rollout_errors
from sciml.tasks._fields import Generated as Generated
from sciml.tasks._fields import Parts as Parts
from sciml.tasks._fields import channel_statistics as channel_statistics
from sciml.tasks._fields import fields as fields
from sciml.tasks._fields import mean_of_l2_and_h1 as mean_of_l2_and_h1
from sciml.tasks._fields import one_cycle as one_cycle
from sciml.tasks._files import predict as predict
from sciml.tasks._files import read_trajectory as read_trajectory
from sciml.tasks._files import rounded as rounded
from sciml.tasks._forecast import Forecast as Forecast
from sciml.tasks._forecast import forecast as forecast
