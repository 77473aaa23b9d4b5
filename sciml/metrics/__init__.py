"""Errors of fields, of trajectories and of rollouts.

Fields are `(channels, *space)`, one sample; trajectories are `(samples, time, channels, *space)`.

| errors of one sample | |
|---|---|
| `relative_l2`, `relative_h1`, `relative_h1_spectral`, `absolute_h1`, `rmse` | one number, all channels in one norm |
| `nrmse`, `vrmse`, `nmae`, `max_error`, `boundary_rmse` | a number for each channel |
| `gradient_nrmse`, `h1_nrmse`, `band_nrmse`, `binned_spectral_mse` | the same in Fourier space |
| `pearson`, `cosine_similarity` | similarities of each channel |
| `per_channel`, `channel_sum` | from one number to a number for each channel, and back |

| errors of trajectories | |
|---|---|
| `step_errors` | any error of one sample, for each sample and step |
| `RolloutErrors` | its means, windows of steps and diverged rollouts, batch by batch |
| `PDEBench`, `PDEBenchAsPublished` | the six errors of PDEBench, batch by batch |
| `mean_nrmse`, `geometric_mean`, `correlation_time` | curves over time and their summaries |
| `persistence`, `mean_predictor`, `channel_means` | predictions that need no model, the baselines of every table |

A relative error against a truth that is zero everywhere is infinite, or NaN if the prediction is zero as well, unless
it has an epsilon. The errors of trajectories know no NaN: it becomes 0 if the prediction is exact, else infinite.
"""

from sciml.metrics._baselines import channel_means as channel_means
from sciml.metrics._baselines import mean_predictor as mean_predictor
from sciml.metrics._baselines import persistence as persistence
from sciml.metrics._channels import Metric as Metric
from sciml.metrics._channels import boundary_rmse as boundary_rmse
from sciml.metrics._channels import channel_sum as channel_sum
from sciml.metrics._channels import cosine_similarity as cosine_similarity
from sciml.metrics._channels import max_error as max_error
from sciml.metrics._channels import nmae as nmae
from sciml.metrics._channels import nrmse as nrmse
from sciml.metrics._channels import pearson as pearson
from sciml.metrics._channels import per_channel as per_channel
from sciml.metrics._channels import vrmse as vrmse
from sciml.metrics._fields import absolute_h1 as absolute_h1
from sciml.metrics._fields import differences as differences
from sciml.metrics._fields import relative_h1 as relative_h1
from sciml.metrics._fields import relative_l2 as relative_l2
from sciml.metrics._fields import rmse as rmse
from sciml.metrics._pdebench import PDEBench as PDEBench
from sciml.metrics._pdebench import PDEBenchAsPublished as PDEBenchAsPublished
from sciml.metrics._pdebench import PDEBenchErrors as PDEBenchErrors
from sciml.metrics._pdebench import PDEBenchSummary as PDEBenchSummary
from sciml.metrics._rollouts import WINDOWS as WINDOWS
from sciml.metrics._rollouts import RolloutErrors as RolloutErrors
from sciml.metrics._rollouts import RolloutSummary as RolloutSummary
from sciml.metrics._rollouts import Window as Window
from sciml.metrics._rollouts import WindowSummary as WindowSummary
from sciml.metrics._rollouts import correlation_time as correlation_time
from sciml.metrics._rollouts import geometric_mean as geometric_mean
from sciml.metrics._rollouts import mean_nrmse as mean_nrmse
from sciml.metrics._spectral import band_nrmse as band_nrmse
from sciml.metrics._spectral import binned_spectral_mse as binned_spectral_mse
from sciml.metrics._spectral import gradient_nrmse as gradient_nrmse
from sciml.metrics._spectral import h1_nrmse as h1_nrmse
from sciml.metrics._spectral import relative_h1_spectral as relative_h1_spectral
from sciml.metrics._steps import step_errors as step_errors
