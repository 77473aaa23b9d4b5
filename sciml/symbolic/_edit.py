"""Terms of sums: adding and deleting them, at random as PROSE perturbs the equations that it is given."""

import abc
import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sciml.symbolic._tree import PLACEHOLDER, AbstractExpression, Apply, System, arguments, product, states


class Term(NamedTuple):
    """A summand with the operator in front of it, `add` or `sub`; the first term of a sum has `add`."""

    operator: str
    tree: AbstractExpression


class AbstractNesting(abc.ABC):
    """How a sum of several terms is written with operators of two arguments. Subclasses are frozen dataclasses."""

    @abc.abstractmethod
    def split(self, tree: AbstractExpression) -> list[Term]:
        """The terms of a sum; one for any other expression."""

    @abc.abstractmethod
    def join(self, terms: Sequence[Term]) -> AbstractExpression:
        """The sum of the terms."""

    @abc.abstractmethod
    def moved_back(self, first: AbstractExpression) -> Term:
        """The term that the first one becomes when another is written in front of it."""


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
        """-x is subtracted as x."""
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
        """The term as it is."""
        return Term("add", first)


LEFT = LeftNested()


@dataclasses.dataclass(frozen=True)
class Sum:
    """Where a sum is in a system: its component, the argument numbers on the way down, and how it is nested."""

    component: int
    path: tuple[int, ...] = ()
    nesting: AbstractNesting = LEFT

    def terms(self, system: System) -> list[Term]:
        """The terms of this sum.

        Raises:
            ValueError: If the system has nothing there.
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
        """The system with other terms in this sum."""
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
    """P, P u_i and P (u_i u_j) for i <= j, where P is the placeholder: the terms that PROSE adds."""
    u = states(dimension)
    pairs = [product(PLACEHOLDER, u[i], u[j]) for i in range(dimension) for j in range(i, dimension)]
    return (PLACEHOLDER, *(PLACEHOLDER * x for x in u), *pairs)


def insert_term(system: System, place: Sum, position: int, term: AbstractExpression) -> System:
    """The system with `term` added in front of the term at `position` of a sum; the number of terms is its end.

    Raises:
        ValueError: If there is no such position or no such place.
    """
    terms = place.terms(system)
    if not 0 <= position <= len(terms):
        raise ValueError(f"Expected a position from 0 to {len(terms)}, got {position}.")
    if position == 0:
        terms[0] = place.nesting.moved_back(terms[0].tree)
    terms.insert(position, Term("add", term))
    return place.replaced(system, terms)


def delete_term(system: System, place: Sum, position: int) -> System:
    """The system without the term at `position` of a sum.

    Raises:
        ValueError: If there is no such position or no such place, or if it is the only term.
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
    """The system with one term more, one term less, or unchanged: PROSE's noise on the equations.

    A new term is drawn from `candidates` and its place from all positions of all sums; the deleted term is drawn from
    all terms of the sums that have more than one. A system in which nothing can be deleted is returned unchanged.

    Args:
        system: Usually a skeleton.
        rng: NumPy's generator: equal states give equal systems.
        candidates: Usually `candidate_terms(dimension)`.
        sums: The sums that may change; all components unless given.
        adding: Probability of a new term.
        deleting: Probability of a deleted one.

    Raises:
        ValueError: If the probabilities are not at most 1 together, or if a sum is not in the system.
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
