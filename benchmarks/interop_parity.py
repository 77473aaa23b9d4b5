"""Do operators that are made of neuraloperator's state dicts have its outputs, and on which grids do they not?

    python benchmarks/interop_parity.py --peer-python VENV/bin/python

VENV has torch and neuraloperator 2.0.0 (`pip install 'sciml-jax[peers]'` in an environment of its own). That
interpreter builds each model of `CASES` with random numbers in all parameters, and writes its arrays, inputs and
outputs, in float32 and in float64. neuraloperator computes Fourier layers in complex64 always; for float64 its name of
this type, `torch.cfloat`, stands for complex128. On grids with odd sizes it is run a second time with its second
`fftshift` replaced by `ifftshift`.

Errors are relative L2 norms. Results: benchmarks/results/interop_parity.json.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

RESULTS = pathlib.Path(__file__).parent / "results" / "interop_parity.json"
SMALL = {"in_channels": 2, "out_channels": 3, "hidden_channels": 6, "n_layers": 2}
TWO = SMALL | {"n_modes": [6, 8]}
PLANE = [[16, 20], [16, 15], [4, 6], [15, 20], [9, 9]]
UNO = {
    "in_channels": 2,
    "out_channels": 3,
    "hidden_channels": 6,
    "lifting_channels": 10,
    "projection_channels": 9,
    "n_layers": 5,
    "channel_mlp_skip": "linear",
    "uno_out_channels": [5, 7, 8, 7, 6],
}


def uno(d, modes, scales, **options):
    return UNO | {"uno_n_modes": [[m] * d for m in modes], "uno_scalings": [[s] * d for s in scales]} | options


DOWN_UP = [1.0, 0.5, 1.0, 2.0, 1.0]
CASES = {
    "fno 1-d": ("FNO", SMALL | {"n_modes": [8]}, [[32], [33], [7]]),
    "fno 2-d": ("FNO", TWO, PLANE),
    "fno 3-d": ("FNO", SMALL | {"n_modes": [4, 4, 6]}, [[8, 10, 12], [8, 10, 9], [9, 8, 10]]),
    "fno, no coordinates": ("FNO", TWO | {"positional_embedding": None}, PLANE[:2]),
    "fno, coordinates of another box": ("FNO", TWO | {"positional_embedding": [[-1.0, 1.0], [0.0, 2.0]]}, PLANE[:2]),
    "fno, domain padding": ("FNO", TWO | {"domain_padding": 0.25}, [[16, 20], [8, 15]]),
    "fno, domain padding per axis": ("FNO", TWO | {"domain_padding": [0.0, 0.3]}, [[16, 20], [8, 15]]),
    "fno, instance norm": ("FNO", TWO | {"norm": "instance_norm"}, PLANE[:2]),
    "fno, group norm": ("FNO", TWO | {"norm": "group_norm"}, PLANE[:2]),
    "fno, batch norm": ("FNO", TWO | {"norm": "batch_norm"}, PLANE[:2]),
    "fno, preactivation and group norm": ("FNO", TWO | {"norm": "group_norm", "preactivation": True}, PLANE[:2]),
    "fno, stabiliser": ("FNO", TWO | {"stabilizer": "tanh"}, PLANE[:2]),
    "fno, no channel MLP": ("FNO", TWO | {"use_channel_mlp": False}, PLANE[:2]),
    "fno, skips soft-gating, linear": (
        "FNO",
        TWO | {"fno_skip": "soft-gating", "channel_mlp_skip": "linear"},
        PLANE[:2],
    ),
    "fno, skips identity, identity": ("FNO", TWO | {"fno_skip": "identity", "channel_mlp_skip": "identity"}, PLANE[:2]),
    "fno, no skips": ("FNO", TWO | {"fno_skip": None, "channel_mlp_skip": None}, PLANE[:2]),
    "fno, relu, other sizes": (
        "FNO",
        TWO | {"non_linearity": "relu", "lifting_channel_ratio": 0, "channel_mlp_expansion": 1.5},
        PLANE[:2],
    ),
    "fno, odd numbers of modes": ("FNO", TWO | {"n_modes": [5, 7]}, PLANE[:3]),
    "fno, fewer modes than stored": ("FNO", TWO | {"n_modes": [4, 6], "max_n_modes": [7, 10]}, PLANE[:2]),
    "fno 1-d, other grids": ("FNO", SMALL | {"n_modes": [8], "resolution_scaling_factor": [2.0, 0.5]}, [[32], [33]]),
    "fno 2-d, other grids": ("FNO", TWO | {"resolution_scaling_factor": [0.5, 1.5]}, PLANE[:2]),
    "fno 3-d, other grids": (
        "FNO",
        SMALL | {"n_modes": [4, 4, 4], "resolution_scaling_factor": [0.5, 2.0]},
        [[8, 10, 12], [8, 6, 9]],
    ),
    "tfno 1-d, Tucker": ("TFNO", SMALL | {"n_modes": [8], "rank": 0.4}, [[32], [33]]),
    "tfno 2-d, Tucker": ("TFNO", TWO | {"rank": 0.2}, PLANE),
    "tfno 3-d, Tucker": ("TFNO", SMALL | {"n_modes": [4, 4, 6], "rank": 0.1}, [[8, 10, 12], [8, 10, 9]]),
    "tfno 2-d, CP": ("TFNO", TWO | {"factorization": "CP", "rank": 0.3}, PLANE[:2]),
    "tfno 2-d, TT": ("TFNO", TWO | {"factorization": "TT", "rank": 0.3}, PLANE[:2]),
    "tfno 3-d, TT": ("TFNO", SMALL | {"n_modes": [4, 4, 6], "factorization": "TT", "rank": 0.2}, [[8, 10, 12]]),
    "uno 1-d": ("UNO", uno(1, (8, 8, 6, 8, 8), DOWN_UP), [[32], [33]]),
    "uno 2-d": ("UNO", uno(2, (6, 6, 4, 6, 6), DOWN_UP), PLANE[:2] + PLANE[3:]),
    "uno 3-d": ("UNO", uno(3, (4, 4, 2, 4, 4), DOWN_UP), [[8, 10, 12], [8, 9, 12]]),
    "uno, group norm, padding": (
        "UNO",
        uno(2, (6, 6, 4, 6, 6), DOWN_UP, norm="group_norm", domain_padding=0.25),
        PLANE[:2],
    ),
    "uno, other links, Tucker": (
        "UNO",
        uno(
            2,
            (6, 6, 4, 6, 6),
            [0.5, 1.0, 1.0, 2.0, 2.0],
            horizontal_skips_map={"3": 1},
            horizontal_skip="soft-gating",
            factorization="Tucker",
            rank=0.3,
            positional_embedding=None,
        ),
        PLANE[:2],
    ),
}


TINY = {"in_channels": 1, "out_channels": 2, "hidden_channels": 3, "n_layers": 1, "lifting_channel_ratio": 1}
TINY_PLANE = TINY | {"n_modes": [4, 3]}
EVEN = [[6, 7]]
FIXTURE = {
    "fno 1-d": ("FNO", TINY | {"n_modes": [4]}, [[9]]),
    "fno": ("FNO", TINY_PLANE | {"n_layers": 2}, [[8, 6], [6, 7], [2, 5], [7, 6]]),
    "fno 3-d": ("FNO", TINY | {"n_modes": [2, 2, 3]}, [[4, 4, 5]]),
    "tucker": ("TFNO", TINY_PLANE | {"rank": 0.4}, EVEN),
    "cp": ("TFNO", TINY_PLANE | {"factorization": "CP", "rank": 0.4}, EVEN),
    "tt": ("TFNO", TINY_PLANE | {"factorization": "TT", "rank": 0.4}, EVEN),
    "box, padding": (
        "FNO",
        TINY_PLANE | {"positional_embedding": [[-1.0, 1.0], [0.0, 2.0]], "domain_padding": 0.25},
        EVEN,
    ),
    "group norm, relu": ("FNO", TINY_PLANE | {"norm": "group_norm", "non_linearity": "relu"}, EVEN),
    "batch norm, more modes": ("FNO", TINY_PLANE | {"norm": "batch_norm", "max_n_modes": [7, 6]}, EVEN),
    "instance norm first": (
        "FNO",
        TINY_PLANE | {"norm": "instance_norm", "preactivation": True, "stabilizer": "tanh", "n_layers": 2},
        EVEN,
    ),
    "skips": (
        "FNO",
        TINY_PLANE | {"fno_skip": "identity", "channel_mlp_skip": "linear", "positional_embedding": None},
        EVEN,
    ),
    "no mlp": ("FNO", TINY_PLANE | {"use_channel_mlp": False, "fno_skip": "soft-gating", "n_layers": 2}, EVEN),
    "no skips": ("FNO", TINY_PLANE | {"fno_skip": None, "channel_mlp_skip": None}, EVEN),
    "other grid": ("FNO", TINY_PLANE | {"resolution_scaling_factor": 1.5}, EVEN),
    **{
        f"uno {d}-d": (
            "UNO",
            uno(d, (4, 2, 4), [1.0, 0.5, 2.0])
            | {"in_channels": 1, "hidden_channels": 3, "n_layers": 3, "uno_out_channels": [2, 3, 3]}
            | {"lifting_channels": 3, "projection_channels": 4, "out_channels": 1},
            [space],
        )
        for d, space in ((1, [9]), (2, [8, 6]), (3, [4, 4, 6]))
    },
}


def write(folder):
    """What the peer's interpreter does: models, inputs and outputs."""
    import torch

    cfloat, float_ = torch.cfloat, torch.Tensor.float
    for double in (False, True):
        torch.cfloat = torch.cdouble if double else cfloat
        torch.Tensor.float = torch.Tensor.double if double else float_
        torch.set_default_dtype(torch.float64 if double else torch.float32)
        for number, case in enumerate(CASES.values()):
            np.savez(pathlib.Path(folder) / f"{number}-{int(double)}.npz", **computed(number, case)[1])


