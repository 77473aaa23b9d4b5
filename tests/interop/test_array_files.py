"""Arrays by name from files: safetensors, archives of NumPy and PyTorch; damaged and hostile ones."""

import io
import json
import pathlib
import pickle
import struct
import zipfile

import equinox as eqx
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from helpers import assert_trees_close

from sciml import files, interop
from sciml.nn import MLP
from sciml.operators import FNO

HERE = pathlib.Path(__file__).parent
CARD = {"channels": ["permeability", "pressure"], "extent": [1.0, 2.0], "test": {"relative_l2": 0.01}}


def fno(width=4, dtype=jnp.float32):
    model = FNO(1, 2, modes=(4, 3), width=width, depth=1, key=jax.random.key(0))
    return jax.tree.map(lambda leaf: leaf.astype(dtype), model)


def kinds():
    names = ["bool", "uint8", "int8", "uint16", "int16", "int32", "uint64", "int64", "float16", "float32", "float64"]
    arrays = {name: (np.arange(6) % 2).reshape(2, 3).astype(name) for name in [*names, "complex64"]}
    for name in ("bfloat16", "float8_e4m3fn", "float8_e5m2"):
        arrays[name] = np.arange(3).astype(getattr(ml_dtypes, name))
    return arrays | {"scalar": np.float32(3.5), "empty": np.zeros((0, 2), np.int32), "transposed": arrays["int16"].T}


