"""Muon: momentum whose matrices are made orthogonal, for the arrays that their layers call matrices."""

import collections
import functools
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, PyTree

from sciml.nn import MatrixAxes, matrix_axes
from sciml.train._cycle import scale_by_cycle

_SMALLEST = 4  # matrices with a shorter side go to Adam
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)


class MuonState(NamedTuple):
    """The moments: of the gradients of matrices, and those of Adam for the other arrays."""

    momentum: PyTree
    adam: PyTree


def muon(
    peak: float, *, steps: int, warmup: float = 0.1, weight_decay: float = 1e-4, clip: float = 0.1
) -> optax.GradientTransformation:
    """Muon for matrices and Adam (0.9, 0.98) for the rest, at one rate that rises and falls along lines.

    The rate goes from 0 to the peak in the first part `warmup` of the steps and down to 0 at the end. Gradients are
    clipped to the norm `clip`, and weights decay as in AdamW.

    Args:
        peak: Highest learning rate. The update of a matrix has a root mean square near 0.2 times the rate, as that of
            Adam has in practice, so that both may have one rate.
        steps: Number of steps of the run.
        warmup: Part of the steps until the peak.
        weight_decay: Decay of all arrays, times the rate.
        clip: Largest norm of the gradient.

    Raises:
        ValueError: If `warmup` is negative, or 1 or more.
    """
    if not 0 <= warmup < 1:
        raise ValueError(f"Expected a part of the steps between 0 and 1 for the warmup, got {warmup}.")
    rising = min(round(warmup * steps), steps - 1)
    return optax.chain(
        optax.clip_by_global_norm(clip),
        scale_by_muon(),
        optax.add_decayed_weights(weight_decay),
        scale_by_cycle(peak, steps=steps, rising=rising, up=lambda part: part, down=lambda part: 1 - part),
    )


def scale_by_muon(
    *, momentum: float = 0.95, iterations: int = 4, b1: float = 0.9, b2: float = 0.98
) -> optax.GradientTransformationExtraArgs:
    """Updates of Muon for matrices with sides of at least 4, of Adam for all other arrays.

    The momentum `m <- momentum m + g` and the look-ahead `g + momentum m` (Nesterov) are those of Jordan et al. 2024,
    "Muon: An optimizer for hidden layers in neural networks"; its matrices X go through Newton-Schulz iterations
    `X <- (a + b X X^T + c (X X^T)^2) X`, which bring all singular values near 1, and are multiplied by
    `0.2 sqrt(max(rows, columns))` (Liu et al. 2025, arXiv:2502.16982, equation 4). Layers say which arrays are
    matrices: `nn.HasMatrices`. All matrices of one shape, of all layers, are iterated together. Devices that share a
    batch share this work too: each iterates a part of the matrices, and all get all of them (`make_step` passes its
    mesh to the update).

    Args:
        momentum: Decay of the momentum.
        iterations: Number of Newton-Schulz iterations; Jordan et al. have 5.
        b1: Decay of Adam's first moment.
        b2: Decay of Adam's second moment.
    """
    adam = optax.scale_by_adam(b1=b1, b2=b2)

    def init(params: PyTree) -> MuonState:
        of_matrices, others = _divided(params, _matrices(params))
        return MuonState(optax.tree.zeros_like(of_matrices), adam.init(others))

    def update(updates: Any, state: Any, params: Any = None, *, mesh: Mesh | None = None, **_: Any) -> tuple[Any, Any]:
        if params is None:
            raise ValueError("Muon reads from the parameters which arrays are matrices: pass them to `update`.")
        axes = _matrices(params)
        of_matrices, others = _divided(updates, axes)
        moments = jax.tree.map(lambda g, m: g + momentum * m, of_matrices, state.momentum)
        ahead, structure = jax.tree.flatten(jax.tree.map(lambda g, m: g + momentum * m, of_matrices, moments))
        straightened = functools.partial(_straightened, iterations=iterations, mesh=mesh)
        straight = _orthogonal(ahead, [one for one in axes if one is not None], straightened)
        others, adam_state = adam.update(others, state.adam)
        return eqx.combine(jax.tree.unflatten(structure, straight), others), MuonState(moments, adam_state)

    return optax.GradientTransformationExtraArgs(init, update)


