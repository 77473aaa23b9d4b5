"""A trained PROSE-ODE model, and guesses of equations as text for it."""

import dataclasses
import re
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from sciml import prose, symbolic
from sciml.symbolic import PLACEHOLDER, AbstractExpression, Apply, Placeholder, Variable


@dataclasses.dataclass(frozen=True, eq=False)
class Trained:
    """A model and the settings of its training.

    Attributes:
        model: The model.
        vocabulary: Of its tokens.
        variables: Largest number of variables of a trajectory.
        history: Largest number of given times.
        span: Longest time between the first and the last given time.
        end: Last time of a forecast, counted from the first given time.
        horizon: Number of predicted times in training.
        known: Whether all guesses in training had the true numbers.
        some_known: Whether some had.
        blank: Whether some were blank.
        max_tokens: Most tokens of a written equation.
    """

    model: prose.Prose
    vocabulary: symbolic.Vocabulary
    variables: int
    history: int
    span: float
    end: float
    horizon: int
    known: bool
    some_known: bool
    blank: bool
    max_tokens: int


def tokens_of(trained: Trained, equation: str | None, variables: int) -> jax.Array | None:
    """The tokens of a guess, or None for a model that reads none.

    Without a guess they are a placeholder for each variable, as the blank guesses in training. The numbers of a guess
    are kept if some guesses in training had numbers and no number of this guess is a placeholder. Otherwise all
    numbers become placeholders, since no guess in training had both.

    Args:
        trained: The model.
        equation: Right-hand sides in Python's notation with `|` between them, or None.
        variables: Number of variables of the trajectory.

    Raises:
        ValueError: If the text is no such guess, or the model was not trained with guesses of this kind.
    """
    if trained.model.symbol_encoder is None:
        if equation is not None:
            raise ValueError("The model of this run reads no equation. Leave the equation out.")
        return None
    if equation is None:
        if not trained.blank:
            raise ValueError(
                "The model of this run was trained with a guess of the equations in every sample. Give one: a "
                "right-hand side in u_0, u_1, ... per variable, with | between them."
            )
        system: symbolic.System = (PLACEHOLDER,) * variables
    else:
        system = _system(trained, equation, variables)
    return jnp.asarray(trained.vocabulary.encode(symbolic.system_to_tokens(system)))


def _system(trained: Trained, equation: str, variables: int) -> symbolic.System:
    parts = equation.split("|")
    if len(parts) != variables:
        raise ValueError(
            f"Expected a right-hand side for each of {variables} variables, with | between them, got {len(parts)}: "
            f"{equation!r}."
        )
    system = tuple(_component(trained, text.strip(), i, variables) for i, text in enumerate(parts))
    unknown = any(isinstance(node, Placeholder) for tree in system for node in symbolic.walk(tree))
    if trained.known and unknown:
        raise ValueError(
            "The model of this run was trained with numbers in the equations. Replace PLACEHOLDER by them."
        )
    return symbolic.skeleton(system) if unknown or not (trained.known or trained.some_known) else system


def _component(trained: Trained, text: str, number: int, variables: int) -> AbstractExpression:
    place = f"Right-hand side {number} of the equation, {text!r}"
    try:
        tree = symbolic.fold(symbolic.from_text(text), _without_cubes)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from None
    states = [f"u_{i}" for i in range(variables)]
    operators = trained.vocabulary.operators
    for node in symbolic.walk(tree):
        if isinstance(node, Apply) and node.operator not in operators:
            raise ValueError(
                f"{place}, column {_column(text, node.operator)}: the model does not know {node.operator!r}, only "
                f"{', '.join(operators)}. Rewrite it with these."
            )
        if isinstance(node, Variable) and node.name not in states:
            raise ValueError(
                f"{place}, column {_column(text, node.name)}: expected the variables {', '.join(states)}, got "
                f"{node.name!r}. Rename it."
            )
    return tree


def _without_cubes(node: AbstractExpression, below: Sequence[AbstractExpression]) -> AbstractExpression:
    """Cubes as products, in the nesting of the families, whose vocabulary has squares alone."""
    if not isinstance(node, Apply):
        return node
    if node.operator == "pow3":
        return symbolic.product(below[0], below[0], below[0])
    return Apply(node.operator, tuple(below))


def _column(text: str, name: str) -> int:
    """Where a name or a power begins."""
    found = re.search(rf"\b{re.escape(name)}\b" + (r"|\*\*" if name == "pow" else ""), text)
    return 0 if found is None else found.start()
