"""SDE-GAN: a neural SDE as the generator of paths, trained against a neural CDE as the discriminator."""

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
    """LipSwish activation 0.909 x sigmoid(x): smooth, with slopes between -0.1 and 1.

    Source: Chen, Behrmann, Duvenaud, Jacobsen 2019, arXiv:1906.02735.
    """
    return 0.909 * jax.nn.silu(x)


@final
class CDEDiscriminator(eqx.Module):
    r"""A neural CDE as discriminator (critic): maps a path, sampled at any times, to one number D.

    .. math::  h(t_0) = \zeta(t_0, y_0), \qquad dh = f(h) \, d(t, y), \qquad D = m \cdot h(t_1)

    The path is interpolated linearly between its rows. The networks use `lipswish`, so that `clip_lipschitz` bounds the
    Lipschitz constants of zeta and f by 1.

    Source: Kidger, Foster, Li, Oberhauser, Lyons, "Neural SDEs as infinite-dimensional GANs", 2021, arXiv:2102.03657.
    There the field also has t as an argument; here t enters through the control only.

    Attributes:
        cde: The neural CDE, with m as its readout.
    """

    cde: NeuralCDE

    def __init__(
        self, channels: int, *, hidden: int = 16, width: int = 16, depth: int = 1, solve: Solve, key: PRNGKeyArray
    ) -> None:
        """Initialises the weights.

        Args:
            channels: Number of channels of a path, without time.
            hidden: Size of the hidden state h.
            width: Width of the hidden layers of zeta and f.
            depth: Number of hidden layers of zeta and f.
            solve: Solver, step size controller, adjoint and regulariser.
            key: Random key for the weights.
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
        """The score D of one path.

        Raises:
            ValueError: In the cases of `linear_control`.
        """
        return self.cde(ts, ys)


@final
class Generator(eqx.Module):
    """A neural SDE whose initial state is computed from standard normal noise.

    Attributes:
        sde: The neural SDE; its `initial` maps the noise vector to the initial state.
        numbers: Length of the noise vector.
    """

    sde: NeuralSDE
    numbers: int = eqx.field(static=True)

    def __call__(self, ts: Float[Array, " times"], *, key: PRNGKeyArray) -> Float[Array, "times channels"]:
        """One random path."""
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
    """Wasserstein GAN objective: mean discriminator score of true paths minus that of as many generated paths.

    The generator minimises it and the discriminator maximises it, in alternation; apply `clip_lipschitz` after each
    update of the discriminator. The maximum over discriminators with a bounded Lipschitz constant is a multiple of the
    Wasserstein distance (Arjovsky, Chintala, Bottou 2017, arXiv:1701.07875).

    Args:
        generator: `(ts, key=key) -> path`, such as `Generator`.
        discriminator: `(ts, path) -> score`, such as `CDEDiscriminator`.
        ts: Times shared by all paths.
        ys: True paths.
        key: Random key for the generated paths.
    """
    fakes = jax.vmap(lambda key: generator(ts, key=key))(jax.random.split(key, ys.shape[0]))
    critic = jax.vmap(lambda path: discriminator(ts, path))
    return jnp.mean(critic(ys)) - jnp.mean(critic(fakes))


def clip_lipschitz(model: PyTree) -> PyTree:
    """The model with the weights of every dense layer clipped to [-1 / inputs, 1 / inputs] of the layer.

    Each layer then has a Lipschitz constant of at most 1 in the maximum norm, and so has a network of such layers with
    activations of Lipschitz constant 1. Every `equinox.nn.Linear` and `sciml.nn.Dense` within the model is clipped;
    biases are not.

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
