"""Changes that somebody makes on purpose: digests suit them, and code or other files are named."""

import io
import json
import os
import pickle
import shutil
import zipfile

import h5py
import numpy as np
from fuzz import mutations
from fuzz.corpora import canary
from h5py import h5d, h5p, h5s, h5t, h5z

from sciml.files import digest_of

_NAMES = """
    os.system os.remove os.execv posix.system subprocess.run subprocess.Popen shutil.rmtree builtins.eval builtins.exec
    builtins.open builtins.__import__ eval exec open importlib.import_module runpy.run_path pickle.loads marshal.loads
    numpy.load numpy.save numpy.testing.measure numpy.ctypeslib.load_library numpy.f2py.__main__.x numpy.fromfile
    numpy.memmap numpy.lib.format.open_memmap numpy.savetxt numpy.DataSource jax.numpy.load jax.numpy.save
    jax.experimental.serialize_executable.deserialize_and_load jax.numpy.os.system jax.pure_callback jax.debug.print
    jax.debug.breakpoint jax.nn.relu.__globals__ jax.nn.relu.__wrapped__ equinox.nn.MLP.__init__.__globals__
    equinox.tree_deserialise_leaves equinox.nn.os sciml.experiment.load_file sciml.experiment.run_file sciml.cli.main
    sciml.files.write_bytes sciml.data.generate sciml.train.Checkpoints sciml.experiment._file.load_file
    functools.reduce functools.partial.__class__ operator.attrgetter operator.methodcaller types.FunctionType
    code.interact antigravity.fly this.s ctypes.CDLL h5py.File orbax.checkpoint.StandardCheckpointer
    flax.linen.os.system flax.linen.Module flax.core.FrozenDict equinox.nn.Lambda equinox.nn.Sequential
    jax.numpy.zeros jax.numpy.frombuffer jax.tree_util.Partial functools.partial jax.nn.initializers.ones
    sciml.nn.Frozen sciml.operators.FlaxOperator sciml.nde.Solve diffrax.Tsit5 object type __main__.FILE
    canary.build small.build experiment_file_small.build sciml.structure.rebuild sciml.structure._rebuild._called
    """
NAMES = tuple(_NAMES.split())
"""Of other packages, and some of the table in wrong places."""

SHAPES = (
    [1 << 20] * 3,
    [-1],
    [2**62, 2**62],
    [1.5],
    [8] * 40,
    [1 << 43],
    [1 << 41],
    [0, 2**61],
    "8",
    [True],
    [1 << 33],
)
DTYPES = ("float32", "object", "O", "float64", "V8", "str", "bfloat16", "int4")
FIELDS = ("__class__", "__init__", "__call__", "__dict__", "__reduce__", "_private", "weight", "activation", "layers")


def named_model(rng, run, world):
    """A model that names something else, now and then called with arguments, by a chain or as a field."""
    path = run / "model.json"
    description = json.loads(path.read_bytes())
    description.pop("sha256", None)
    own = [one for one in mutations.places(description["model"]) if one]
    named = [one for one in own if one[-1] in ("name", "class", "partial", "namedtuple", "mapping", "enum", "member")]
    name = rng.choice(NAMES)
    node, where = description["model"], rng.choice(named if rng.random() < 0.5 else own)
    for key in where[:-1]:
        node = node[key]
    form = rng.choice(("name", "partial", "partial", "class", "chain", "field", "container", "default", "array"))
    arguments = [rng.choice((str(world.outside / "secret.txt"), "touch canary.executed", 1, "x", 1 << 60))]
    if form == "name":
        node[where[-1]] = name if where[-1] in ("name", "class", "partial") else {"name": name}
    elif form == "partial":
        outer = rng.choice(("functools.partial", "jax.tree_util.Partial", "functools.partialmethod", name))
        inner = rng.choice(({"name": name}, {"name": "jax.nn.relu"}, name))
        keywords = {"dict": [["file", arguments[0]]]} if rng.random() < 0.3 else {"dict": []}
        node[where[-1]] = {"partial": outer, "function": inner, "arguments": arguments, "keywords": keywords}
    elif form == "class":
        fields = {rng.choice(FIELDS): rng.choice((*arguments, {"name": name})) for _ in range(2)}
        node[where[-1]] = {"class": name, "fields": fields}
    elif form == "chain":
        chain = rng.choice(("__globals__", "__class__.__bases__", "__init__.__globals__", "_os", "func", "__wrapped__"))
        node[where[-1]] = {"name": f"{rng.choice(('jax.nn.relu', 'equinox.nn.MLP', name))}.{chain}"}
    elif form == "field" and isinstance(node, dict):
        node[rng.choice(FIELDS)] = rng.choice((*arguments, {"name": name}))
    elif form == "default":
        node[where[-1]] = {"default": rng.choice((*FIELDS, "self", "key", "use_bias"))}
    elif form == "array":
        kinds = [("key", one) for one in ("threefry2x32", "rbg", "x")] + [("dtype", one) for one in DTYPES]
        node[where[-1]] = dict([("array", rng.choice(SHAPES)), rng.choice(kinds)])
    else:
        kind = rng.choice(("namedtuple", "mapping", "tuple", "dict", "enum", "dtype", "complex", "float"))
        extra = {"items": [arguments, ["a", 1]]} if kind in ("namedtuple", "mapping") else {"member": "mro"}
        node[where[-1]] = {kind: rng.choice((name, arguments, [["a", arguments]], "object"))} | extra
    mutations.write_signed(path, description)
    return f"model.json: {form} of {name} at {'/'.join(map(str, where))}"


