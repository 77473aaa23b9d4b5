"""A trained run of experiments/prose_ode.py on one's own trajectory: its forecast and its equations."""

from sciml.predict._files import predict as predict
from sciml.predict._files import read_trajectory as read_trajectory
from sciml.predict._files import rounded as rounded
from sciml.predict._forecast import Forecast as Forecast
from sciml.predict._forecast import forecast as forecast