def content(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def write(path, text):
    path.write_bytes(text)
    return path


def test_models_go_out_and_come_back_with_their_card(tmp_path):
    model = fno()
    interop.write_safetensors(tmp_path / "a.safetensors", model, CARD)
    like = eqx.filter_eval_shape(fno)
    again, card = interop.read_safetensors(tmp_path / "a.safetensors", like=like)
    assert card == CARD
    assert_trees_close(again, model, rtol=0)
    names = set(interop.read_arrays(tmp_path / "a.safetensors"))
    assert {"blocks.0.spectral.weight", "lifting.1.bias", "blocks.0.gate"} <= names
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_every_type_of_array(tmp_path):
    path = tmp_path / "a"
    files.write_safetensors(path, kinds(), {})
    found, card = files.read_safetensors(path)
    assert card == {}
    for name, array in kinds().items():
        assert found[name].dtype == array.dtype
        assert found[name].shape == array.shape
        assert found[name].tobytes() == array.tobytes()
    text = path.read_bytes()
    header = json.loads(text[8 : 8 + struct.unpack("<Q", text[:8])[0]])
    starts = {name: header[name]["data_offsets"][0] % array.dtype.itemsize for name, array in kinds().items()}
    assert set(starts.values()) == {0}


def test_the_package_reads_our_files_and_we_read_its_own(tmp_path):
    package = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed")
    arrays = {name: array for name, array in kinds().items() if array.dtype.kind in "fiub" and "float8" not in name}
    files.write_safetensors(tmp_path / "ours", arrays, CARD)
    package.save_file(
        {name: np.ascontiguousarray(array) for name, array in arrays.items()}, tmp_path / "theirs", {"format": "np"}
    )
    theirs, texts = files.read_safetensors(tmp_path / "theirs")
    assert texts == {"format": "np"}
    for found in (package.load_file(tmp_path / "ours"), theirs):
        for name, array in arrays.items():
            np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("place", [0, 8, 40, -1, -100])
def test_a_changed_byte_is_noticed(place, tmp_path):
    path = tmp_path / "a"
    interop.write_safetensors(path, fno(), CARD)
    text = bytearray(path.read_bytes())
    text[place] ^= 1
    path.write_bytes(text)
    with pytest.raises((files.Damaged, ValueError)) as raised:
        interop.read_safetensors(path, like=fno())
    assert "\n" not in str(raised.value)


def mutated(text, rng):
    """The bytes with some changed, cut out or repeated."""
    text = bytearray(text)
    for _ in range(rng.integers(1, 4)):
        start, length = int(rng.integers(len(text))), int(rng.integers(1, 9))
        kind = rng.integers(3)
        if kind == 0:
            text[start : start + length] = rng.bytes(len(text[start : start + length]))
        else:
            text[start : start + length] = text[start : start + length] * (2 if kind == 1 else 0)
    return bytes(text)


@pytest.mark.parametrize("kind", ["safetensors", "npz", "pt"])
def test_damaged_files_give_their_arrays_or_one_line(kind, tmp_path):
    whole = {"a.weight": np.arange(6.0).reshape(2, 3), "b": np.ones(2, np.int8)}
    path, rng = tmp_path / "a", np.random.default_rng(0)
    if kind == "safetensors":
        files.write_safetensors(path, whole, CARD)
    elif kind == "npz":
        with path.open("wb") as file:
            np.savez(file, **whole)
    else:
        path = HERE / "neuraloperator_2_0_state_dict.pt"
    text, whole = path.read_bytes(), interop.read_arrays(path)
    refused = []
    for _ in range(300):
        changed = write(tmp_path / "b", mutated(text, rng))
        try:
            found = interop.read_arrays(changed)
        except (files.Damaged, ValueError) as error:
            refused.append(str(error))
        else:  # a damaged name or entry may be left; bytes of arrays have a checksum
            assert all(np.array_equal(found[name], whole[name]) for name in set(found) & set(whole))
    assert len(refused) > 100
    assert not any("\n" in one for one in refused)


def test_a_changed_card_or_a_cut_file_is_noticed(tmp_path):
    path = tmp_path / "a"
    interop.write_safetensors(path, fno(), CARD)
    text = path.read_bytes()
    path.write_bytes(text.replace(b"permeability", b"permeabilitz"))
    with pytest.raises(files.Damaged, match=r"the card of .* is damaged"):
        files.read_safetensors(path)
    for size in (0, 7, 30, len(text) - 1):
        path.write_bytes(text[:size])
        with pytest.raises((files.Damaged, ValueError)):
            files.read_safetensors(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (content({}, length=2**62), "expected the length of its header, up to 2 bytes, got"),
        (content(b"{nonsense"), "the header of .* is damaged: expected JSON"),
        (content(b'{"a": 3}'), "holds something else than expected"),
        (content({"a": entry("F32", (3,))}, bytes(8)), r"of shape \[3\] to have 12 of the file's 8 bytes"),
        (content({"a": entry("F32", (2,), (0, 80))}, bytes(8)), "got those from 0 to 80"),
        (content({"a": entry("F32", (-2, -1))}, bytes(8)), r"of shape \[-2, -1\]"),
        (content({"a": entry("F32", (2**40, 2**40))}, bytes(8)), "to have .* bytes, got those from 0 to 8"),
        (content({"a": entry("F4")}, bytes(8)), "to be of BOOL, .*got 'F4'"),
        (content({"a": {"dtype": "F32"}}, bytes(8)), "Expected a shape and two offsets"),
        (content({"a": entry(), "b": entry()}, bytes(8)), "overlap, or leave bytes"),
        (content({"a": entry(), "b": entry(offsets=(12, 20))}, bytes(20)), "overlap, or leave bytes"),
        (content({"a": entry()}, bytes(9)), "overlap, or leave bytes"),
        (content({"a": entry() | {"shape": ["x"]}}, bytes(8)), "holds something else than expected"),
        (content({"__metadata__": {"card": "{"}}), "the card of .* is damaged"),
        (content({"__metadata__": {"card": 3}}), "holds something else"),
        (content({"a": entry(), "__metadata__": {"sha256": "0"}}, bytes(8)), "its bytes differ from their digest"),
    ],
)
def test_files_that_are_refused(text, message, tmp_path):
    with pytest.raises((files.Damaged, ValueError), match=message) as raised:
        interop.read_arrays(write(tmp_path / "a", text))
    assert "\n" not in str(raised.value)


