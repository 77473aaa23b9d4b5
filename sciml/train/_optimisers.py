"""One-cycle schedules, the optimisers of the experiments and that of the published MgNO runs."""

from collections.abc import Callable

import jax.numpy as jnp
import optax
from jaxtyping import Array, ArrayLike

from sciml.train._cycle import scale_by_cycle
from sciml.train._muon import muon


def one_cycle(
    low: float, peak: float, end: float, *, epochs: int, warmup: float, steps_per_epoch: int = 1
) -> optax.Schedule:
    """A value that goes from `low` to `peak` and on to `end` along half cosines, constant within an epoch.

    With E epochs and the fraction w of warm-up, the peak is at epoch w E - 1 and the end at epoch E - 1, counted from
    0, which is PyTorch's `OneCycleLR` with one step per epoch. Later epochs keep the end value.

    Source: Smith, Topin, "Super-convergence", 2019, with cosines in place of lines.

    Raises:
        ValueError: If the peak does not lie after the first and before the last epoch.
    """
    top = warmup * epochs - 1
    if not 0 < top < epochs - 1:
        raise ValueError(
            f"The peak of one cycle lies at epoch warmup * epochs - 1 = {top:g}, which must be after the first epoch, "
            f"0, and before the last, {epochs - 1}. Use a warmup between {1 / epochs:g} and 1."
        )

    def schedule(count: ArrayLike) -> Array:
        epoch = jnp.minimum(jnp.asarray(count) // steps_per_epoch, epochs - 1)
        before = _half_cosine(low, peak, epoch / top)
        after = _half_cosine(peak, end, (epoch - top) / (epochs - 1 - top))
        return jnp.where(epoch <= top, before, after)

    return schedule


def _half_cosine(start: float, stop: float, part: Array) -> Array:
    return stop + (start - stop) * (1 + jnp.cos(jnp.pi * part)) / 2


def one_cycle_adam(
    peak: float,
    *,
    epochs: int,
    steps_per_epoch: int,
    weight_decay: float,
    divide: float = 2.0,
    final_divide: float = 100.0,
    warmup: float = 0.2,
) -> optax.GradientTransformation:
    """Adam of the published MgNO runs: its decay is part of the gradient, its first moment cycles with the rate.

    The learning rate goes peak / divide, peak, peak / (divide final_divide) and beta1 the other way, 0.95, 0.85, 0.95,
    both by `one_cycle`. `weight_decay` times the parameters is added to the gradient *before* the moments (L2
    regularisation, not AdamW), so its strength depends on the scale of the loss: the published losses are sums over
    the batch, see `losses.supervised`.

    Source: the training code published with He, Liu, Xu, "MgNO", ICLR 2024.
    """
    cycle = {"epochs": epochs, "warmup": warmup, "steps_per_epoch": steps_per_epoch}
    rate = one_cycle(peak / divide, peak, peak / divide / final_divide, **cycle)
    beta1 = one_cycle(0.95, 0.85, 0.95, **cycle)
    return optax.chain(optax.add_decayed_weights(weight_decay), optax.inject_hyperparams(optax.adam)(rate, b1=beta1))


def clipped_adamw(peak: float, *, steps: int, weight_decay: float = 1e-4) -> optax.GradientTransformation:
    """AdamW (beta2 0.98) with gradients clipped to the norm 0.1, on one cosine cycle that changes with every step.

    The rate goes from peak / 10 to the peak in a fifth of the steps and down to peak / 1000.
    """
    return optax.chain(
        optax.clip_by_global_norm(0.1),
        optax.scale_by_adam(b2=0.98),
        optax.add_decayed_weights(weight_decay),
        scale_by_cycle(
            peak,
            steps=steps,
            rising=steps // 5,
            up=lambda part: _half_cosine(0.1, 1.0, part),
            down=lambda part: _half_cosine(1.0, 1e-3, part),
        ),
    )


OPTIMISERS: dict[str, Callable[..., optax.GradientTransformation]] = {"muon": muon, "adamw": clipped_adamw}
"""What trains the operators of the experiment files: `(peak, *, steps) -> optimiser`."""
