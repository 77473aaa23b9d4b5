"""Adds and deletes terms of sums, also at random: the noise that PROSE adds to the given equations."""

import abc
import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sciml.symbolic._tree import PLACEHOLDER, AbstractExpression, Apply, System, arguments, product, states


class Term(NamedTuple):
    """A term of a sum with the operator before it, `add` or `sub`; the first term of a sum has `add`."""

    operator: str
    tree: AbstractExpression


class AbstractNesting(abc.ABC):
    """How a sum of several terms is nested in binary operators. Subclasses are frozen dataclasses."""

    @abc.abstractmethod
    def split(self, tree: AbstractExpression) -> list[Term]:
        """The terms of a sum; an expression that is not a sum is its only term."""

    @abc.abstractmethod
    def join(self, terms: Sequence[Term]) -> AbstractExpression:
        """The sum of the terms."""

    @abc.abstractmethod
    def moved_back(self, first: AbstractExpression) -> Term:
        """The term that the first term of a sum becomes if a new term is inserted before it."""


@dataclasses.dataclass(frozen=True)
class LeftNested(AbstractNesting):
    """((a + b) - c) + d: the sums of the published ODE families."""

    def split(self, tree: AbstractExpression) -> list[Term]:
        """The terms along the left arguments of `add` and `sub`."""
        terms = []
        while isinstance(tree, Apply) and tree.operator in ("add", "sub"):
            terms.append(Term(tree.operator, tree.arguments[1]))
            tree = tree.arguments[0]
        return [Term("add", tree), *reversed(terms)]

    def join(self, terms: Sequence[Term]) -> AbstractExpression:
        """The sum; a first term with `sub` is wrapped in `neg`."""
        total = -terms[0].tree if terms[0].operator == "sub" else terms[0].tree
        for operator, tree in terms[1:]:
            total = Apply(operator, (total, tree))
        return total

    def moved_back(self, first: AbstractExpression) -> Term:
        """The term `- x` for -x, and the term `+ first` otherwise."""
        if isinstance(first, Apply) and first.operator == "neg":
            return Term("sub", first.arguments[0])
        return Term("add", first)


@dataclasses.dataclass(frozen=True)
class RightNested(AbstractNesting):
    """a + (b + (c + d)): the numerators of the published double pendulum. A difference is one term."""

    def split(self, tree: AbstractExpression) -> list[Term]:
        """The terms along the right arguments of `add`."""
        terms = []
        while isinstance(tree, Apply) and tree.operator == "add":
            terms.append(Term("add", tree.arguments[0]))
            tree = tree.arguments[1]
        return [*terms, Term("add", tree)]

    def join(self, terms: Sequence[Term]) -> AbstractExpression:
        """The sum; terms with `sub` are wrapped in `neg`."""
        trees = [-term.tree if term.operator == "sub" else term.tree for term in terms]
        total = trees[-1]
        for tree in reversed(trees[:-1]):
            total = tree + total
        return total

    def moved_back(self, first: AbstractExpression) -> Term:
        """The term `+ first`."""
        return Term("add", first)


LEFT = LeftNested()


@dataclasses.dataclass(frozen=True)
class Sum:
    """The position of a sum in a system.

    Attributes:
        component: Index of the component that contains the sum.
        path: Argument indices on the way from the root of the component to the sum.
        nesting: How the sum is nested.
    """

    component: int
    path: tuple[int, ...] = ()
    nesting: AbstractNesting = LEFT

    def terms(self, system: System) -> list[Term]:
        """The terms of this sum.

        Raises:
            ValueError: If the system has no such component or path.
        """
        if not 0 <= self.component < len(system):
            raise ValueError(f"Expected a component below {len(system)}, got {self.component}.")
        tree = system[self.component]
        for step in self.path:
            if not 0 <= step < len(arguments(tree)):
                raise ValueError(f"The path {self.path} leads to argument {step} of {tree.head!r}.")
            tree = arguments(tree)[step]
        return self.nesting.split(tree)

    def replaced(self, system: System, terms: Sequence[Term]) -> System:
        """The system in which this sum has the given terms."""
        tree = _replaced(system[self.component], self.path, self.nesting.join(terms))
        return (*system[: self.component], tree, *system[self.component + 1 :])


