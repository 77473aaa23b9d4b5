"""What do exported operators compute, beside the same operators in JAX?

    python benchmarks/export_errors.py

Relative L2 difference in float32 of a batch of 2 on 32 x 48 points, for every operator of the shared test suite with
random weights: of the ONNX graph in onnxruntime, of the StableHLO program, and of the StableHLO program whose
resolution is chosen when it runs, or why there is none. `double` is the difference of JAX's own result from that in
double precision. Needs the extra `export`.
"""

import pathlib
import sys
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
import timer

ROOT = pathlib.Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "export_errors.json"
BATCH, IN, OUT, SPACE = 2, 3, 5, (32, 48)


def main() -> None:
    """Writes the table."""
    sys.path.insert(0, str(ROOT / "tests"))
    import onnxruntime
    from helpers import OPERATORS

    result = {"jax": jax.__version__, "onnxruntime": onnxruntime.__version__, "operators": {}}
    for name, case in OPERATORS.items():
        result["operators"][name] = row(case)
        print(name, result["operators"][name], flush=True)
        timer.write(RESULTS, result)


def row(case) -> dict:
    """The differences of one operator."""
    from helpers import stirred

    from sciml import export
    from sciml.grid import Dirichlet, Grid, Neumann, Periodic

    walls = Grid(SPACE, (1.0, 2.0), ((Dirichlet(), Neumann()), Periodic()))
    make = lambda grid: stirred(lambda: case.make(IN, OUT, grid, jax.random.key(0)))
    model, x = make(walls), np.random.default_rng(1).normal(size=(BATCH, IN, *SPACE)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model"
        expected = np.asarray(jax.jit(jax.vmap(model))(x))
        found = {"double": difference(expected, in_double_precision(model, x))}
        export.onnx(model, (IN, *SPACE), path)
        found["onnx"] = difference(in_onnxruntime(path, x), expected)
        export.stablehlo(model, (IN, *SPACE), path)
        found["stablehlo"] = difference(loaded(path)(x), expected)
        if not case.any_resolution:
            return found | {"open": "made for one grid"}
        model = make(Grid(SPACE, (1.0, 2.0)))
        try:
            export.stablehlo(model, (IN, "2*n", "2*m"), path, smallest=16)
        except ValueError as error:
            return found | {"open": str(error)}
        return found | {"open": difference(loaded(path)(x), np.asarray(jax.jit(jax.vmap(model))(x)))}


def difference(found: np.ndarray, expected: np.ndarray) -> float:
    """Relative, in the L2 norm."""
    found, expected = (np.asarray(one, np.float64) for one in (found, expected))
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def in_double_precision(model, x: np.ndarray) -> np.ndarray:
    with jax.enable_x64(True):
        wide = lambda leaf: jnp.asarray(leaf, jnp.float64) if getattr(leaf, "dtype", None) == jnp.float32 else leaf
        return np.asarray(jax.jit(jax.vmap(jax.tree.map(wide, model)))(jnp.asarray(x, jnp.float64)))


def in_onnxruntime(path: pathlib.Path, x: np.ndarray) -> np.ndarray:
    import onnxruntime

    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]


def loaded(path: pathlib.Path):
    return jax.export.deserialize(bytearray(path.read_bytes())).call


if __name__ == "__main__":
    main()
