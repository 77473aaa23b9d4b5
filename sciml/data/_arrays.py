"""Arrays from `.npz` files."""

import os
import pathlib
import zipfile

import numpy as np

from sciml.data._dataset import Pairs
from sciml.grid import Dirichlet, Grid, Sides

FIRST_ON_THE_WALL: Sides = (Dirichlet(0.0), Dirichlet(1.0))


def read_arrays(path: str | os.PathLike[str], *names: str) -> tuple[np.ndarray, ...]:
    """Arrays of an `.npz` file by name, read without pickle.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is not a complete `.npz` file of plain arrays, or lacks one of these.
    """
    path = pathlib.Path(path)
    if not path.exists():
        raise FileNotFoundError(f"There is no file {path}. Check the path, or download the data set first.")
    try:
        # Opened here: np.load leaves a file open that it cannot understand.
        with path.open("rb") as raw, zipfile.ZipFile(raw), np.load(raw, allow_pickle=False) as file:
            missing = sorted(set(names) - set(file.files))
            if missing:
                raise ValueError(f"it holds the arrays {sorted(file.files)}, {missing} missing")
            return tuple(file[name] for name in names)
    except (ValueError, EOFError, zipfile.BadZipFile, OSError, AttributeError) as error:
        raise ValueError(
            f"Expected {path} to be an .npz file with the plain arrays {' and '.join(names)}, but {error}. "
            "Load them yourself, or write them by np.savez."
        ) from error


def read_npz(path: str | os.PathLike[str], *, sides: Sides = FIRST_ON_THE_WALL, extent: float = 1.0) -> Pairs:
    """Pairs from an `.npz` file with the arrays `x` and `y`, both `(samples, *space)` without a channel axis.

    The published Darcy sets of neuraloperator have this form, with points `i / n`: the first lies on the wall, the last
    one is a spacing away from it (their 32x32 set thinned by two is their 16x16 set). Other arrays go into `Pairs`
    directly: `Pairs(x[:, None], y[:, None])`.

    Args:
        path: The file. It is read without pickle.
        sides: Boundaries at the low and the high side of every axis, which place the points.
        extent: Length of each axis.

    Returns:
        Pairs with one channel each.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is not a complete `.npz` file, lacks an array, or `x` and `y` differ in shape.
    """
    x, y = read_arrays(path, "x", "y")
    if x.shape != y.shape or x.ndim < 2:
        raise ValueError(
            f"Expected x and y of one shape (samples, *space) in {path}, got {x.shape} and {y.shape}. "
            "Add the channel axes yourself and pass the arrays to Pairs."
        )
    grid = Grid(x.shape[1:], extent, (sides,) * (x.ndim - 1))
    return Pairs(x[:, None], y[:, None], grid=grid, attributes={"source": pathlib.Path(path).name})
