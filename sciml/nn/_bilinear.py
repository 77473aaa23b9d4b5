"""Bilinear maps whose value, gradients and batched forms are each computed by the code that is fastest for them."""

import functools
from collections.abc import Callable, Hashable
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array

from sciml import cut

Form = Callable[[Array, Array, Any], Array]


class Bilinear:
    """The three bilinear maps of a trilinear form T(x, w, y) = <forward(x, w), y> in fields x, y and weights w.

    `forward(x, w)`, `input_gradient(y, w)` and `weight_gradient(x, y)` are each other's transposes, and each is a JAX
    primitive whose derivatives are the other two. The system is closed: gradients of every order, under `jax.vmap`
    inside or outside, compile to these three and to nothing else. A `jax.custom_vjp` cannot say this: it has no
    forward mode, and the weight gradient of a batched call would be computed for each sample and then summed.

    Fields have a leading batch axis, weights have none. An axis that `jax.vmap` maps over fields alone is merged into
    the batch axis; where it maps over weights, or asks for one weight gradient per sample, the reference is vmapped.

    Args:
        name: Of the primitives, as jaxprs show it.
        reference: The three maps for every backend, differentiable by JAX; called as `map(a, b, static)`.
        cpu: The three maps that are compiled for the CPU.
    """

    def __init__(self, name: str, reference: tuple[Form, Form, Form], cpu: tuple[Form, Form, Form]) -> None:
        names = (name, f"{name}_input_gradient", f"{name}_weight_gradient")
        f, gx, gw = (_primitive(own, general, fast) for own, general, fast in zip(names, reference, cpu, strict=True))
        ad.defbilinear(
            f, lambda ct, x, w, static: _bind(gx, ct, w, static), lambda ct, x, w, static: _bind(gw, x, ct, static)
        )
        ad.defbilinear(
            gx, lambda ct, y, w, static: _bind(f, ct, w, static), lambda ct, y, w, static: _bind(gw, ct, y, static)
        )
        ad.defbilinear(
            gw, lambda ct, x, y, static: _bind(gx, y, ct, static), lambda ct, x, y, static: _bind(f, x, ct, static)
        )
        for primitive, plain in zip((f, gx), reference, strict=False):
            batching.primitive_batchers[primitive] = functools.partial(_merge, primitive, plain)
        batching.primitive_batchers[gw] = functools.partial(_map, reference[2])
        self._maps = (f, gx, gw)
        self._reference = reference

    def forward(self, x: Array, w: Array, static: Hashable) -> Array:
        """The field y that is linear in the field `x` and in the weights `w`."""
        return _bind(self._maps[0], x, w, static)

    def input_gradient(self, y: Array, w: Array, static: Hashable) -> Array:
        """The transpose of `forward` in x."""
        return _bind(self._maps[1], y, w, static)

    def weight_gradient(self, x: Array, y: Array, static: Hashable) -> Array:
        """The transpose of `forward` in w, summed over the batch."""
        return _bind(self._maps[2], x, y, static)

    def forms(self) -> dict[Primitive, Callable[..., Array]]:
        """The reference of each primitive, called as `form(a, b, static=static)`."""
        return dict(zip(self._maps, map(_with_static, self._reference), strict=True))


def _primitive(name: str, reference: Form, cpu: Form) -> Primitive:
    primitive = Primitive(name)

    @functools.cache
    def shape_of(a: Any, b: Any, static: Hashable) -> Any:
        out = jax.eval_shape(lambda a, b: reference(a, b, static), a, b)
        placement = {"sharding": out.sharding, "manual_axis_type": out.manual_axis_type}
        return ShapedArray(out.shape, out.dtype, **{name: at for name, at in placement.items() if at is not None})

    def abstract(a: Any, b: Any, *, static: Hashable) -> Any:
        return shape_of(a, b, static)

    primitive.def_abstract_eval(abstract)
    primitive.def_impl(jax.jit(primitive.bind, static_argnames="static"))
    mlir.register_lowering(primitive, mlir.lower_fun(_with_static(reference), multiple_results=False))
    mlir.register_lowering(primitive, mlir.lower_fun(_with_static(cpu), multiple_results=False), platform="cpu")
    return primitive


def _with_static(form: Form) -> Callable[..., Array]:
    return lambda a, b, *, static: form(a, b, static)


def _bind(primitive: Primitive, a: Array, b: Array, static: Hashable) -> Array:
    dtype = jnp.result_type(a, b)
    a, b = jnp.asarray(a, dtype), jnp.asarray(b, dtype)
    return primitive.bind(cut.like(a, b), cut.like(b, a), static=static)


def _map(plain: Form, operands: tuple, axes: tuple, *, static: Hashable) -> tuple[Array, int]:
    return jax.vmap(lambda a, b: plain(a, b, static), in_axes=axes)(*operands), 0


def _merge(primitive: Primitive, plain: Form, operands: tuple, axes: tuple, *, static: Hashable) -> tuple[Array, int]:
    if axes[1] is not None:
        return _map(plain, operands, axes, static=static)
    fields = jnp.moveaxis(operands[0], axes[0], 0)
    out = primitive.bind(fields.reshape(-1, *fields.shape[2:]), operands[1], static=static)
    return out.reshape(*fields.shape[:2], *out.shape[1:]), 0