def test_what_does_not_fit_the_model_is_named(tmp_path):
    path = tmp_path / "a"
    interop.write_safetensors(path, fno())
    with pytest.raises(ValueError, match=r"missing: \['layers.0.bias'.*left over: \['blocks.0.gate'"):
        interop.read_safetensors(path, like=MLP((1, 2), key=jax.random.key(0)))
    with pytest.raises(ValueError, match=r"Expected .* of shape \(.*Build `like` with the sizes"):
        interop.read_safetensors(path, like=fno(width=5))
    with pytest.raises(ValueError, match=r"Expected .* and type bfloat16, got .* and float32"):
        interop.read_safetensors(path, like=fno(dtype=jnp.bfloat16))
    with pytest.raises(FileNotFoundError, match="There is no file"):
        interop.read_safetensors(tmp_path / "b", like=fno())


def test_what_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="Expected arrays of numbers, got random keys in key"):
        interop.write_safetensors(tmp_path / "a", {"key": jax.random.key(0)})
    with pytest.raises(ValueError, match="Expected a card of finite numbers"):
        interop.write_safetensors(tmp_path / "a", fno(), {"error": float("nan")})
    with pytest.raises(ValueError, match=r"Expected arrays of the types .*got 'a' of complex128"):
        files.write_safetensors(tmp_path / "a", {"a": np.zeros(2, complex)}, {})
    assert list(tmp_path.iterdir()) == []


def test_archives_of_numpy(tmp_path):
    arrays = {"a.weight": np.arange(6.0).reshape(2, 3), "b": np.ones(2, np.int8)}
    np.savez(tmp_path / "a.npz", **arrays)
    found = interop.read_arrays(tmp_path / "a.npz")
    assert set(found) == set(arrays)
    np.testing.assert_array_equal(found["a.weight"], arrays["a.weight"])
    np.savez(tmp_path / "b.npz", a=np.array([{}], object))
    with pytest.raises(ValueError, match=r"b\.npz: expected arrays of numbers"):
        interop.read_arrays(tmp_path / "b.npz")
    with pytest.raises(ValueError, match="expected safetensors, a zip archive"):
        interop.read_arrays(write(tmp_path / "c", b"something else altogether"))


def test_nested_dictionaries_of_pytorch_give_names_with_dots(tmp_path):
    file = io.BytesIO()
    description = pickle.dumps({"epoch": 3, "model": {"best": [1.5, None, "x"]}}, protocol=2)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a/data.pkl", description)
    path = write(tmp_path / "a.pt", file.getvalue())
    assert files.read_torch(path) == {"epoch": 3, "model": {"best": [1.5, None, "x"]}}
    assert interop.read_arrays(path) == {}
    with pytest.raises(ValueError, match="no arguments of a constructor of neuraloperator"):
        interop.neuraloperator_config(path)


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


def test_no_code_of_a_checkpoint_runs(tmp_path):
    trace = tmp_path / "trace"
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a/data.pkl", pickle.dumps({"x": Payload(str(trace))}, protocol=2))
    path = write(tmp_path / "a.pt", file.getvalue())
    with pytest.raises(ValueError, match=r"got '(_?io|builtins|__builtin__)\.open', which is not run") as raised:
        interop.read_arrays(path)
    assert "\n" not in str(raised.value)
    assert not trace.exists()


def described(body):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02" + body + b".")
    return file.getvalue()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"}X\x01\x00\x00\x00actorch._C._nn\ngelu\n)Rs", "got a call of a str"),  # a name of a function is a text here
        (b"}X\x01\x00\x00\x00a]}bs", "attributes of something else than a dictionary"),
        (b"}K\x01a", "items of something else than a list"),
        (b"}q\x00X\x01\x00\x00\x00ah\x00s", "objects inside of one another"),  # a dictionary that holds itself
        (b"}X\x01\x00\x00\x00accollections\nOrderedDict\ns", "got a name as a value"),
        (b"}X\x01\x00\x00\x00actorch\nSize\n)Rs", "a call of torch.Size"),
    ],
)
def test_descriptions_that_are_refused_in_checkpoints(body, message, tmp_path):
    with pytest.raises(ValueError, match=message) as raised:
        interop.read_arrays(write(tmp_path / "a.pt", described(body)))
    assert "\n" not in str(raised.value)
