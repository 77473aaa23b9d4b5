"""A trained run of experiments/prose_ode.py on one's own trajectory: its forecast and its equations."""

from sciml.tasks._files import predict as predict
from sciml.tasks._files import read_trajectory as read_trajectory
from sciml.tasks._files import rounded as rounded
from sciml.tasks._forecast import Forecast as Forecast
from sciml.tasks._forecast import forecast as forecast
