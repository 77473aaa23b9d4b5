"""Neural SDEs as generators of paths, trained against a critic that is a neural CDE."""

from collections.abc import Callable
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from sciml.nde._cde.cde import MatrixField, NeuralCDE
from sciml.nde._cde.control import linear_control
from sciml.nde._sde.sde import NeuralSDE
from sciml.nde._solve.solve import Solve
from sciml.nn import Dense


def lipswish(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """0.909 x sigmoid(x): smooth, with slopes between -0.1 and 1.

    Source: Chen, Behrmann, Duvenaud, Jacobsen 2019, arXiv:1906.02735.
    """
    return 0.909 * jax.nn.silu(x)


@final
class CDEDiscriminator(eqx.Module):
    r"""A critic of paths: one number for a path, whatever the times at which it is given.

    .. math::  h(t_0) = \zeta(t_0, y_0), \qquad dh = f(h) \, d(t, y), \qquad D = m \cdot h(t_1)

    The path is linear between its rows. Networks use `lipswish`, so that `clip_lipschitz` bounds the Lipschitz
    constants of zeta and f by 1.

    Source: Kidger, Foster, Li, Oberhauser, Lyons, "Neural SDEs as infinite-dimensional GANs", 2021, arXiv:2102.03657.
    There the field also has t as an argument; here h knows it through the control.

    Attributes:
        cde: The equation, with m in its readout.
    """

    cde: NeuralCDE

    def __init__(
        self, channels: int, *, hidden: int = 16, width: int = 16, depth: int = 1, solve: Solve, key: PRNGKeyArray
    ) -> None:
        """Draws the weights.

        Args:
            channels: Of the paths.
            hidden: Size of h.
            width: Of the networks' hidden layers.
            depth: Number of their hidden layers.
            solve: Solver, step sizes, adjoint and regulariser.
            key: Of the random initial values.
        """
        initial_key, field_key, readout_key = jax.random.split(key, 3)
        self.cde = NeuralCDE(
            eqx.nn.MLP(channels + 1, hidden, width, depth, activation=lipswish, key=initial_key),
            MatrixField(hidden, channels + 1, width=width, depth=depth, activation=lipswish, key=field_key),
            eqx.nn.Linear(hidden, "scalar", use_bias=False, key=readout_key),
            linear_control,
            solve=solve,
        )

    def __call__(self, ts: Float[Array, " times"], ys: Float[Array, "times channels"]) -> Float[Array, ""]:
        """The number D.

        Raises:
            ValueError: As `linear_control`.
        """
        return self.cde(ts, ys)


@final
class Generator(eqx.Module):
    """A neural SDE that starts from standard normal numbers.

    Attributes:
        sde: The equation; its `initial` maps the numbers to the first state.
        numbers: How many of them.
    """

    sde: NeuralSDE
    numbers: int = eqx.field(static=True)

    def __call__(self, ts: Float[Array, " times"], *, key: PRNGKeyArray) -> Float[Array, "times channels"]:
        """One path."""
        start_key, path_key = jax.random.split(key)
        return self.sde(jax.random.normal(start_key, (self.numbers,), ts.dtype), ts, key=path_key)


def wasserstein_gap(
    generator: Callable[..., Array],
    discriminator: Callable[[Array, Array], Array],
    ts: Float[Array, " times"],
    ys: Float[Array, "paths times channels"],
    *,
    key: PRNGKeyArray,
) -> Float[Array, ""]:
    """Mean of the critic over true paths minus its mean over as many generated ones.

    The generator is trained to make it small and the critic to make it large, in turns, the critic followed by
    `clip_lipschitz`: over critics with a bounded Lipschitz constant its maximum is a multiple of the Wasserstein
    distance (Arjovsky, Chintala, Bottou 2017, arXiv:1701.07875).

    Args:
        generator: `(ts, key=key) -> path`, such as `Generator`.
        discriminator: `(ts, path) -> number`, such as `CDEDiscriminator`.
        ts: Times of all paths.
        ys: True paths.
        key: Of the generated ones.
    """
    fakes = jax.vmap(lambda key: generator(ts, key=key))(jax.random.split(key, ys.shape[0]))
    critic = jax.vmap(lambda path: discriminator(ts, path))
    return jnp.mean(critic(ys)) - jnp.mean(critic(fakes))


def clip_lipschitz(model: PyTree) -> PyTree:
    """The model with the weights of every dense layer clipped to +-1 / (number of its inputs).

    A layer then has at most the Lipschitz constant 1 in the maximum norm, and so has a network of such layers with
    activations that do. Clipped are `equinox.nn.Linear` and `sciml.nn.Dense` at any depth; biases stay.

    Source: Kidger, Foster, Li, Lyons, "Efficient and accurate gradients for neural SDEs", 2021, arXiv:2105.13493,
    section 5.
    """
    return jax.tree.map(_clipped, model, is_leaf=_is_dense)


def _is_dense(node: Any) -> bool:
    return isinstance(node, eqx.nn.Linear | Dense)


def _clipped(node: Any) -> Any:
    if not _is_dense(node):
        return node
    bound = 1 / (node.weight.shape[1] if isinstance(node, eqx.nn.Linear) else node.weight.shape[0])
    return eqx.tree_at(lambda layer: layer.weight, node, jnp.clip(node.weight, -bound, bound))
