"""A model as a module of PyTorch."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from sciml import nn
from sciml.export._program import program_of


def torch_module(model: PyTree) -> Any:
    """A `torch.nn.Module` that calls a model on the CPU, with gradients to its inputs and parameters.

    It takes and gives tensors of float32 with a leading axis of the batch, `(batch, channels, *space)`; of an
    `operators.Conditioned` in the order frames, fixed, parameters, dt, without those that it does not look at. The
    model is compiled by JAX once for each shape, and tensors go both ways through DLPack without a copy. The trainable
    arrays are parameters of the module, which optimisers of PyTorch train and `state_dict` saves. `module.model()` is
    the model with their present values.

    The backward pass computes the forward pass once more. There are no second derivatives.

    Args:
        model: An operator, an `operators.Conditioned`, or an ensemble of them.

    Raises:
        ModuleNotFoundError: If PyTorch is not installed.
        ValueError: By the module, for tensors on another device than the CPU.
    """
    try:
        import torch  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "A module of PyTorch needs PyTorch, which is not installed: pip install 'sciml-jax[torch]'."
        ) from error

    trainable, rest = nn.partition(model)
    leaves, structure = jax.tree.flatten(trainable)
    paths = [jax.tree_util.keystr(path, simple=True, separator="_") for path, _ in _paths(trainable)]

    def combined(values: Sequence[Any]) -> PyTree:
        return eqx.combine(jax.tree.unflatten(structure, values), rest)

    @jax.jit
    def forward(values: list[Any], arrays: list[Any]) -> Any:
        return program_of(combined(values)).batched(*arrays)

    @jax.jit
    def backward(values: list[Any], arrays: list[Any], cotangent: Any) -> Any:
        return jax.vjp(forward, values, arrays)[1](cotangent)

    function = _function(torch, forward, backward, len(leaves))

    class TorchModule(torch.nn.Module):
        """A model of sciml."""

        def __init__(self) -> None:
            torch.nn.Module.__init__(self)
            for path, leaf in zip(paths, leaves, strict=True):
                value = torch.from_dlpack(jnp.asarray(leaf, jnp.float32)).clone()  # JAX keeps its own numbers
                self.register_parameter(path, torch.nn.Parameter(value))

        def forward(self, *tensors: Any) -> Any:
            """The outputs of a batch."""
            found = {tensor.device.type for tensor in tensors} | {one.device.type for one in self.parameters()}
            if found != {"cpu"}:
                raise ValueError(f"Expected tensors on the CPU, got {', '.join(sorted(found))}. Move them: x.cpu().")
            return function.apply(*self.parameters(), *(tensor.float() for tensor in tensors))

        def model(self) -> PyTree:
            """The model of JAX with the present parameters."""
            return combined([jnp.array(_to_jax(one.detach()), copy=True) for one in self.parameters()])

    return TorchModule()


def _paths(tree: PyTree) -> list[Any]:
    return jax.tree_util.tree_leaves_with_path(tree)


def _to_jax(tensor: Any) -> jax.Array:
    return jax.dlpack.from_dlpack(tensor.contiguous())


def _function(torch: Any, forward: Any, backward: Any, parameters: int) -> Any:
    """The function of PyTorch's automatic differentiation: parameters first, then inputs."""

    def split(tensors: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        arrays = [_to_jax(tensor.detach()) for tensor in tensors]
        return arrays[:parameters], arrays[parameters:]

    def to_torch(array: jax.Array, tensors: Sequence[Any]) -> Any:
        found = torch.from_dlpack(array.block_until_ready())
        shared = any(found.data_ptr() == tensor.data_ptr() for tensor in tensors)
        return found.clone() if shared else found

    class Compiled(torch.autograd.Function):
        """A compiled function of JAX."""

        @staticmethod
        def forward(context: Any, *tensors: Any) -> Any:
            context.save_for_backward(*tensors)
            return to_torch(forward(*split(tensors)), tensors)

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(context: Any, cotangent: Any) -> Any:
            tensors = context.saved_tensors
            values, arrays = backward(*split(tensors), _to_jax(cotangent.detach()))
            found = [to_torch(one, tensors) for one in (*values, *arrays)]
            return tuple(one if wanted else None for one, wanted in zip(found, context.needs_input_grad, strict=True))

    return Compiled
