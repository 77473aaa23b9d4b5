"""StableHLO: a program for every backend of XLA, which JAX loads without the code of the model."""

import pathlib
from collections.abc import Sequence

import jax
from jaxtyping import PyTree

from sciml.export._program import Shape, program_of
from sciml.files import write_bytes


def stablehlo(
    model: PyTree,
    shape: Shape,
    path: str | pathlib.Path,
    *,
    batch: str | int = "batch",
    smallest: int = 1,
    platforms: Sequence[str] = ("cpu", "cuda", "tpu"),
) -> None:
    """Writes the program of a model with its weights, in float32, in the format of `jax.export`.

    No code of this package is needed to run it, on any of the platforms:

        program = jax.export.deserialize(bytearray(pathlib.Path("model.stablehlo").read_bytes()))
        y = program.call(x)  # x (batch, channels, *space)

    The StableHLO module is `program.mlir_module_serialized`, for other readers. Its operations are those of XLA alone.

    Args:
        model: An operator, an `operators.Conditioned` (arguments in the order frames, fixed, parameters, dt, without
            those that it does not look at), or any function of one field.
        shape: `(channels, *space)` of a field, or of one frame. A size that is a name, `(1, "n", "n")`, is chosen when
            the program runs, and `"2*n"` is any even one. Operators that are made for one grid do not take names.
        path: The file to write.
        batch: Size of the batch, or its name.
        smallest: Least value of the sizes of space with a name. A Fourier layer needs more points than it keeps modes.
        platforms: Of `cpu`, `cuda`, `rocm` and `tpu`.

    Raises:
        ValueError: If the model does not take such fields, or not fields whose size is a name.
        OSError: If the file cannot be written.
    """
    program = program_of(model, shape)
    with jax.enable_x64(False):
        arguments = program.arguments(batch, smallest)
        try:
            exported = jax.export.export(jax.jit(program.batched), platforms=platforms)(*arguments)
        except Exception as error:  # what JAX raises has no common class
            named = any(isinstance(size, str) for known in program.inputs.values() for size in known)
            if not named:
                raise
            raise ValueError(
                f"The model does not take fields {shape}, whose sizes have names: {str(error).splitlines()[0]:.300} "
                "Give numbers in their place, a larger `smallest`, or names of sizes that it can take, such as 2*n."
            ) from error
    write_bytes(pathlib.Path(path), bytes(exported.serialize()))
