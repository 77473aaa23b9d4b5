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
import timer
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from sciml import cut, nn, operators, parallel
from sciml.grid import Dirichlet, Grid

RESULTS = pathlib.Path(__file__).resolve().parent / "results" / "communication.json"
DEVICES = 8
CHANNELS, BATCH = 32, 1


def cut_fields(apply: Callable, mesh: jax.sharding.Mesh, fields: PartitionSpec) -> Callable:
    """`apply(weights, x)` on parts, with the gradients of its mean square."""

    def forward(weights, x):
        return jax.shard_map(apply, mesh=mesh, in_specs=(PartitionSpec(), fields), out_specs=fields)(weights, x)

    return forward


def transposing(weight: jax.Array, x: jax.Array, *, modes: tuple[int, ...], name: str) -> jax.Array:
    """A Fourier layer of slabs `(n / devices, n, n, batch, channels)` by a transposing FFT that drops modes early."""
    m0, m1, m2 = modes[0], modes[1], modes[2] // 2 + 1
    n0, n1, n2 = x.shape[0] * jax.lax.axis_size(name), x.shape[1], x.shape[2]

    def kept(z, m, axis):
        ascending = jax.lax.slice_in_dim(jnp.roll(z, m // 2, axis), 0, m, axis=axis)
        return jnp.roll(ascending, -(m // 2), axis)

    z = jnp.fft.rfftn(x, axes=(1, 2), norm="forward")
    z = kept(z[:, :, :m2], m1, 1)
    z = jax.lax.all_to_all(z, name, split_axis=1, concat_axis=0, tiled=True)
    z = kept(jnp.fft.fft(z, axis=0, norm="forward"), m0, 0)
    own = jax.lax.dynamic_slice_in_dim(weight, jax.lax.axis_index(name) * z.shape[1], z.shape[1], axis=1)
    z = jnp.einsum("xyzbi,xyzio->xyzbo", z, jax.lax.complex(own[..., 0, :], own[..., 1, :]))

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


def fourier(n: int, m: int) -> dict[str, tuple]:
    """Forms of one Fourier layer in three dimensions: function, weight, input, how the input is cut, mesh."""
    modes, mesh = (m,) * 3, jax.make_mesh((DEVICES,), (cut.SPACE[0],), axis_types=(AxisType.Auto,))
    layer = jax.eval_shape(lambda key: nn.SpectralConv(CHANNELS, CHANNELS, modes, key=key), jax.random.key(0))
    x = jax.ShapeDtypeStruct((n, n, n, BATCH, CHANNELS), jnp.float32)
    slabs = PartitionSpec(cut.SPACE[0])
    multiply = lambda layer, x: layer.multiply(x)
    transposed = functools.partial(transposing, modes=modes, name=cut.SPACE[0])
    return {
        "sciml": (cut_fields(multiply, mesh, slabs), layer, x, slabs, mesh),
        "transposing FFT": (cut_fields(transposed, mesh, slabs), layer.weight, x, slabs, mesh),
        "XLA": (multiply, layer, x, slabs, mesh),
        "XLA, jnp.fft": (functools.partial(plain, modes=modes), layer.weight, x, slabs, mesh),
    }


def multigrid(n: int, parts: tuple[int, int]) -> dict[str, tuple]:
    """Forms of an MgNO in two dimensions."""
    names = cut.SPACE[: len(parts)]
    mesh = jax.make_mesh(parts, names, axis_types=(AxisType.Auto,) * len(parts))
    grid = Grid((n, n), boundary=Dirichlet())
    model = operators.MgNO(1, 1, grid=grid, width=24, depth=4, levels=6, key=jax.random.key(0))
    arrays, static = nn.partition(model)
    x = jax.ShapeDtypeStruct((BATCH, 1, n, n), jnp.float32)
    fields = PartitionSpec(None, None, *names)

    apply = lambda arrays, x: jax.vmap(eqx.combine(arrays, static))(x)
    return {
        "sciml": (cut_fields(apply, mesh, fields), arrays, x, fields, mesh),
        "XLA": (apply, arrays, x, fields, mesh),
    }


CASES: dict[str, Callable[[], dict[str, tuple]]] = {
    "mgno 256^2": lambda: multigrid(256, (4, 2)),
    "fno 256^3": lambda: fourier(256, 32),
    "fno 512^3": lambda: fourier(512, 64),
}


def measured(function: Callable, weights, x: jax.ShapeDtypeStruct, fields: PartitionSpec, mesh) -> dict:
    """Bytes that a device sends, and what the compiler plans for its memory."""
    whole, own = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, fields)
    weights = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=whole), weights)
    x = jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=own)
    gradient = jax.grad(lambda weights, x: jnp.mean(function(weights, x) ** 2), argnums=(0, 1))
    found = {}
    for name, one, out in (("forward", function, own), ("gradient", gradient, (whole, own))):
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
        for form, arguments in CASES[name]().items():
            try:
                row[form] = measured(*arguments)
            except (jax.errors.JaxRuntimeError, MemoryError) as error:
                row[form] = {"not_measured": str(error).splitlines()[0][:200]}
            shown = [f"{part} {it['sent_bytes']:,.0f} B" for part, it in row[form].items() if "sent_bytes" in it]
            print(f"{name}, {form}: {', '.join(shown) or row[form]}", flush=True)
            timer.write(given.out, result)


if __name__ == "__main__":
    main()