def write_fixture(path):
    """The small cases in one file, as numbers with an index, and one of them in neuraloperator's own form."""
    index, numbers = {}, []
    for number, (name, case) in enumerate(FIXTURE.items()):
        model, own = computed(number, case)
        own = {key: value for key, value in own.items() if not key.endswith("num_batches_tracked")}
        index[name] = {
            "kind": case[0],
            "config": case[1],
            "arrays": [[key, str(value.dtype), list(value.shape)] for key, value in own.items()],
        }
        numbers += [np.ascontiguousarray(value).reshape(-1).view(np.float32) for value in own.values()]
        if name == "group norm, relu":
            model.save_checkpoint(path.parent, path.stem)
            (path.parent / f"{path.stem}_metadata.pkl").unlink()  # the state dict holds the same
    np.savez_compressed(path, index=np.array(json.dumps(index)), numbers=np.concatenate(numbers))


def computed(seed, case):
    """The published model of a case with random numbers in all parameters, and its arrays, inputs and outputs."""
    import contextlib
    import io

    import torch

    kind, config, spaces = case
    torch.manual_seed(seed)
    with contextlib.redirect_stdout(io.StringIO()):
        model = built(kind, dict(config)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter) * parameter.abs().mean()
        for name, buffer in model.named_buffers():
            if buffer.is_floating_point():
                buffer += torch.rand_like(buffer) * (0.5 if name.endswith("var") else 0.2)
        found = {f"array {name}": value.numpy() for name, value in model.state_dict().items() if name != "_metadata"}
        for i, space in enumerate(spaces):
            x = torch.randn(2, config["in_channels"], *space)
            found |= {f"x {i}": x.numpy(), f"y {i}": model(x).numpy()}
            if any(n % 2 for n in space[:-1]) and kind != "UNO":
                found[f"unshifted {i}"] = unshifted(model, x).numpy()
    return model, found


