"""PyTorch files, written here from their description; `torch_2_13.pt` is one of PyTorch 2.13 with every type."""

import io
import pathlib
import pickle
import struct
import zipfile

import ml_dtypes
import numpy as np
import pytest
from reading import assert_reads, opened, values

from sciml.data._readers._torch import FORMAT
from sciml.files import Damaged, read_torch
from sciml.grid import Dirichlet, Neumann, Periodic

HERE = pathlib.Path(__file__).parent
KINDS = {"float64": "Double", "float32": "Float", "float16": "Half", "int64": "Long", "int32": "Int", "bool": "Bool"}


def text(one):
    return b"X" + struct.pack("<I", len(one.encode())) + one.encode()


def number(n):
    return b"J" + struct.pack("<i", n) if -(2**31) <= n < 2**31 else b"\x8a" + bytes([16]) + n.to_bytes(16, "little")


def named(module, name):
    return f"c{module}\n{name}\n".encode()


def sequence(*items):
    return b"(" + b"".join(items) + b"t"


def tensor(key, kind, count, *, shape, strides, offset=0):
    storage = sequence(text("storage"), named("torch", f"{kind}Storage"), text(key), text("cpu"), number(count)) + b"Q"
    hooks = named("collections", "OrderedDict") + b")R"
    view = [sequence(*map(number, shape)), sequence(*map(number, strides))]
    return named("torch._utils", "_rebuild_tensor_v2") + sequence(storage, number(offset), *view, b"\x89", hooks) + b"R"


def described(**entries):
    return b"\x80\x02}(" + b"".join(text(name) + one for name, one in entries.items()) + b"u."


def archived(description, members=(), method=zipfile.ZIP_STORED, prefix="a"):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr(f"{prefix}/data.pkl", description)
        for name, content in dict(members).items():
            archive.writestr(f"{prefix}/{name}", content)
    return file.getvalue()


