"""How many bytes does each device send when fields are cut over 8 devices, in our form and in others?

    python benchmarks/communication.py [--case "fno 256^3" ...]

Nothing is run: the bytes are read from the compiled programs, of a layer or an operator and of its gradient in weights
and input, by ring algorithms (`parallel.exchanges`). `sciml` sums the kept modes of a Fourier layer over the parts, and
sends the faces of stencils. `XLA` is the same layer or operator under `jax.jit` with its input cut in the same way,
where the compiler decides; `XLA, jnp.fft` is a Fourier layer as one writes it with `jnp.fft`. `transposing FFT`
transforms the axes that are whole, drops modes, exchanges parts of axis 0 for parts of axis 1, transforms axis 0,
multiplies, and goes back.
"""

import argparse
import dataclasses
import functools
import json
import os
import pathlib
import time
from collections.abc import Callable

os.environ.setdefault("JAX_NUM_CPU_DEVICES", "8")  # before JAX starts

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import timer
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from sciml import cut, nn, operators, parallel
from sciml.grid import Dirichlet, Grid

RESULTS = pathlib.Path(__file__).resolve().parent / "results" / "communication.json"
DEVICES = 8
CHANNELS, BATCH = 32, 1


@dataclasses.dataclass(frozen=True)
class Form:
    """A form of a layer or an operator.

    Attributes:
        forward: `(weights, x) -> y`.
        weights: Shapes of the weights.
        x: Shape of the input.
        fields: How input and output are cut.
        mesh: The devices.
        of_weights: How the weights are cut.
        gradient: `(weights, x) -> gradient of the mean square`; by default JAX's of `forward`.
    """

    forward: Callable
    weights: PyTree
    x: jax.ShapeDtypeStruct
    fields: PartitionSpec
    mesh: jax.sharding.Mesh
    of_weights: PartitionSpec
    gradient: Callable | None = None


def on_parts(apply: Callable, fields: PartitionSpec, mesh: jax.sharding.Mesh, weights: PartitionSpec) -> Callable:
    """`apply(weights, x)` for each part."""
    return jax.shard_map(apply, mesh=mesh, in_specs=(weights, fields), out_specs=fields)


def trained(apply: Callable, fields: PartitionSpec, mesh: jax.sharding.Mesh) -> Callable:
    """The gradient on parts as a step of training has it: those of stencils are summed over the parts at once."""

    def part(weights, x):
        leaves, structure = jax.tree.flatten(weights)
        each = zip(leaves, nn.acts_on_modes(weights), strict=True)
        own = jax.tree.unflatten(structure, [w if modes else cut.cast(w, mesh.axis_names) for w, modes in each])
        slopes, slope = jax.grad(lambda w, x: cut.mean_square(apply(w, x)), argnums=(0, 1))(own, x)
        leaves = jax.tree.leaves(slopes)
        varying = [i for i, leaf in enumerate(leaves) if cut.varying(leaf)]
        if varying:
            sums = jax.lax.psum(jnp.concatenate([leaves[i].ravel() for i in varying]), mesh.axis_names)
            ends = np.cumsum([leaves[i].size for i in varying])[:-1]
            for i, found in zip(varying, jnp.split(sums, ends), strict=True):
                leaves[i] = found.reshape(leaves[i].shape)
        return jax.tree.unflatten(structure, leaves), slope

    whole = PartitionSpec()
    return jax.shard_map(part, mesh=mesh, in_specs=(whole, fields), out_specs=(whole, fields))


