"""ONNX graphs give in onnxruntime what the models give in JAX."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import OPERATORS, stirred
from jax import lax

from sciml import export
from sciml.grid import Dirichlet, Grid, Neumann, Periodic
from sciml.operators import FNO

onnx = pytest.importorskip("onnx", reason="the extra `export` is not installed")
ort = pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")

BATCH, IN, OUT, NX, NY = 2, 3, 5, 16, 24  # no two equal: a swapped axis cannot pass
GRID = Grid((NX, NY), extent=(1.0, 2.0), boundary=((Dirichlet(), Neumann()), Periodic()))
CLOSE = 1e-6  # relative L2: both compute in float32 (6e-8), through up to 100 operations one after another
# Each shares its operations with another row.
SLOW = ("residual unet", "convnext unet", "convnet", "modern resnet", "padded", "rematerialised", "patched", "uno",
        "resampled", "normalised", "global resnet", "residual mgno", "unet")  # fmt: skip


def session(path):
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def assert_equal_to_jax(model, shape, path, batch=BATCH):
    """The graph and the model agree on a batch of another size than 1."""
    export.onnx(model, shape, path)
    x = np.random.default_rng(1).normal(size=(batch, *shape)).astype(np.float32)
    expected = np.asarray(jax.jit(jax.vmap(model))(x))
    (found,) = session(path).run(None, {"x": x})
    assert found.shape == expected.shape
    assert found.dtype == np.float32
    assert np.linalg.norm(found - expected) < CLOSE * np.linalg.norm(expected)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in OPERATORS]
)
def test_every_operator(name, tmp_path):
    model = stirred(lambda: OPERATORS[name].make(IN, OUT, GRID, jax.random.key(0)))
    assert_equal_to_jax(model, (IN, NX, NY), tmp_path / "model.onnx")


def test_graphs_have_ordinary_real_operations_alone(tmp_path):
    export.onnx(stirred(lambda: OPERATORS["fno"].make(IN, OUT, GRID, jax.random.key(0))), (IN, NX, NY), tmp_path / "m")
    graph = onnx.load(tmp_path / "m").graph
    assert {node.domain for node in graph.node} == {""}
    operations = {node.op_type for node in graph.node}
    assert "Gelu" in operations
    assert not {"DFT", "STFT", "Einsum"} & operations
    assert [size.dim_param or size.dim_value for size in graph.input[0].type.tensor_type.shape.dim] == [
        "batch",
        3,
        16,
        24,
    ]
    assert [size.dim_param or size.dim_value for size in graph.output[0].type.tensor_type.shape.dim] == [
        "batch",
        5,
        16,
        24,
    ]


@pytest.mark.parametrize("space", [(256,), (160, 128)])
def test_a_full_fourier_transform_becomes_matrix_products(space, tmp_path):
    model = stirred(lambda: FNO(2, 3, modes=space, width=2, depth=1, key=jax.random.key(0)))
    assert "stablehlo.fft" in jax.jit(jax.vmap(model)).lower(jnp.zeros((1, 2, *space))).as_text()
    assert_equal_to_jax(model, (2, *space), tmp_path / "model.onnx")


def _kernel(*shape):
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


def _conv(shape, stride, padding, spread, dilation, groups=1):
    return lambda x: lax.conv_general_dilated(
        x[None], _kernel(*shape), (stride,), [padding], (spread,), (dilation,), feature_group_count=groups
    )[0]


FUNCTIONS = {
    "strided convolution": _conv((5, 4, 3), 2, (1, 2), 1, 1),
    "dilated convolution without some edges": _conv((5, 4, 3), 1, (-1, 4), 1, 2),
    "transposed convolution": _conv((5, 4, 3), 1, (1, 2), 2, 1),
    "dilated transposed convolution with wide edges": _conv((5, 4, 3), 1, (7, -1), 3, 2),
    "convolution in groups": _conv((6, 2, 3), 2, (1, 2), 1, 1, 2),
    "transposed convolution in groups": _conv((6, 2, 3), 1, (1, 2), 2, 1, 2),
    "padding between values": lambda x: lax.pad(x, 1.0, [(1, 2, 1), (-2, 3, 2)]),
    "entries": lambda x: jnp.take(x, jnp.array([[3, 1], [0, 2]]), axis=1)[jnp.array([2, 0])],
    "box": lambda x: lax.dynamic_slice(x, (1, 2), (3, 4)),
    "contraction of a middle axis": lambda x: jnp.einsum("abc,dbe->edac", x.reshape(4, 2, 4), _kernel(3, 2, 5)),
    "contraction of two axes": lambda x: jnp.einsum("abc,abd->cd", x.reshape(4, 2, 4), x.reshape(4, 2, 4)),
    "reductions": lambda x: jnp.std(x) + x.max(0) + x.min(1, keepdims=True) + jnp.prod(x, 0) + jnp.argmax(x, 0),
    "repetitions": lambda x: jnp.broadcast_to(x[:1], x.shape).sum(0) + jnp.tile(x, (1, 2))[0, 3:11],
    "powers": lambda x: jnp.abs(x) ** 1.5 + x**3 + (2 + x**2) ** -2 + lax.rsqrt(1 + x * x),
    "activations": lambda x: jax.nn.silu(x) + jax.nn.softplus(x) + jax.nn.elu(x) + jax.nn.gelu(x) + jax.nn.softmax(x),
    "choices": lambda x: jnp.where((x > 0) & ~(x > 1), x, -x) + jnp.clip(x, -1, 1) + jnp.sign(x) + jnp.floor(x),
    "largest in windows": lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (1, 3), (1, 2), "SAME"),
    "loop": lambda x: lax.scan(lambda c, r: (c * 0.5 + r, c), jnp.zeros(8), x, reverse=True)[1],
    "complex numbers": lambda x: jnp.fft.ifft(jnp.fft.fft(x, axis=0) * (1 + 2j) / 3, axis=1).real,
    "part of a transform": lambda x: jnp.fft.irfft2(jnp.fft.rfft2(x)[:, :4], s=(4, 6)),
    "a constant": lambda x: jnp.ones((3, 4)),
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_operations_that_networks_of_users_contain(name, tmp_path):
    with jax.numpy_rank_promotion("allow"):
        assert_equal_to_jax(FUNCTIONS[name], (4, 8), tmp_path / "model.onnx", batch=3)


@pytest.mark.parametrize(
    ("function", "what"),
    [
        (lambda x: lax.while_loop(lambda c: c.sum() > 0, lambda c: c - 1, x), "the operation while"),
        (lambda x: lax.scan(lambda c, _: (jnp.sin(c), None), x, None, length=500)[0], "a loop of 500 steps"),
        (lambda x: jnp.sort(x), "the operation sort"),
        (lambda x: x[jnp.array([1, 0]), jnp.array([2, 3])], "gathering along several axes"),
        (lambda x: jnp.fft.rfft(jnp.resize(x, (1, 4096))).real, "a Fourier transform of 4096 points"),
    ],
)
def test_what_cannot_be_written_is_named_with_its_place(function, what, tmp_path):
    with pytest.raises(ValueError, match=rf"contains {what}.*, in .*test_onnx.py:\d+.*StableHLO"):
        export.onnx(function, (4, 8), tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()


def test_sizes_with_names_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"shape of numbers, got \(1, 'n'\).*one grid"):
        export.onnx(lambda x: x, (1, "n"), tmp_path / "model.onnx")


def test_numbers_of_double_precision_are_written_in_single_precision(tmp_path):
    with jax.enable_x64(True):
        weight = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4)))
        export.onnx(jax.tree_util.Partial(jnp.matmul, weight), (4, 5), tmp_path / "model.onnx")
    x = np.random.default_rng(1).normal(size=(2, 4, 5)).astype(np.float32)
    (found,) = session(tmp_path / "model.onnx").run(None, {"x": x})
    np.testing.assert_allclose(found, np.asarray(weight) @ x, rtol=1e-5, atol=1e-6)