def _matrices(params: PyTree) -> list[MatrixAxes | None]:
    """For each array how it is a matrix, None for those that Adam moves."""
    large = lambda leaf, axes: axes is not None and min(jax.eval_shape(axes.join, leaf).shape[1:]) >= _SMALLEST
    pairs = zip(jax.tree.leaves(params), matrix_axes(params), strict=True)
    return [axes if large(leaf, axes) else None for leaf, axes in pairs]


def _divided(values: PyTree, axes: list[MatrixAxes | None]) -> tuple[PyTree, PyTree]:
    """The values of matrices and those of other arrays, each with None in the place of the others."""
    mask = jax.tree.unflatten(jax.tree.structure(values), [one is not None for one in axes])
    return eqx.partition(values, mask)


def _orthogonal(
    arrays: list[Array], axes: list[MatrixAxes], straightened: Callable[[list[Array]], list[Array]]
) -> list[Array]:
    """The arrays with their matrices made nearly orthogonal; matrices of equal shapes are stacked."""
    joined = [one.join(array) for array, one in zip(arrays, axes, strict=True)]
    wide = [_transposed(x) if x.shape[1] > x.shape[2] else x for x in joined]
    groups: dict[tuple[int, ...], list[int]] = collections.defaultdict(list)
    for i, x in enumerate(wide):
        groups[x.shape[1:]].append(i)
    stacks = straightened([jnp.concatenate([wide[i] for i in members]) for members in groups.values()])
    for (shape, members), stack in zip(groups.items(), stacks, strict=True):
        ends = list(itertools.accumulate(len(wide[i]) for i in members))
        for i, part in zip(members, jnp.split(stack * 0.2 * max(shape) ** 0.5, ends[:-1]), strict=True):
            wide[i] = part
    straight = [_transposed(y) if x.shape[1] > x.shape[2] else y for x, y in zip(joined, wide, strict=True)]
    return [one.split(y, array.shape) for array, one, y in zip(arrays, axes, straight, strict=True)]


def _straightened(stacks: list[Array], *, iterations: int, mesh: Mesh | None) -> list[Array]:
    """The stacks of matrices after the iterations, of which each device of the mesh does a part."""
    if mesh is None or mesh.size == 1 or not stacks:
        return [newton_schulz(stack, iterations) for stack in stacks]
    devices, axes = mesh.size, mesh.axis_names

    def own_part(stacks: list[Array]) -> list[Array]:
        parts = []
        for stack in stacks:
            each = -(-len(stack) // devices)
            padded = jnp.pad(stack, ((0, devices * each - len(stack)), (0, 0), (0, 0)))
            mine = jax.lax.dynamic_slice_in_dim(padded, jax.lax.axis_index(axes) * each, each)
            parts.append(newton_schulz(mine, iterations))
        # One exchange of everything: each makes the devices wait.
        everything = jnp.concatenate([part.ravel() for part in parts])
        gathered = jax.lax.all_gather(everything, axes, to="invarying")
        ends = list(itertools.accumulate(part.size for part in parts))
        columns = jnp.split(gathered, ends[:-1], axis=1)
        return [all_parts.reshape(-1, *x.shape[1:])[: len(x)] for all_parts, x in zip(columns, stacks, strict=True)]

    return jax.shard_map(own_part, mesh=mesh, in_specs=PartitionSpec(), out_specs=PartitionSpec(), check_vma=True)(
        stacks
    )


def _transposed(x: Float[Array, "count rows columns"]) -> Float[Array, "count columns rows"]:
    return jnp.swapaxes(x, 1, 2)


def newton_schulz(x: Float[Array, "count short long"], iterations: int) -> Float[Array, "count short long"]:
    """Matrices with the singular vectors of `x` and singular values near 1.

    All iterates are polynomials of `G = x x^T` times x, so that only G, of the short side, is iterated: with the
    polynomial `Q = a + b G + c G^2` of the current G, `P <- Q P` and `G <- Q^2 G`, and the result is P x.
    """
    a, b, c = _COEFFICIENTS
    product = lambda x, y: jnp.matmul(x, y, precision=jax.lax.Precision.HIGHEST)
    x = x / (jnp.linalg.norm(x, axis=(1, 2), keepdims=True) + 1e-7)
    gram, total = product(x, jnp.swapaxes(x, 1, 2)), None
    for i in range(iterations):
        step = a * jnp.eye(x.shape[1], dtype=x.dtype)[None] + b * gram + c * product(gram, gram)
        total = step if total is None else product(step, total)
        if i + 1 < iterations:
            gram = product(step, product(step, gram))
    return x if total is None else product(total, x)