def transposing(weight: jax.Array, x: jax.Array, *, modes: tuple[int, ...], name: str) -> jax.Array:
    """A Fourier layer of slabs `(n / devices, n, n, batch, channels)` by a transposing FFT that drops modes early.

    Each device has the weights of its part of the modes along axis 1.
    """
    m0, m1, m2 = modes[0], modes[1], modes[2] // 2 + 1
    n0, n1, n2 = x.shape[0] * jax.lax.axis_size(name), x.shape[1], x.shape[2]

    def kept(z, m, axis):
        ascending = jax.lax.slice_in_dim(jnp.roll(z, m // 2, axis), 0, m, axis=axis)
        return jnp.roll(ascending, -(m // 2), axis)

    z = jnp.fft.rfftn(x, axes=(1, 2), norm="forward")
    z = kept(z[:, :, :m2], m1, 1)
    z = jax.lax.all_to_all(z, name, split_axis=1, concat_axis=0, tiled=True)
    z = kept(jnp.fft.fft(z, axis=0, norm="forward"), m0, 0)
    z = jnp.einsum("xyzbi,xyzio->xyzbo", z, jax.lax.complex(weight[..., 0, :], weight[..., 1, :]))

    def filled(z, n, axis):
        half = z.shape[axis] // 2
        low, high = jax.lax.slice_in_dim(z, 0, half, axis=axis), jax.lax.slice_in_dim(z, half, None, axis=axis)
        gap = jnp.zeros((*z.shape[:axis], n - z.shape[axis], *z.shape[axis + 1 :]), z.dtype)
        return jnp.concatenate((low, cut.like(gap, z), high), axis)

    z = jnp.fft.ifft(filled(z, n0, 0), axis=0, norm="forward")
    z = jax.lax.all_to_all(z, name, split_axis=0, concat_axis=1, tiled=True)
    z = jnp.fft.ifft(filled(z, n1, 1), axis=1, norm="forward")
    return jnp.fft.irfft(z, n2, axis=2, norm="forward")


def plain(weight: jax.Array, x: jax.Array, *, modes: tuple[int, ...]) -> jax.Array:
    """The layer with `jnp.fft` on whole fields, in a jitted function whose arrays are cut."""
    half = modes[2] // 2 + 1
    z = jnp.fft.rfftn(x, axes=(0, 1, 2), norm="forward")
    corners = [slice(0, modes[0] // 2), slice(x.shape[0] - modes[0] // 2, None)]
    sides = [slice(0, modes[1] // 2), slice(x.shape[1] - modes[1] // 2, None)]
    w = jax.lax.complex(weight[..., 0, :], weight[..., 1, :])
    y = jnp.zeros((*z.shape[:-1], weight.shape[-1]), z.dtype)
    for i, corner in enumerate(corners):
        for j, side in enumerate(sides):
            here = w[i * (modes[0] // 2) :][: modes[0] // 2, j * (modes[1] // 2) :][:, : modes[1] // 2]
            part = jnp.einsum("xyzbi,xyzio->xyzbo", z[corner, side, :half], here)
            y = y.at[corner, side, :half].set(part)
    return jnp.fft.irfftn(y, x.shape[:3], axes=(0, 1, 2), norm="forward")


def fourier(n: int, m: int) -> dict[str, Form]:
    """Forms of one Fourier layer in three dimensions."""
    name, modes = cut.SPACE[0], (m,) * 3
    mesh = jax.make_mesh((DEVICES,), (name,), axis_types=(AxisType.Auto,))
    layer = jax.eval_shape(lambda key: nn.SpectralConv(CHANNELS, CHANNELS, modes, key=key), jax.random.key(0))
    x = jax.ShapeDtypeStruct((n, n, n, BATCH, CHANNELS), jnp.float32)
    whole, slabs, of_modes = PartitionSpec(), PartitionSpec(name), PartitionSpec(None, name)
    multiply = lambda layer, x: layer.multiply(x)
    transposed = functools.partial(transposing, modes=modes, name=name)
    ours = on_parts(multiply, slabs, mesh, whole)
    theirs = on_parts(transposed, slabs, mesh, of_modes)
    return {
        "sciml": Form(ours, layer, x, slabs, mesh, whole, gradient=trained(multiply, slabs, mesh)),
        "transposing FFT": Form(theirs, layer.weight, x, slabs, mesh, of_modes),
        "XLA": Form(multiply, layer, x, slabs, mesh, whole),
        "XLA, jnp.fft": Form(functools.partial(plain, modes=modes), layer.weight, x, slabs, mesh, whole),
    }


def multigrid(n: int, parts: tuple[int, int]) -> dict[str, Form]:
    """Forms of an MgNO in two dimensions."""
    names = cut.SPACE[: len(parts)]
    mesh = jax.make_mesh(parts, names, axis_types=(AxisType.Auto,) * len(parts))
    grid = Grid((n, n), boundary=Dirichlet())
    model = operators.MgNO(1, 1, grid=grid, width=24, depth=4, levels=6, key=jax.random.key(0))
    arrays, static = nn.partition(model)
    x, fields = jax.ShapeDtypeStruct((BATCH, 1, n, n), jnp.float32), PartitionSpec(None, None, *names)
    apply = lambda arrays, x: jax.vmap(eqx.combine(arrays, static))(x)
    whole = PartitionSpec()
    ours = on_parts(apply, fields, mesh, whole)
    return {
        "sciml": Form(ours, arrays, x, fields, mesh, whole, gradient=trained(apply, fields, mesh)),
        "XLA": Form(apply, arrays, x, fields, mesh, whole),
    }


CASES: dict[str, Callable[[], dict[str, Form]]] = {
    "mgno 256^2": lambda: multigrid(256, (4, 2)),
    "fno 256^3": lambda: fourier(256, 32),
    "fno 512^3": lambda: fourier(512, 64),
}


def measured(form: Form) -> dict:
    """Bytes that a device sends, and what the compiler plans for its memory."""
    of_weights, own = NamedSharding(form.mesh, form.of_weights), NamedSharding(form.mesh, form.fields)
    placed = lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=of_weights)
    whole = NamedSharding(form.mesh, PartitionSpec())
    small = lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=whole)
    weights = jax.tree.map(lambda leaf: placed(leaf) if leaf.ndim > 1 else small(leaf), form.weights)
    x = jax.ShapeDtypeStruct(form.x.shape, form.x.dtype, sharding=own)
    by_jax = jax.grad(lambda weights, x: jnp.mean(form.forward(weights, x) ** 2), argnums=(0, 1))
    gradient, out_gradient = form.gradient or by_jax, (jax.tree.map(lambda leaf: leaf.sharding, weights), own)
    found = {}
    for name, one, out in (("forward", form.forward, own), ("gradient", gradient, out_gradient)):
        begun = time.perf_counter()
        compiled = jax.jit(one, out_shardings=out).lower(weights, x).compile()
        program = parallel.exchanges(compiled.as_text(), DEVICES)
        kinds = {kind: sum(e.sent for e in program if e.kind == kind) for kind in sorted({e.kind for e in program})}
        plan = compiled.memory_analysis()
        found[name] = {
            "sent_bytes": parallel.sent(program),
            "operations": len(program),
            "sent_bytes_by_kind": kinds,
            "memory_bytes": plan.temp_size_in_bytes + plan.argument_size_in_bytes + plan.output_size_in_bytes,
            "compile_seconds": round(time.perf_counter() - begun, 1),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS)
    given = parser.parse_args()
    result = json.loads(given.out.read_text()) if given.out.exists() else {}
    result |= {"jax": jax.__version__, "devices": DEVICES, "channels": CHANNELS, "batch": BATCH}
    for name in given.case:
        row = result.setdefault("cases", {}).setdefault(name, {})
        for form, described in CASES[name]().items():
            try:
                row[form] = measured(described)
            except (jax.errors.JaxRuntimeError, MemoryError) as error:
                row[form] = {"not_measured": str(error).splitlines()[0][:200]}
            shown = [f"{part} {it['sent_bytes']:,.0f} B" for part, it in row[form].items() if "sent_bytes" in it]
            print(f"{name}, {form}: {', '.join(shown) or row[form]}", flush=True)
            timer.write(given.out, result)


if __name__ == "__main__":
    main()