def saved(**arrays):
    entries, members = {}, {"byteorder": b"little", "version": b"3\n"}
    for i, (name, array) in enumerate(arrays.items()):
        strides = [step // array.itemsize for step in np.ascontiguousarray(array).strides]
        kind = KINDS[str(array.dtype)]
        entries[name] = tensor(str(i), kind, array.size, shape=array.shape, strides=strides)
        members[f"data/{i}"] = array.tobytes()
    return archived(described(**entries), members)


def data(tmp_path, content, **hints):
    path = tmp_path / "a.pt"
    path.write_bytes(content)
    return opened(FORMAT, path, **hints)


def test_a_file_of_pytorch():
    found = read_torch(HERE / "torch_2_13.pt")
    base = (np.arange(240).reshape(4, 6, 10) % 113).transpose(2, 1, 0)[1:9:2, 2:, 1:]
    names = ["float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"]
    assert list(found) == names
    for name in names:
        expected = base.astype(ml_dtypes.bfloat16 if name == "bfloat16" else name).astype(np.float32)
        np.testing.assert_array_equal(np.asarray(found[name][:]).astype(np.float32), expected)


def smooth(*shape):
    """Fields that vanish at index 0 alone."""
    ramps = [np.sin(2.0 * np.arange(n) / n) for n in shape[1:]]
    field = ramps[0] if len(ramps) == 1 else np.multiply.outer(*ramps)
    return (values(shape[0]).reshape(-1, *[1] * len(ramps)) * field).astype(np.float32)


def test_darcy_pairs(tmp_path):
    x, y = values(5, 8, 6) > 0, smooth(5, 8, 6)
    found = data(tmp_path, saved(x=x, y=y))
    assert_reads(found, y[:, None, None], x[:, None])
    assert found.grid.sides == ((Dirichlet(0.0), Dirichlet(1.0)),) * 2
    assert found.grid.extent == (1.0, 1.0)
    for n, points in zip((8, 6), found.grid.points(), strict=True):
        np.testing.assert_allclose(points, np.arange(n) / n, rtol=1e-15)
    pairs = found.pairs()
    np.testing.assert_array_equal(pairs.x[:, 0], x)


def test_other_pairs_are_periodic_or_have_walls_by_their_values(tmp_path):
    ring = (values(4, 1) * np.cos(2 * np.pi * np.arange(12) / 12)).astype(np.float32)
    assert data(tmp_path, saved(x=ring, y=ring)).grid.sides == ((Periodic(), Periodic()),)
    ramp = (values(4, 1) * (1 + np.arange(12))).astype(np.float32)
    assert data(tmp_path, saved(x=ramp, y=ramp)).grid.sides == ((Neumann(0.5), Neumann(0.5)),)


def test_complex_tensors_are_no_fields(tmp_path):
    one = tensor("0", "ComplexFloat", 4, shape=(2, 2), strides=(2, 1))
    with pytest.raises(ValueError, match=r"a\.pt: expected real tensors, got 'x' of complex64.*two channels"):
        data(tmp_path, archived(described(x=one), {"data/0": bytes(32)}))


def test_burgers_trajectories(tmp_path):
    y = values(4, 7, 16).astype(np.float64)
    found = data(tmp_path, saved(x=y[:, 0], y=y, visc=np.array([[0.01]])))
    assert_reads(found, y[:, :, None], parameters=np.full((4, 1), 0.01))
    assert found.layout.parameters == ("visc",)
    assert "x is the first frame of y and not read again." in found.layout.notes


def test_an_initial_state_that_is_not_the_first_frame_is_the_one_before(tmp_path):
    x, y = values(4, 16), values(4, 7, 16, seed=1)
    found = data(tmp_path, saved(x=x, y=y))
    assert_reads(found, np.concatenate([x[:, None], y], axis=1)[:, :, None])
    assert "x differs from the first frame of y: it is taken as the frame before it." in found.layout.notes


def test_axes_of_other_tensors(tmp_path):
    content = saved(w=values(4, 7, 16), k=values(4, 16))
    assert_reads(
        data(tmp_path, content, y="w", x="k", axes=("sample", "time", "x")), values(4, 7, 1, 16), values(4, 1, 16)
    )
    with pytest.raises(
        ValueError, match=r"a\.pt: expected x and y.*got w \(4, 7, 16\), k.*--y w --axes sample,time,x`"
    ):
        data(tmp_path, content)


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


@pytest.mark.parametrize("protocol", [0, 1, 2, 4])
def test_no_code_runs(tmp_path, protocol):
    trace = tmp_path / "trace"
    content = archived(pickle.dumps({"x": Payload(str(trace))}, protocol=protocol))
    with pytest.raises(ValueError, match=r"a\.pt: expected a dictionary of tensors, got") as raised:
        data(tmp_path, content)
    assert not trace.exists()
    assert "\n" not in str(raised.value)
    pickle.loads(pickle.dumps(Payload(str(trace)))).close()
    assert trace.exists()  # the payload would have worked


ONE = tensor("0", "Float", 4, shape=(2, 2), strides=(2, 1))
DEEP = b"\x80\x02)" + b"q\x00h\x00\x86" * 60 + b"."  # a tuple of 2^60 tuples


def with_tensor(**change):
    given = {"key": "0", "kind": "Float", "count": 4, "shape": (2, 2), "strides": (2, 1), **change}
    return archived(described(x=tensor(**given)), {"data/0": bytes(16)})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            archived(described(x=named("os", "system") + sequence(text("true")) + b"R")),
            "got 'os.system', which is not run",
        ),
        (archived(b"\x80\x02" + named("torch", "nn.Module") + b"."), "got 'torch.nn.Module', which is not run"),
        (archived(b"\x80\x02]."), "got a list"),
        (archived(b"\x80\x02)."), "got a tuple"),
        (archived(DEEP), "got a tuple"),
        (archived(b"\x80\x02" + named("torch", "FloatStorage") + b"."), "got a name"),
        (archived(b"\x80\x02}"), "pickle exhausted"),
        (archived(b"\x80\x02u."), "IndexError"),
        (archived(b"\x80\x02h\x05."), "KeyError"),
        (archived(b"\x80\x02X\xff\xff\xff\x7fa."), "cannot be read"),
        (archived(b"garbage"), "expected a dictionary of tensors"),
        (archived(b""), "expected a dictionary of tensors"),
        (archived(b"\x80\x02}}."), "leaves no single object"),
        (archived(b"\x80\x02}(K\x01u."), "entries of something else"),
        (archived(b"\x80\x02}()K\x01u."), "texts as keys"),
        (archived(b"\x80\x02)Q."), "a storage without class"),
        (archived(b"\x80\x02))R."), "a call of a tuple"),
        (
            archived(b"\x80\x02" + named("collections", "OrderedDict") + sequence(number(1)) + b"R."),
            "a call of collections",
        ),
        (archived(b"\x80\x02" + named("torch._utils", "_rebuild_tensor_v2") + b")R."), "a tensor with other arguments"),
        (archived(b"x" * (2**20 + 1)), "a description of 1048577 bytes"),
        (archived(described(x=ONE), {"byteorder": b"big", "data/0": bytes(16)}), "bytes in the order"),
        (archived(described(x=ONE), {"data/0": bytes(16)}, zipfile.ZIP_DEFLATED), "compressed or encrypted"),
        (with_tensor(shape=(2, 3)), "its storage of 4 values does not hold"),
        (with_tensor(shape=(2**40, 2**40), strides=(0, 0)), "does not hold"),
        (with_tensor(strides=(2**70, 1)), "does not hold"),
        (with_tensor(strides=(-2, 1)), "with strides"),
        (with_tensor(strides=(2,)), "with strides"),
        (with_tensor(offset=1), "does not hold"),
        (with_tensor(shape=(0, 2)), "without values"),
        (with_tensor(count=-1), "a storage of -1 values"),
        (archived(described(a=text("b"))), r"expected x and y.*got no arrays"),
    ],
)
def test_descriptions_that_are_refused(tmp_path, content, message):
    with pytest.raises(ValueError, match=message) as raised:
        data(tmp_path, content)
    assert "\n" not in str(raised.value)


