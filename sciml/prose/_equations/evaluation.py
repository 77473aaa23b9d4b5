"""Evaluation of one sample: forecast, forecast errors, written equations. Evaluations map these over many samples."""

from collections.abc import Callable
from typing import final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from sciml.prose._equations.decoding import beam
from sciml.prose._equations.grammar import AbstractConstraint, Grammar, Unconstrained
from sciml.prose._equations.metrics import window_errors
from sciml.prose._equations.numbers import likeliest_numbers
from sciml.prose._model.field_forecast import FieldForecast
from sciml.prose._model.losses import applied
from sciml.prose._model.model import Prose
from sciml.prose._samples.dataset import Sample
from sciml.symbolic import DERIVATIVES, Vocabulary

Constraining = Callable[[Vocabulary, Int[Array, ""]], AbstractConstraint]
"""`(vocabulary, number of components) -> constraint` of the tokens that may be written."""


def unconstrained(vocabulary: Vocabulary, dimension: Int[Array, ""]) -> Unconstrained:
    """Allows any token, as in the published evaluation."""
    return Unconstrained(vocabulary.bos, vocabulary.eos)


def system_grammar(vocabulary: Vocabulary, dimension: Int[Array, ""]) -> Grammar:
    """Allows only systems of `dimension` components in the state variables."""
    return Grammar(vocabulary, dimension)


def residual_grammar(vocabulary: Vocabulary, dimension: Int[Array, ""]) -> Grammar:
    """Allows only systems of `dimension` expressions of a field, its derivatives, t and x."""
    return Grammar(vocabulary, dimension, others=("t", "x", *DERIVATIVES))


@final
class SampleErrors(eqx.Module):
    """Errors of the forecast of one sample.

    Attributes:
        model: The model.
        history: Number of times that the model sees; it predicts the others.
    """

    model: Prose
    history: int = eqx.field(static=True)

    def __call__(self, pair: tuple[Sample, Float[Array, "times states"]]) -> dict[str, Array]:
        """The errors of the forecast from a noisy sample; the pair is (noisy sample, its clean states).

        Returns:
            `relative_l2`, `first_half` and `second_half` are the errors from `window_errors` over all predicted times
            and over their halves:

            - without prefix: prediction against the noisy states,
            - with `clean_`: prediction against the clean states,
            - with `floor_`: clean states against the noisy states, the error of an exact prediction.

            `wrong` is the number of equation tokens that differ from the likeliest token given the true prefix (teacher
            forcing), `tokens` the number of equation tokens. Both are 0 for a model that writes no equation.
        """
        sample, clean = pair
        prediction, logits = applied(self.model, sample, self.history)
        noisy, clean = sample.states[self.history :], clean[self.history :]
        found = _wrong_tokens(sample, logits)
        for name, states, truth in (("", prediction, noisy), ("clean_", prediction, clean), ("floor_", clean, noisy)):
            errors = window_errors(states, truth, sample.components)
            halves = {"relative_l2": errors.whole, "first_half": errors.first, "second_half": errors.second}
            found |= {f"{name}{half}": error for half, error in halves.items()}
        return found


@final
class SampleForecast(eqx.Module):
    """The forecast of one sample.

    Attributes:
        model: A `Prose` or a `FieldForecast`.
        history: Number of times that the model sees; it predicts the others.
    """

    model: Prose | FieldForecast
    history: int = eqx.field(static=True)

    def __call__(self, sample: Sample) -> dict[str, Array]:
        """The predicted `states`, and `wrong` and `tokens` as in `SampleErrors`."""
        states, logits = applied(self.model, sample, self.history)
        return {"states": states} | _wrong_tokens(sample, logits)


def _wrong_tokens(sample: Sample, logits: Array | None) -> dict[str, Array]:
    if logits is None:
        return {"wrong": jnp.zeros((), int), "tokens": jnp.zeros((), int)}
    mask = sample.equation_mask[1:]
    wrong = (jnp.argmax(logits, axis=1) != sample.equation[1:]) & mask
    return {"wrong": jnp.sum(wrong), "tokens": jnp.sum(mask)}


@final
class SampleEquations(eqx.Module):
    """The likeliest equations of one sample by beam search. The true equation is not used.

    Attributes:
        model: A model that writes equations.
        history: Number of times that the model sees.
        vocabulary: The vocabulary of the tokens.
        constraint: The allowed equations: `unconstrained`, `system_grammar` or `residual_grammar`.
        max_tokens: Largest number of tokens, EOS included.
        width: Number of equations, the beam width; 1 is greedy decoding.
        numbers: As in `beam`.
    """

    model: Prose
    history: int = eqx.field(static=True)
    vocabulary: Vocabulary = eqx.field(static=True)
    constraint: Constraining = eqx.field(static=True)
    max_tokens: int = eqx.field(static=True)
    width: int = eqx.field(static=True, default=1)
    numbers: Callable[[Array], Array] = likeliest_numbers

    def __call__(self, sample: Sample) -> Int[Array, "width length"]:
        """The token ids, the likeliest equation first; `equations` parses them."""
        tokens, mask = sample.tokens, sample.tokens_mask
        if self.model.symbol_encoder is None:
            tokens = mask = None
        times, states = sample.times[: self.history], sample.states[: self.history]
        memory = self.model.encode(times, states, tokens, tokens_mask=mask)
        constraint = self.constraint(self.vocabulary, jnp.sum(sample.components))
        settings = {"width": self.width, "max_tokens": self.max_tokens, "numbers": self.numbers}
        return beam(self.model, memory, constraint, **settings).tokens
