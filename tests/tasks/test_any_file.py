"""From a file of any format to a forecast and a report, by the command line alone."""

import json
import os
import pathlib

import numpy as np
import pytest
import scipy.io
from public_formats import arena, centres, darcy, flow, grouped, incompressible, matlab7, single, values, well

from sciml import data
from sciml.cli import main

slow = pytest.mark.slow


def folder_of_parts(path):
    for part in ("train", "valid", "test"):
        (path / "data" / part).mkdir(parents=True)
        well(path / "data" / part / f"one_{part}.hdf5", samples=3, frames=5, space=(12, 8))


def pairs(path):
    np.savez(path, x=values(0, 6, 12, 16), y=values(1, 6, 12, 16))


def time_last(path):
    scipy.io.savemat(path, {"u": values(0, 5, 8, 12, 6), "a": values(1, 5, 8, 12), "t": np.arange(1.0, 7.0)})


def coefficients(path):
    scipy.io.savemat(path, {"coeff": values(0, 5, 13, 13), "sol": values(1, 5, 13, 13)})


def vorticity(path):
    matlab7(path, u=values(0, 5, 12, 12, 6), a=values(1, 5, 12, 12), t=np.arange(1.0, 7.0))


def netcdf(path):
    with scipy.io.netcdf_file(path, "w") as file:
        for name, size in (("sample", 5), ("time", 6), ("x", 16)):
            file.createDimension(name, size)
            if name != "sample":
                file.createVariable(name, "f8", (name,))[:] = centres(size)
        file.createVariable("height", "f4", ("sample", "time", "x"))[:] = values(0, 5, 6, 16)


def array(path):
    np.save(path, values(0, 6, 7, 2, 16))


APEBENCH = ("--axes", "sample,time,channel,x")
SCHEMAS = {  # file name, writer, options, task
    "single": ("a.hdf5", lambda path: single(path, samples=12, frames=6, space=(16,)), (), "step"),
    "darcy": ("b.hdf5", lambda path: darcy(path, samples=12, space=(12, 16)), (), "map"),
    "flow-1d": ("c.hdf5", lambda path: flow(path, samples=12, frames=5, space=(16,)), (), "step"),
    "flow-2d": ("d.hdf5", lambda path: flow(path, samples=12, frames=5, space=(12, 8)), (), "step"),
    "flow-3d": ("e.hdf5", lambda path: flow(path, samples=12, frames=5, space=(8, 6, 10)), (), "step"),
    "unbatched": ("f.hdf5", lambda path: flow(path, samples=None, frames=12, space=(16,)), (), "step"),
    "grouped": ("g.h5", lambda path: grouped(path, samples=11, frames=5, space=(12, 8), channels=2), (), "step"),
    "incompressible": ("h.h5", lambda path: incompressible(path, samples=4, frames=6, space=(12, 8)), (), "step"),
    "arena": ("i.h5", lambda path: arena(path, samples=5, frames=6, space=(12, 8)), (), "step"),
    "well": ("j", folder_of_parts, (), "step"),
    "time-last": ("k.mat", time_last, (), "step"),
    "coefficients": ("l.mat", coefficients, (), "map"),
    "matlab-7.3": ("m.mat", vorticity, (), "step"),
    "npz": ("n.npz", pairs, (), "map"),
    "npy": ("o.npy", array, APEBENCH, "step"),
    "netcdf": ("p.nc", netcdf, (), "step"),
}
QUICK = ("darcy",)  # the others train as well, by `make test-all`


def runs(arguments, capsys):
    assert main([str(one) for one in arguments]) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def all_commands(path, folder, options, task, capsys):
    """Information, training, forecast, report and conversion; what they print and write is looked at."""
    shown = runs(("data", "info", path, *options), capsys)
    assert all(label in shown for label in ("format", "samples", "channels", "axes", "size", "stored", "values"))
    said = runs(("train", path, *options, "--preset", "smoke", "--model", "convnet", "--out", folder / "run"), capsys)
    assert f"task: {task}, because" in said
    card = json.loads((folder / "run/data.json").read_text())
    assert card["task"] == task
    assert sum(card["samples"].values()) >= 3
    metrics = json.loads((folder / "run/metrics.json").read_text())
    assert metrics["steps"] == 5
    assert {"relative_l2", "nrmse", "vrmse", "diverged"} <= metrics["test"].keys()
    assert metrics["baselines"].keys() == ({"persistence", "mean"} if task == "step" else {"mean"})
    known = data.open_data(path, data.Hints(axes=options[1:]))
    runs(("predict", folder / "run", path, *options, "--samples", 2, "--out", folder / "found.npz"), capsys)
    with np.load(folder / "found.npz") as found:
        seen = 0 if task == "map" else 1
        assert found["frames"].shape == (min(2, len(known)), known.layout.frames - seen, *known.layout.shape[2:])
        assert np.isfinite(found["frames"]).all()
    assert (folder / "found.png").stat().st_size > 1000
    runs(("report", folder / "run", "--out", folder / "report.html"), capsys)
    page = (folder / "report.html").read_text()
    assert known.layout.format.partition(" ")[0] in page
    assert "data:image/png;base64," in page
    runs(("export", folder / "run", "--to", "onnx", "--out", folder / "onnx"), capsys)
    card = json.loads((folder / "onnx/card.json").read_text())
    assert next(iter(card["inputs"])) == ("fixed" if task == "map" else "frames")
    assert card["output"]["shape"] == [1, *known.layout.shape[2:]]
    assert card["grid"]["lengths"] == list(known.layout.grid.lengths)
    runs(("data", "convert", path, *options, "--out", folder / "fast.h5"), capsys)
    again = data.open_data(folder / "fast.h5")
    rows = np.arange(len(known))
    for name, array in again[rows].items():
        np.testing.assert_array_equal(array, known[rows][name])


@pytest.mark.parametrize("name", [one if one in QUICK else pytest.param(one, marks=slow) for one in SCHEMAS])
def test_a_path_is_enough(tmp_path, capsys, name):
    file, write, options, task = SCHEMAS[name]
    write(tmp_path / file)
    all_commands(tmp_path / file, tmp_path, options, task, capsys)


PUBLISHED = pathlib.Path(os.environ.get("SCIML_DATA", "../shared/data")) / "synthetic"
PATHS = sorted(path for path in PUBLISHED.glob("*.*")) + sorted(PUBLISHED.glob("well/*"))
MAPS = ("burgers_data", "piececonst", "2D_DarcyFlow")


@slow
@pytest.mark.parametrize(
    "path", PATHS or [pytest.param(None, marks=pytest.mark.skip(reason=f"there is no folder {PUBLISHED}"))]
)
def test_files_true_to_the_published_schemas(tmp_path, capsys, path):
    all_commands(path.resolve(), tmp_path, (), "map" if path.name.startswith(MAPS) else "step", capsys)