def changed(content):
    place = content.rindex(b"\x11" * 16)
    return content[:place] + b"\x12" + content[place + 1 :]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (archived(described(x=ONE)), "the storage '0' is missing"),
        (archived(described(x=ONE), {"data/0": bytes(12)}), "declares 4 values of float32 and has 12 bytes"),
        (with_tensor(count=2**31 - 1), "declares 2147483647 values"),
        (changed(archived(described(x=ONE), {"data/0": b"\x11" * 16})), "differ from their checksum"),
    ],
)
def test_storages_that_are_refused(tmp_path, content, message):
    with pytest.raises(Damaged, match=f"a.pt is truncated or damaged .*{message}.*Copy or download it again"):
        data(tmp_path, content)


def test_cut_off_files_are_refused(tmp_path):
    content = saved(x=values(5, 8), y=values(5, 8))
    path = tmp_path / "a.pt"
    for size in (30, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:size])
        with pytest.raises(Damaged, match="truncated or damaged"):
            read_torch(path)


def test_a_storage_may_not_lie_outside(tmp_path):
    content = saved(x=values(5, 8), y=values(5, 8))
    place = content.rindex(b"PK\x01\x02") + 42  # of the last header of the directory
    path = tmp_path / "a.pt"
    path.write_bytes(content[:place] + struct.pack("<I", len(content) - 40) + content[place + 4 :])
    with pytest.raises(Damaged, match=r"truncated or damaged \('a/data/1' of 160 bytes from"):
        read_torch(path)


def test_files_before_version_1_6_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"a\.pt: expected a zip archive, as PyTorch 1\.6 and later write it"):
        data(tmp_path, b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.")