def named_code(rng, run, world):
    """A run that names another experiment file, inside of its folder or outside."""
    path = run / "run.json"
    content = json.loads(path.read_bytes())
    content.pop("sha256", None)
    inside, outside = canary(run / "own.py"), world.outside / "canary.py"
    targets = (inside, outside, world.outside / "secret.txt", run / "metrics.json", run / "nothing.py", run)
    target, form = rng.choice(targets), rng.choice(("plain", "plain", "dots", "relative", "link", "case"))
    digest = digest_of(target) if target.is_file() and target != outside else None
    if form == "dots":
        target = f"{target.parent}/../{target.parent.name}/./{target.name}"
    elif form == "relative":
        target = os.path.relpath(target)
    elif form == "link":
        link = run.parent / "beside.py"
        link.symlink_to(inside)
        target, digest = link, digest_of(inside)
    elif form == "case":
        target = f" {target}\n"
    wrong = rng.choice((digest, digest, None, "0" * 64, "", digest and digest.upper()))
    content |= {"experiment": str(target), "digest": wrong}
    mutations.write_signed(path, content)
    return f"run.json: {form} experiment {os.path.basename(str(target))!r} with the digest {wrong!s:.8}"


def signed_part(rng, run, world):
    """Another value in a JSON file of a run, with a digest that suits it."""
    name = rng.choice(("run.json", "model.json", "model.json", "config.json", "metrics.json"))
    return mutations.change_json(rng, run / name, signed=True)


def signed_checkpoint(rng, run, world):
    """Other bytes in a checkpoint, or other files, with digests that suit them."""
    inner = sorted((run / "checkpoints").iterdir())
    folder = rng.choice([path for path in inner if path.is_dir()])
    if rng.random() < 0.2:
        what = mutations.change_tree(rng, folder, world.outside)
        if (folder / "SHA256SUMS").is_dir():
            (folder / "SHA256SUMS").rmdir()
    else:
        files = [path for path in mutations.files_of(folder) if path.name != "SHA256SUMS"]
        text = [path for path in files if path.suffix in (".json", "") and path.name.startswith(("_", ".z", "met"))]
        path = rng.choice(text or files) if rng.random() < 0.6 else rng.choice(files)
        what = mutations.change_file(rng, path)
        try:
            node = json.loads(path.read_bytes())
        except ValueError:
            node = None
        if isinstance(node, dict | list) and node and rng.random() < 0.7:
            node, what = mutations.changed_json(rng, node)
            path.write_text(json.dumps(node), errors="replace")
    mutations.sign_checkpoints(run)
    return f"checkpoint {folder.name}: {what}, signed"


def signed_bytes(rng, path):
    """Other bytes in an HDF5 file, with a digest that suits them."""
    content = path.read_bytes()
    new, what = mutations.change_content(rng, content[mutations.BLOCK :])
    path.write_bytes(content[: mutations.BLOCK] + new)
    mutations.sign_hdf5(path)
    return f"{path.name}: {what} of the part with a digest, signed"


def changed_hdf5(rng, path, world):
    """An HDF5 file whose objects lead out of it, lack data or are not those that are expected."""
    signed = path.read_bytes().startswith(b"sciml")
    with h5py.File(path, "r+") as file:
        names = [name for name in file if isinstance(file[name], h5py.Dataset)]
        name, change = rng.choice(names), rng.choice(_OBJECTS)
        what = change(rng, file, name, world) or change.__name__
    if signed:
        mutations.sign_hdf5(path)
    return f"{path.name}: {what} for {name}{', signed' if signed else ''}"


def _planned(file, name, shape, change, dtype=h5t.IEEE_F32LE):
    attributes = dict(file[name].attrs) if name in file else {}
    del file[name]
    plan = h5p.create(h5p.DATASET_CREATE)
    change(plan)
    h5d.create(file.id, name.encode(), dtype, h5s.create_simple(shape), plan)
    for key, value in attributes.items():
        if key in ("channels", "units"):
            file[name].attrs[key] = value


def external_storage(rng, file, name, world):
    shape = file[name].shape
    target = os.fsencode(world.outside / rng.choice(("secret.txt", "secret.h5")))
    size = int(np.prod(shape)) * 4
    _planned(file, name, shape, lambda plan: plan.set_external(target, rng.choice((0, 100)), size))


def external_link(rng, file, name, world):
    del file[name]
    file[name] = h5py.ExternalLink(os.fspath(world.outside / "secret.h5"), "/x")


def soft_link(rng, file, name, world):
    file.move(name, "elsewhere")
    file[name] = h5py.SoftLink(rng.choice(("/elsewhere", f"/{name}", "/nothing")))


