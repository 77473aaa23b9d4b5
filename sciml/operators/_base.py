"""The interface of every neural operator."""

import abc

import equinox as eqx
from jaxtyping import Array, Float, PyTree


class AbstractOperator(eqx.Module):
    """Maps fields to fields on one sample: no batch axis, no key, no state.

    Batches are the caller's `jax.vmap`. Training, evaluation, wrappers and the command line ask for nothing else: any
    Equinox module with such a call is an operator for them, also one of another package, and need not inherit from this
    class. On a mesh that cuts fields such a module is refused unless it has the attribute `acts_on_parts`.
    """

    @abc.abstractmethod
    def __call__(self, x: Float[Array, "in *space"]) -> Float[Array, "out *space"]:
        """The output fields for the input fields `x`."""

    def repeated(self) -> tuple[PyTree, ...]:
        """The parts that `rematerialised` puts into `nn.Rematerialised`, such as the layers; none by default.

        An operator that names some runs them as functions or by `nn.apply_layer`, and reads their sizes by `nn.bare`.
        """
        return ()