def _replaced(tree: AbstractExpression, path: tuple[int, ...], new: AbstractExpression) -> AbstractExpression:
    if not path:
        return new
    below = list(arguments(tree))
    below[path[0]] = _replaced(below[path[0]], path[1:], new)
    return Apply(tree.head, tuple(below))


def whole_components(system: System) -> tuple[Sum, ...]:
    """Each component as a sum nested to the left."""
    return tuple(Sum(i) for i in range(len(system)))


def candidate_terms(dimension: int) -> tuple[AbstractExpression, ...]:
    """The terms that PROSE adds: P, P u_i and P (u_i u_j) for i <= j, where P is the placeholder."""
    u = states(dimension)
    pairs = [product(PLACEHOLDER, u[i], u[j]) for i in range(dimension) for j in range(i, dimension)]
    return (PLACEHOLDER, *(PLACEHOLDER * x for x in u), *pairs)


def insert_term(system: System, place: Sum, position: int, term: AbstractExpression) -> System:
    """The system with `term` inserted before the term at `position` of a sum.

    Args:
        system: The system.
        place: The sum.
        position: Index from 0 to the number of terms; the latter appends the term.
        term: The new term.

    Raises:
        ValueError: If the system has no such sum, or the sum no such position.
    """
    terms = place.terms(system)
    if not 0 <= position <= len(terms):
        raise ValueError(f"Expected a position from 0 to {len(terms)}, got {position}.")
    if position == 0:
        terms[0] = place.nesting.moved_back(terms[0].tree)
    terms.insert(position, Term("add", term))
    return place.replaced(system, terms)


def delete_term(system: System, place: Sum, position: int) -> System:
    """The system without the term at `position` of the sum `place`.

    Raises:
        ValueError: If the system has no such sum, or the sum no such position, or if it is the only term.
    """
    terms = place.terms(system)
    if len(terms) < 2 or not 0 <= position < len(terms):
        raise ValueError(
            f"Expected at least 2 terms and a position among them, got {len(terms)} terms and position {position}."
        )
    del terms[position]
    return place.replaced(system, terms)


def perturb_terms(
    system: System,
    rng: np.random.Generator,
    *,
    candidates: Sequence[AbstractExpression],
    sums: Sequence[Sum] | None = None,
    adding: float = 0.15,
    deleting: float = 0.15,
) -> System:
    """Inserts a random term, deletes a random term, or returns the system unchanged: PROSE's noise on the equations.

    A new term is uniform among `candidates`, its position uniform among all positions of all sums. A deleted term is
    uniform among all terms of the sums with more than one term; if there is no such sum, the system is returned
    unchanged.

    Args:
        system: The system, usually a skeleton.
        rng: NumPy's random generator.
        candidates: The possible new terms, usually `candidate_terms(dimension)`.
        sums: The sums that may change; by default all components.
        adding: Probability of an insertion.
        deleting: Probability of a deletion.

    Raises:
        ValueError: If a probability is negative or their sum exceeds 1, or if a sum is not in the system.
    """
    if min(adding, deleting) < 0 or adding + deleting > 1:
        raise ValueError(f"Expected probabilities whose sum is at most 1, got {adding} to add, {deleting} to delete.")
    sums = whole_components(system) if sums is None else sums
    counts = [len(place.terms(system)) for place in sums]
    draw = rng.random()
    if draw < adding:
        slots = [(place, i) for place, count in zip(sums, counts, strict=True) for i in range(count + 1)]
        place, position = slots[int(rng.integers(len(slots)))]
        return insert_term(system, place, position, candidates[int(rng.integers(len(candidates)))])
    slots = [(place, i) for place, count in zip(sums, counts, strict=True) if count > 1 for i in range(count)]
    if draw < adding + deleting and slots:
        place, position = slots[int(rng.integers(len(slots)))]
        return delete_term(system, place, position)
    return system