def virtual(rng, file, name, world):
    shape = file[name].shape
    del file[name]
    layout = h5py.VirtualLayout(shape, "<f4")
    source = os.fspath(world.outside / rng.choice(("secret.h5", "none.h5")))
    layout[...] = h5py.VirtualSource(source, "x", shape)
    file.create_virtual_dataset(name, layout)


def unwritten(rng, file, name, world):
    shape = file[name].shape
    chunk = tuple(max(1, size // 2) for size in shape)
    chunked = rng.random() < 0.5
    _planned(file, name, shape, lambda plan: plan.set_chunk(chunk) if chunked else plan.set_layout(h5d.CONTIGUOUS))


def huge(rng, file, name, world):
    shape = (2 ** rng.choice((20, 33)),) * max(1, len(file[name].shape))
    _planned(file, name, shape, lambda plan: plan.set_chunk((1,) * len(shape)))


def unknown_filter(rng, file, name, world):
    shape, number = file[name].shape, rng.choice((511, 32001, 32008, 32015, 305))

    def change(plan):
        plan.set_chunk(shape)
        plan.set_filter(number, h5z.FLAG_OPTIONAL, (1,))

    _planned(file, name, shape, change)


def other_type(rng, file, name, world):
    shape, attributes = file[name].shape, dict(file[name].attrs)
    del file[name]
    kind = rng.choice(("<f8", "<i4", "S8", h5py.string_dtype(), h5py.vlen_dtype("<i4"), "<c8", [("a", "<f4")], "O"))
    dtype = h5py.ref_dtype if kind == "O" else kind
    file.create_dataset(name, rng.choice((shape, shape[:1], (), (0, *shape[1:]))), dtype)
    for key in ("channels", "units"):
        if key in attributes:
            file[name].attrs[key] = attributes[key]


def other_attribute(rng, file, name, world):
    owner = rng.choice((file, file[name]))
    key = rng.choice([*owner.attrs, "grid"])
    deep = "[" * 9000
    value = rng.choice((None, 1.5, -1, 2**63 - 1, "text", "{}", "[1]", b"\xff\xfe", np.ones(3), deep, "NaN", "null"))
    if key in owner.attrs and isinstance(owner.attrs[key], str) and rng.random() < 0.6:
        try:
            value = json.dumps(mutations.changed_json(rng, json.loads(owner.attrs[key]))[0])[:60_000]
        except (ValueError, TypeError):
            value = "text"
    del_only = value is None and key in owner.attrs
    owner.attrs.pop(key) if del_only else owner.attrs.create(key, value if value is not None else 0)
    return f"the attribute {key}"


def group(rng, file, name, world):
    del file[name]
    file.create_group(name)


def without(rng, file, name, world):
    del file[name]


def cycle(rng, file, name, world):
    file.create_group("loop")["again"] = file["/"]


_OBJECTS = (
    external_storage,
    external_storage,
    external_link,
    external_link,
    soft_link,
    virtual,
    virtual,
    unwritten,
    unwritten,
    huge,
    unknown_filter,
    other_type,
    other_type,
    *(other_attribute,) * 5,
    group,
    without,
    cycle,
)


class _Payload:
    """An object whose unpickling runs a command."""

    def __reduce__(self):
        return os.system, ("touch canary.executed",)


def changed_npz(rng, path, world):
    """A zip file with right checksums and other members."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name, form = rng.choice(sorted(members)), rng.choice(("pickle", "header", "gone", "path", "twice", "bomb", "raw"))
    with zipfile.ZipFile(path, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2))) as new:
        for one, content in members.items():
            if one != name:
                new.writestr(one, content)
        if form == "pickle":
            whole = io.BytesIO()
            np.lib.format.write_array(whole, np.array([_Payload()], object), allow_pickle=True)
            new.writestr(name, rng.choice((whole.getvalue(), pickle.dumps(_Payload()))))
        elif form == "header":
            content, _ = mutations.change_content(rng, members[name][:128])
            new.writestr(name, content + members[name][128:])
        elif form == "path":
            new.writestr(rng.choice(("../../escape.npy", "/tmp/escape.npy", "a/b.npy", "x")), members[name])
        elif form == "twice":
            new.writestr(name, members[name])
            new.writestr(name.removesuffix(".npy"), members[name])
        elif form == "bomb":
            shape = rng.choice(("(100000, 100000)", "(-1, 3)", "(99999999999999999999,)", "(2, (3,))", "(True,)"))
            head = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
            new.writestr(name, b"\x93NUMPY\x01\x00v\x00" + head + bytes(800))
        elif form == "raw":
            new.writestr(name, rng.randbytes(200))
    return f"{path.name}: {form} for {name}"


def swapped_folders(rng, run, world):
    """Two checkpoints under each other's numbers."""
    one, other = rng.sample([path for path in (run / "checkpoints").iterdir() if path.name.isdecimal()], 2)
    shutil.move(one, run / "aside")
    shutil.move(other, one)
    shutil.move(run / "aside", other)
    return f"checkpoints {one.name} and {other.name} swapped"
