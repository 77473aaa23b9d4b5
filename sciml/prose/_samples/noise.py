"""Noise of trajectories and of guessed equations, added in the loss or, with fixed keys, in an evaluation."""

import dataclasses
from collections.abc import Callable, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from sciml.losses import Keys, Loss
from sciml.prose._samples.dataset import Sample, padded, tokens_of
from sciml.symbolic import Sum, System, Vocabulary, candidate_terms, delete_term, insert_term, whole_components
from sciml.systems import FAMILIES


@dataclasses.dataclass(frozen=True)
class Additive:
    """`u + level ||u|| n / (||n|| + 1e-6)` with normal numbers n: one amplitude for all times and components.

    The norms are over the whole trajectory, inputs and targets, so that the noise has `level` of its norm; the form of
    PROSE-ODE's data. Against noisy targets the true solution itself then errs by 2 %.
    """

    level: float = 0.02

    def __call__(
        self, states: Float[Array, "times states *space"], components: Bool[Array, " states"], *, key: Key[Array, ""]
    ) -> Float[Array, "times states *space"]:
        """The noisy states; components that the system does not have stay zero."""
        noise = _normal(states, components, key)
        return states + self.level * jnp.linalg.norm(states) / (jnp.linalg.norm(noise) + 1e-6) * noise


@dataclasses.dataclass(frozen=True)
class Multiplicative:
    """`u + level |u| n` with normal numbers n."""

    level: float = 0.02

    def __call__(
        self, states: Float[Array, "times states *space"], components: Bool[Array, " states"], *, key: Key[Array, ""]
    ) -> Float[Array, "times states *space"]:
        """The noisy states; components that the system does not have stay zero."""
        return states + self.level * jnp.abs(states) * _normal(states, components, key)


def _normal(states: Array, components: Array, key: Array) -> Array:
    exist = components.astype(states.dtype).reshape(1, -1, *(1,) * (states.ndim - 2))
    return jax.random.normal(key, states.shape, states.dtype) * exist


class TermNoise(eqx.Module):
    """Structures with a term more or less: for each structure, everything that `perturb_terms` may make of it.

    With probability `adding` one of the structures with one more term, each equally likely, with probability `deleting`
    one of those with one less, if there are any, and otherwise the structure itself: the noise of PROSE-ODE's
    equations. New terms are P, P u_i and P u_i u_j with P the placeholder. All of it is a table, so that a choice is an
    index that the device computes from a key.

    Args:
        structures: Skeletons, each with the name of its family, as in `EquationData.structures`. Those of `FAMILIES`
            change in their `sums`, others everywhere.
        vocabulary: Of the tokens.
        adding: Probability of a new term.
        deleting: Probability of a deleted one.

    Raises:
        ValueError: If the probabilities are not at most 1 together.
    """

    tokens: Int[Array, "choices tokens"]
    mask: Bool[Array, "choices tokens"]
    first: Int[Array, " systems"]
    added: Int[Array, " systems"]
    deleted: Int[Array, " systems"]
    adding: float
    deleting: float

    def __init__(
        self,
        structures: Sequence[tuple[str, System]],
        vocabulary: Vocabulary,
        *,
        adding: float = 0.15,
        deleting: float = 0.15,
    ):
        if min(adding, deleting) < 0 or adding + deleting > 1:
            raise ValueError(f"Expected probabilities of at most 1 together, got {adding} and {deleting}. Lower one.")
        choices: list[System] = []
        first, added, deleted = [], [], []
        for name, structure in structures:
            sums = FAMILIES[name].sums if name in FAMILIES else ()
            more, less = _changed(structure, sums or whole_components(structure))
            first.append(len(choices))
            added.append(len(more))
            deleted.append(len(less))
            choices += [structure, *more, *less]
        tokens, mask = padded((tokens_of(choice, vocabulary) for choice in choices), vocabulary.pad)
        self.tokens, self.mask = jnp.asarray(tokens), jnp.asarray(mask)
        self.first, self.added, self.deleted = (jnp.asarray(part, jnp.int32) for part in (first, added, deleted))
        self.adding, self.deleting = adding, deleting

    def __call__(
        self, system: Int[Array, ""], *, key: Key[Array, ""]
    ) -> tuple[Int[Array, " tokens"], Bool[Array, " tokens"]]:
        """Tokens of a structure like the one with this number, and where they stand."""
        which, where = jax.random.split(key)
        kind = jax.random.uniform(which)
        more, less = self.added[system], self.deleted[system]
        add = kind < self.adding
        delete = ~add & (kind < self.adding + self.deleting) & (less > 0)
        chosen = jax.random.randint(where, (), 0, jnp.where(add, more, jnp.maximum(less, 1)))
        step = jnp.where(add, 1 + chosen, jnp.where(delete, 1 + more + chosen, 0))
        return self.tokens[self.first[system] + step], self.mask[self.first[system] + step]


def _changed(structure: System, sums: Sequence[Sum]) -> tuple[list[System], list[System]]:
    """All structures with one more term, and all with one less."""
    counts = [(place, len(place.terms(structure))) for place in sums]
    terms = candidate_terms(len(structure))
    slots = [(place, position) for place, count in counts for position in range(count + 1)]
    more = [insert_term(structure, place, position, term) for place, position in slots for term in terms]
    less = [
        delete_term(structure, place, position) for place, count in counts if count > 1 for position in range(count)
    ]
    return more, less


class Noise(eqx.Module):
    """What is done to one `Sample`: its states become noisy, inputs and targets, and its guess is replaced.

    Attributes:
        states: `Additive()`, `Multiplicative()` or another function `(states, components, key=) -> states`.
        terms: What becomes of the guess, or None to keep the guess of the data set.
    """

    states: Callable[..., Array]
    terms: TermNoise | None = None

    def __call__(self, sample: Sample, *, key: Key[Array, ""]) -> Sample:
        """The sample with noise; all else of it is kept."""
        first, second = jax.random.split(key)
        sample = sample._replace(states=self.states(sample.states, sample.components, key=first))
        if self.terms is None:
            return sample
        tokens, mask = self.terms(sample.system, key=second)
        return sample._replace(tokens=tokens, tokens_mask=mask)


def noisy(loss: Loss, noise: Noise) -> Loss:
    """A loss on batches of `Sample`s with noise that is fresh at every step, since it comes from the step's keys."""

    def with_noise(model: PyTree, batch: PyTree, keys: Keys) -> tuple[Float[Array, ""], dict[str, Array]]:
        pairs = jax.vmap(jax.random.split)(keys)
        return loss(model, jax.vmap(lambda sample, key: noise(sample, key=key))(batch, pairs[:, 0]), pairs[:, 1])

    return with_noise


def with_fixed_noise(noise: Noise, batch: Sample, *, seed: int) -> Sample:
    """A batch with noise that is a function of the seed and of each sample's index, for evaluations."""
    root = jax.random.key(seed, impl="threefry2x32")  # named: the default of the process may be another one
    once = lambda sample: noise(sample, key=jax.random.fold_in(root, sample.index))
    return jax.vmap(once)(jax.tree.map(jnp.asarray, batch))
