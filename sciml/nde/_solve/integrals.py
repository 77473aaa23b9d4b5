"""Running integrals along a solve, for regularisers, measures and log densities: they extend the state."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import optimistix as optx
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

Field = Callable[..., PyTree]
"""`(t, y, args) -> dy/dt`, as in `diffrax.ODETerm`."""

Integrand = Callable[..., Array]
"""`(t, y, dy, args, field) -> array`, mostly a scalar. `dy` is the field's value there, computed once for all
integrands; `field` is the field itself, for its derivatives. Take it from there and not from a model made outside of
the loss, whose parameters would receive no gradient."""


@final
class _WithIntegrals(eqx.Module):
    field: Field
    integrands: dict[str, Integrand]

    def __call__(self, t: Any, state: PyTree, args: PyTree = None) -> PyTree:
        y, _ = state
        dy = self.field(t, y, args)
        rates = {name: rate(t, y, dy, args, self.field) for name, rate in self.integrands.items()}
        return dy, rates


def with_integrals(field: Field, integrands: Mapping[str, Integrand]) -> Field:
    r"""The field of the state `(y, {name: I})` with dy/dt = f(t, y) and dI/dt = integrand(t, y, f(t, y), args, f).

    So :math:`I(t) = \int_{t_0}^t` integrand dt, with the opposite sign if time runs backwards. Start from
    `start_integrals`, and use `state_norm` in the controller, so that the integrals do not change the steps. `Solve`
    does both.

    A penalty's coefficient is any `optax` schedule: `loss = task + coefficient(step) * integral`, such as
    `coefficient = optax.exponential_decay(0.1, steps, 0.1)`.

    Args:
        field: Derivative of the state, `(t, y, args) -> dy/dt`.
        integrands: Functions by name; arrays of any shape are integrated elementwise.
    """
    return _WithIntegrals(field, dict(integrands))


def start_integrals(
    field: Field, integrands: Mapping[str, Integrand], t0: Any, y0: PyTree, args: PyTree = None
) -> tuple[PyTree, dict[str, Array]]:
    """The state `(y0, {name: 0})` for a field of `with_integrals`; the integrands are not evaluated."""
    rates = lambda: _WithIntegrals(field, dict(integrands))(jnp.asarray(t0), (y0, {}), args)[1]
    shapes = eqx.filter_eval_shape(rates)
    return y0, jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)


@final
class _StateNorm(eqx.Module):
    norm: Callable[[PyTree], Any]

    def __call__(self, state: PyTree) -> Any:
        return self.norm(state[0])


def state_norm(norm: Callable[[PyTree], Any] = optx.rms_norm) -> Callable[[PyTree], Any]:
    """The norm of the state alone, for `diffrax.PIDController(norm=...)`: the integrals do not change the steps.

    The error of the integrals is then not controlled; it follows from the steps that the state needs.

    Args:
        norm: Norm of y.
    """
    return _StateNorm(norm)


def kinetic_energy(t: Any, y: PyTree, dy: PyTree, args: PyTree, field: Field) -> Float[Array, ""]:
    """|f(t, y)|^2, the transport cost of RNODE.

    Source: Finlay, Jacobsen, Nurbekyan, Oberman, "How to train your neural ODE", 2020, arXiv:2002.02798, which divides
    it by the dimension in the experiments: `per_dimension(kinetic_energy)`.
    """
    return _square(dy)


def jacobian_frobenius(t: Any, y: PyTree, dy: PyTree, args: PyTree, field: Field) -> Float[Array, ""]:
    """The squared Frobenius norm of df/dy, by one forward-mode derivative per dimension; see `HutchinsonFrobenius`."""
    return jnp.sum(_jacobian(t, y, args, field) ** 2)


def divergence(t: Any, y: PyTree, dy: PyTree, args: PyTree, field: Field) -> Float[Array, ""]:
    """The trace of df/dy, by one forward-mode derivative per dimension; see `HutchinsonDivergence`."""
    return jnp.trace(_jacobian(t, y, args, field))


class AbstractHutchinson(eqx.Module):
    """An unbiased estimate from one vector-Jacobian product e^T (df/dy) with a random probe e.

    Two estimates with the same probe in one solve share this product under jit. The probe has the structure of the
    state, mean 0 and unit covariance. It is constant during a solve, which adaptive solvers require; see `probe`.
    """

    probe: eqx.AbstractVar[PyTree]


@final
class HutchinsonDivergence(AbstractHutchinson):
    """The estimate e^T (df/dy) e of the divergence.

    Source: Grathwohl et al., "FFJORD", 2019, arXiv:1810.01367.
    """

    probe: PyTree

    def __call__(self, t: Any, y: PyTree, dy: PyTree, args: PyTree, field: Field) -> Float[Array, ""]:
        """The estimate at (t, y)."""
        product = _vector_jacobian(t, y, args, field, self.probe)
        return _sum(jax.tree.map(lambda a, b: jnp.sum(a * b), product, self.probe))


@final
class HutchinsonFrobenius(AbstractHutchinson):
    """The estimate |e^T (df/dy)|^2 of the squared Frobenius norm.

    Source: Finlay et al. 2020, arXiv:2002.02798.
    """

    probe: PyTree

    def __call__(self, t: Any, y: PyTree, dy: PyTree, args: PyTree, field: Field) -> Float[Array, ""]:
        """The estimate at (t, y)."""
        return _square(_vector_jacobian(t, y, args, field, self.probe))


def probe(y: PyTree, *, draw: Callable[..., Array] = jax.random.rademacher, key: Array) -> PyTree:
    """A random probe for Hutchinson's estimates, with the structure and shapes of `y` and entries +-1 by default.

    Among independent entries, +-1 (Rademacher) gives the divergence the smallest variance. `draw` may be
    `jax.random.normal`.
    """
    leaves, structure = jax.tree.flatten(y)
    keys = jax.random.split(key, len(leaves))
    drawn = [draw(key, leaf.shape, leaf.dtype) for key, leaf in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(structure, drawn)


@final
class JointField(eqx.Module):
    """The field of a batch as one joint state: the field of a single state, mapped over the samples."""

    single: Field

    def __call__(self, t: Any, y: PyTree, args: PyTree = None) -> PyTree:
        """The field at all samples."""
        return jax.vmap(lambda y: self.single(t, y, args))(y)


@final
class _JointIntegrand(eqx.Module):
    integrand: Integrand

    def __call__(self, t: Any, y: PyTree, dy: PyTree, args: PyTree, field: Field) -> Array:
        probes, rest = eqx.partition(self.integrand, _probes(self.integrand))
        one = lambda probes, y, dy: eqx.combine(probes, rest)(t, y, dy, args, field.single)  # pyright: ignore
        return jax.vmap(one)(probes, y, dy)


def mapped(integrand: Integrand) -> Integrand:
    """The integrand for a batch whose field is a `JointField`: that of a single state, mapped over the samples."""
    return _JointIntegrand(integrand)


def _probes(integrand: Integrand) -> PyTree:
    is_probe = lambda node: isinstance(node, AbstractHutchinson)
    return jax.tree.map(is_probe, integrand, is_leaf=is_probe)


@final
class _PerDimension(eqx.Module):
    integrand: Integrand

    def __call__(self, t: Any, y: PyTree, dy: PyTree, args: PyTree, field: Field) -> Array:
        return self.integrand(t, y, dy, args, field) / sum(leaf.size for leaf in jax.tree.leaves(y))


def per_dimension(integrand: Integrand) -> Integrand:
    """The integrand divided by the number of entries of the state."""
    return _PerDimension(integrand)


@final
class _Taylor(eqx.Module):
    order: int = eqx.field(static=True)

    def __call__(self, t: Any, y: PyTree, dy: PyTree, args: PyTree, field: Field) -> Float[Array, ""]:
        def along(derivative: Callable[[Any, PyTree], PyTree]) -> Callable[[Any, PyTree], PyTree]:
            move = lambda t, y: (jnp.ones_like(t), field(t, y, args))
            return lambda t, y: jax.jvp(derivative, (t, y), move(t, y))[1]

        derivative = lambda t, y: field(t, y, args)
        for _ in range(self.order - 1):
            derivative = along(derivative)
        return _square(derivative(jnp.asarray(t), y))


def taylor(order: int) -> Integrand:
    r"""TayNODE's integrand :math:`|d^K y / dt^K|^2` along the solution, K = `order`.

    Each total time derivative is the directional derivative of the previous one along (1, f), so that the second is
    f_t + J f. It is computed by nested forward-mode derivatives, which any field supports, at a cost of about 2^(K-1)
    evaluations of the field; the cost of the source's Taylor arithmetic grows as K^2. With `per_dimension(taylor(3))`
    the value does not grow with the dimension.

    Source: Kelly, Bettencourt, Johnson, Duvenaud, "Learning differential equations that are easy to solve", 2020,
    arXiv:2007.04504.

    Raises:
        ValueError: If the order is not positive.
    """
    if order < 1:
        raise ValueError(f"Expected the order of a derivative, 1 or more, got {order}. Order 1 is the kinetic energy.")
    return _Taylor(order)


def _sum(tree: PyTree) -> Array:
    return functools.reduce(jnp.add, jax.tree.leaves(tree))


def _square(tree: PyTree) -> Array:
    return _sum(jax.tree.map(lambda leaf: jnp.sum(leaf**2), tree))


def _jacobian(t: Any, y: PyTree, args: PyTree, field: Field) -> Array:
    flat, restore = ravel_pytree(y)
    return jax.jacfwd(lambda flat: ravel_pytree(field(t, restore(flat), args))[0])(flat)


def _vector_jacobian(t: Any, y: PyTree, args: PyTree, field: Field, vector: PyTree) -> PyTree:
    return jax.vjp(lambda y: field(t, y, args), y)[1](vector)[0]
