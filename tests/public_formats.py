"""Writers of small files in public HDF5 formats, with any sizes and names, for tests of readers."""

import h5py
import numpy as np

AXES = ("x", "y", "z")


def values(seed, *shape):
    """Random numbers of type float32, so that every value tells its place."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def centres(n, length=1.0):
    return ((np.arange(n) + 0.5) * length / n).astype(np.float32)


def _coordinates(file, space, frames, *, further=1):
    for axis, n in zip(AXES, space, strict=False):
        file[f"{axis}-coordinate"] = centres(n, 2.0)
    file["t-coordinate"] = np.linspace(0.5, 2.0, frames + further, dtype=np.float32)


def single(path, *, samples=12, frames=5, space=(7,), attributes=None, further=1):
    """PDEBench: advection, Burgers, reaction-diffusion."""
    with h5py.File(path, "w") as file:
        file["tensor"] = values(0, samples, frames, *space)
        _coordinates(file, space, frames, further=further)
        file.attrs.update({"Nu": 0.25} if attributes is None else attributes)


def darcy(path, *, samples=4, space=(6, 9)):
    """PDEBench: coefficient and solution, with more times than the single frame."""
    with h5py.File(path, "w") as file:
        file["tensor"] = values(0, samples, 1, *space)
        file["nu"] = np.where(values(1, samples, *space) > 0, 1.0, 0.1).astype(np.float32)
        _coordinates(file, space, 9)
        file.attrs["beta"] = 10.0


def flow(path, *, samples=3, frames=4, space=(7,), chunks=None):
    """PDEBench: compressible flow; without samples the arrays have no such axis."""
    batch = () if samples is None else (samples,)
    names = ("density", "pressure", "Vx", "Vy", "Vz")[: 2 + len(space)]
    with h5py.File(path, "w") as file:
        for seed, name in enumerate(names):
            data = values(seed, *batch, frames, *space)
            file.create_dataset(name, data=data, chunks=chunks, compression=None if chunks is None else "gzip")
        _coordinates(file, space, frames)
        file.attrs.update({"eta": 0.5, "zeta": 0.125, "comment": "text"})


def grouped(path, *, samples=11, frames=5, space=(7,), channels=1, config="sim: {{seed: {i}, D: {i}e-3, k: 5}}\n"):
    """PDEBench: a group for each sample."""
    with h5py.File(path, "w") as file:
        for i in range(samples):
            group = file.create_group(f"{i:04d}")
            data = values(i, frames, *space, channels)
            group.create_dataset("data", data=data, chunks=(2, *space, channels), compression="lzf")
            for axis, n in zip(AXES, space, strict=False):
                group[f"grid/{axis}"] = centres(n) - 1
            group["grid/t"] = np.linspace(0, 3, frames, dtype=np.float32)
            group.attrs["config"] = config.format(i=i)


def incompressible(path, *, samples=2, frames=6, space=(7, 9), seed=0, times=None):
    """PDEBench: velocity, particles and force with the components last."""
    d = len(space)
    with h5py.File(path, "w") as file:
        file.create_dataset("velocity", data=values(seed, samples, frames, *space, d), compression="lzf")
        file["particles"] = values(seed + 1, samples, frames, *space, 1)
        file["force"] = values(seed + 2, samples, *space, d)
        line = np.broadcast_to(np.linspace(0, 5, frames, dtype=np.float32), (samples, frames))
        file["t"] = line if times is None else times
        file.attrs.update({"config": "{}", "latestIndex": 9})


def arena(path, *, part="train", samples=3, frames=5, space=(8, 6)):
    """PDEArena: one group with fields, and numbers, times and coordinates for each sample."""
    with h5py.File(path, "w") as file:
        group = file.create_group(part)
        for seed, name in enumerate(("u", "vx", "vy")):
            group[name] = values(seed, samples, frames, *space)
        group["buo_y"] = values(5, samples)
        group["t"] = np.tile(np.linspace(18, 102, frames), (samples, 1))
        for axis, n in zip(AXES, space, strict=False):
            group[axis] = np.tile(centres(n, 32.0), (samples, 1))
            group[f"d{axis}"] = np.full(samples, 32.0 / n)
        group["dt"] = np.full(samples, 1.5)


def well(path, *, samples=3, frames=4, space=(6, 8), names=("x", "y"), change=lambda file: None):
    """The Well: a density, a coefficient, a velocity and a tensor, and one scalar for each sample."""
    d = len(space)
    with h5py.File(path, "w") as file:
        file.attrs.update({"dataset_name": "made", "grid_type": "cartesian", "n_spatial_dims": d})
        file.attrs.update({"n_trajectories": samples, "simulation_parameters": ["k"]})
        dimensions = file.create_group("dimensions")
        dimensions.attrs["spatial_dims"] = list(names)
        dimensions["time"] = np.linspace(0, 3, frames, dtype=np.float32)
        for name, n in zip(names, space, strict=True):
            dimensions[name] = (np.arange(n) / n).astype(np.float32)
            condition(file, f"{name}_periodic", "PERIODIC", [name], np.isin(np.arange(n), (0, n - 1)))
        scalars = file.create_group("scalars")
        scalars.attrs["field_names"] = ["k"]
        scalar(file, "k", values(9, samples), sample_varying=True)
        fields = {"t0_fields": ["kappa", "density"], "t1_fields": ["velocity"], "t2_fields": ["D"]}
        for group, listed in fields.items():
            file.create_group(group).attrs["field_names"] = listed
        field(file, "t0_fields/kappa", values(0, samples, *space), d, time_varying=False)
        field(file, "t0_fields/density", values(1, samples, frames, *space), d)
        field(file, "t1_fields/velocity", values(2, samples, frames, *space, d), d)
        field(file, "t2_fields/D", values(3, samples, frames, *space, d, d), d)
        change(file)


def field(file, name, data, dimensions, *, sample_varying=True, time_varying=True, dim_varying=None):
    if name in file:
        del file[name]
    file[name] = data
    varying = np.ones(dimensions, bool) if dim_varying is None else np.array(dim_varying)
    file[name].attrs.update({"sample_varying": sample_varying, "time_varying": time_varying, "dim_varying": varying})


def scalar(file, name, data, *, sample_varying=False, time_varying=False):
    file[f"scalars/{name}"] = data
    file[f"scalars/{name}"].attrs.update({"sample_varying": sample_varying, "time_varying": time_varying})


def condition(file, name, kind, dims, mask):
    group = file.require_group(f"boundary_conditions/{name}")
    group.attrs.update({"bc_type": kind, "associated_dims": dims, "associated_fields": ["density"]})
    group.attrs.update({"sample_varying": False, "time_varying": False})
    group["mask"] = mask


def matlab7(path, **arrays):
    """MATLAB 7.3: HDF5 behind a header of 512 bytes, with the axes reversed."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, array in arrays.items():
            file[name] = np.ascontiguousarray(np.asarray(array).T)
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\0\2IM")