def built(kind, config):
    """The published model of a case."""
    import neuralop.models
    import torch
    from neuralop.layers.embeddings import GridEmbeddingND

    bounds = config.get("positional_embedding")
    if isinstance(bounds, list):
        config["positional_embedding"] = GridEmbeddingND(config["in_channels"], len(bounds), bounds)
    if "non_linearity" in config:
        config["non_linearity"] = getattr(torch.nn.functional, config["non_linearity"])
    if config.get("horizontal_skips_map"):
        config["horizontal_skips_map"] = {int(b): a for b, a in config["horizontal_skips_map"].items()}
    return getattr(neuralop.models, kind)(**config)


def unshifted(model, x):
    """The model's output with `ifftshift` as the second of two shifts."""
    import torch

    fftshift, calls = torch.fft.fftshift, []

    def alternate(*arguments, **options):
        calls.append(None)
        return (fftshift if len(calls) % 2 else torch.fft.ifftshift)(*arguments, **options)

    torch.fft.fftshift = alternate
    try:
        return model(x)
    finally:
        torch.fft.fftshift = fftshift


def compare(folder):
    """Errors of all cases: rows of the table."""
    import jax
    import jax.numpy as jnp

    from sciml import interop

    rows = []
    for number, (name, (kind, config, spaces)) in enumerate(CASES.items()):
        for double in (False, True):
            with jax.enable_x64(double):
                data = dict(np.load(pathlib.Path(folder) / f"{number}-{int(double)}.npz"))
                arrays = {key[6:]: value for key, value in data.items() if key.startswith("array ")}
                published = (
                    interop.uno_from_neuraloperator(arrays, config)
                    if kind == "UNO"
                    else interop.fno_from_neuraloperator(arrays, config, spectral_layer=interop.PublishedSpectralConv)
                )
                ours = published if kind == "UNO" else interop.fno_from_neuraloperator(arrays, config)
                for i, space in enumerate(spaces):
                    run = lambda model, i=i, data=data: np.asarray(
                        jax.jit(jax.vmap(model))(jnp.asarray(data[f"x {i}"]))
                    )
                    y = data[f"y {i}"]
                    row = {
                        "case": name,
                        "operator": type(ours).__name__,
                        "space": space,
                        "precision": "float64" if double else "float32",
                        "odd": bool(any(n % 2 for n in space[:-1])),
                        "error": error(run(ours), y),
                        "error_published_form": error(run(published), y),
                    }
                    if f"unshifted {i}" in data:
                        row["error_with_ifftshift"] = error(run(ours), data[f"unshifted {i}"])
                    rows.append(row)
                    print(json.dumps(row))
    return rows


def error(y, expected):
    return float(np.linalg.norm(y - expected) / np.linalg.norm(expected))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer-python", help="interpreter that has torch and neuraloperator")
    parser.add_argument("--write", help="what that interpreter is asked to do: write the cases into this folder")
    parser.add_argument("--fixture", type=pathlib.Path, help="write the small cases of the tests, in that interpreter")
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS)
    given = parser.parse_args()
    if given.write:
        write(given.write)
        return
    if given.fixture:
        write_fixture(given.fixture)
        return
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([given.peer_python or sys.executable, __file__, "--write", folder], check=True)
        rows = compare(folder)
    worst = {}
    for precision in ("float32", "float64"):
        own = [row for row in rows if row["precision"] == precision]
        worst[precision] = {
            "even": max(row["error"] for row in own if not row["odd"]),
            "all_grids_in_the_published_form": max(row["error_published_form"] for row in own),
            "odd": max(row["error"] for row in own if row["odd"]),
            "odd_with_ifftshift": max(row.get("error_with_ifftshift", 0.0) for row in own),
        }
    command = "python benchmarks/interop_parity.py --peer-python VENV/bin/python"
    given.out.write_text(
        json.dumps({"command": command, "neuraloperator": "2.0.0", "worst": worst, "rows": rows}, indent=1) + "\n"
    )
    print(json.dumps(worst, indent=1))


if __name__ == "__main__":
    main()
