"""Trajectories from files, and forecasts into folders."""

import math
import pathlib

import numpy as np

from sciml import data, plot, symbolic
from sciml.files import new_folder
from sciml.tasks._forecast import Forecast, ForecastOptions, forecast
from sciml.tasks._guess import Trained

_LONGEST_NUMBER, _LONGEST_SHOWN = 100, 60  # characters


def predict_file(
    trained: Trained, trajectory: str | pathlib.Path, out: str | pathlib.Path, options: ForecastOptions
) -> list[str]:
    """Reads a trajectory, forecasts it and writes a new folder, which appears complete or not at all.

    The folder holds `forecast.csv` and `forecast.png` and, if the model writes equations, `equation.txt`, the
    right-hand side of each variable in SymPy's notation, one per line, `equation.tex` and, if they were fitted,
    `solution.csv`, their forecast, and `intervals.csv`, the ends of the interval of each state.

    Args:
        trained: The model.
        trajectory: For `read_trajectory`.
        out: The folder to write.
        options: Of the forecast.

    Returns:
        Lines to print.

    Raises:
        FileExistsError: If `out` exists.
        FileNotFoundError: If the trajectory does not exist.
        ValueError: As `read_trajectory` and `ProseODE.forecast`.
        ModuleNotFoundError: If there are equations to write, and SymPy is not installed.
    """
    out = pathlib.Path(out)
    with new_folder(out) as part:
        times, states = read_trajectory(trajectory)
        found = forecast(trained, times, states, options)
        _write(part, times, states, found)
    return [*_lines(found, options.level), f"{out}: {len(found.times)} states until t = {found.times[-1]:g}"]


def _lines(found: Forecast, level: float) -> list[str]:
    """The equations, how well they fit, and the intervals of their constants."""
    lines = [f"du_{i}/dt = {symbolic.to_text(tree)}" for i, tree in enumerate(rounded(found.system or ()))]
    if found.misfit is None:
        return lines
    text = "and are solved" if found.solution is not None else "but cannot be solved until the last time"
    lines.append(f"They fit the trajectory up to {found.misfit:.2g} of its deviation, {text}.")
    if found.posterior is not None and len(found.posterior.constants):
        each = zip(found.posterior.constants, *found.posterior.interval(level), strict=True)
        constants = "; ".join(f"{value:.4g} ({low:.4g} to {high:.4g})" for value, low, high in each)
        lines.append(f"Constants with {100 * level:g} % intervals, if the structure is right: {constants}.")
    return lines


def read_trajectory(path: str | pathlib.Path) -> tuple[np.ndarray, np.ndarray]:
    """Times `(n,)` and states `(n, variables)` in double precision.

    Args:
        path: A .csv file in UTF-8 with the columns t, u_0, u_1, ..., in this order, or in any order under a line of
            these names, all numbers finite and the times increasing; or a .npz file with the arrays `t` and `u`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is anything else; it names the line.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no trajectory file {path}.")
    if path.suffix == ".npz":
        return _read_npz(path)
    if path.suffix != ".csv":
        raise ValueError(f"Expected a trajectory in a .csv or .npz file, got {path}. Convert it.")
    lines = [(i, line) for i, line in enumerate(_text(path).split("\n"), start=1) if line.strip()]
    rows = [(i, line, [_number(cell) for cell in line.split(",")]) for i, line in lines]
    order = None
    if rows and not any(isinstance(cell, float) for cell in rows[0][2]):
        order = _columns(f"{path}, line {rows[0][0]}", rows.pop(0)[1])
    width = max(len(order or (rows[0][2] if rows else ())), 2)
    table = np.empty((len(rows), width))
    before = -math.inf
    for place, (i, line, row) in enumerate(rows):
        if len(row) != width or None in row:
            raise ValueError(
                f"{path}, line {i}: expected {width} finite numbers, a time and the states, separated by commas, got "
                f"{_shown(line)}. Remove or complete the line."
            )
        table[place] = row if order is None else [row[column] for column in order]
        if table[place, 0] <= before:
            raise ValueError(
                f"{path}, line {i}: expected a time after {before:g}, got {table[place, 0]:g}. Sort the lines by time "
                "and keep one of each."
            )
        before = table[place, 0]
    return table[:, 0], table[:, 1:]


def _text(path: pathlib.Path) -> str:
    """The text with one kind of line ends."""
    content = path.read_bytes().replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        i, byte = content.count(b"\n", 0, error.start) + 1, f"{content[error.start]:#04x}"
        raise ValueError(f"{path}, line {i}: expected text in UTF-8, got the byte {byte}. Save it as such.") from None


def _columns(where: str, line: str) -> list[int]:
    """The columns of t, u_0, u_1, ... in a line of names."""
    names = [name.strip() for name in line.split(",")]
    wanted = ["t", *(f"u_{i}" for i in range(len(names) - 1))]
    if sorted(names) != sorted(wanted):
        known = ", ".join(wanted if len(wanted) < 10 else (*wanted[:3], "...", wanted[-1]))
        raise ValueError(f"{where}: expected the columns {known}, got {_shown(line)}. Rename them.")
    return [names.index(name) for name in wanted]


def _number(cell: str) -> float | None:
    """A finite number as other programs write it: Python would read 1_0 as 10, too."""
    try:
        number = float(cell) if len(cell) <= _LONGEST_NUMBER and "_" not in cell else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _shown(line: str) -> str:
    """A line in quotes, with its beginning alone if it is long."""
    more = len(line) - _LONGEST_SHOWN
    return repr(line) if more <= 0 else f"{line[:_LONGEST_SHOWN]!r} and {more} more characters"


def _read_npz(path: pathlib.Path) -> tuple[np.ndarray, np.ndarray]:
    times, states = data.read_arrays(path, "t", "u")
    if not all(np.issubdtype(array.dtype, np.number) and not np.iscomplexobj(array) for array in (times, states)):
        raise ValueError(f"Expected real numbers in {path}, got t of {times.dtype} and u of {states.dtype}.")
    times, states = times.astype(np.float64), states.astype(np.float64)
    if times.ndim != 1 or states.ndim != 2 or len(times) != len(states):
        raise ValueError(
            f"Expected t of shape (n,) and u of shape (n, variables) in {path}, got {times.shape} and {states.shape}."
        )
    return times, states


def _write(folder: pathlib.Path, times: np.ndarray, states: np.ndarray, found: Forecast) -> None:
    variables = states.shape[1]
    names = ",".join(("t", *(f"u_{i}" for i in range(variables))))
    curves = {"forecast": found.states} | ({} if found.solution is None else {"solution": found.solution})
    for name, values in curves.items():
        table = np.column_stack((found.times, values))
        np.savetxt(folder / f"{name}.csv", table, fmt="%.9g", delimiter=",", header=names, comments="")
    if found.band is not None:
        ends = np.stack((found.band.low, found.band.high), axis=2).reshape(len(found.times), -1)
        header = ",".join(("t", *(f"u_{i}_{end}" for i in range(variables) for end in ("low", "high"))))
        table = np.column_stack((found.times, ends))
        np.savetxt(folder / "intervals.csv", table, fmt="%.9g", delimiter=",", header=header, comments="")
    title = ""
    if found.system is not None:
        (folder / "equation.txt").write_text("".join(f"{_sympy_text(tree)}\n" for tree in found.system))
        rows = [rf"  \dot{{u}}_{{{i}}} &= {symbolic.to_latex(tree)}" for i, tree in enumerate(found.system)]
        body = " \\\\\n".join(rows)
        (folder / "equation.tex").write_text(f"\\begin{{align*}}\n{body}\n\\end{{align*}}\n")
        title = "\n".join(f"du_{i}/dt = {symbolic.to_text(tree)}" for i, tree in enumerate(rounded(found.system)))
    lines = {name: [(found.times, values)] for name, values in curves.items()}
    plot.save(plot.trajectories([(times, states)], [], lines, titles=[title]), folder / "forecast.png")


def rounded(system: symbolic.System) -> symbolic.System:
    """The system with six digits of its constants, to be looked at."""
    return symbolic.with_parameters(system, [float(f"{value:.6g}") for value in symbolic.parameters(system)])


def _sympy_text(tree: symbolic.AbstractExpression) -> str:
    expression = symbolic.to_sympy(tree)
    from sympy import sstr

    return sstr(expression, full_prec=False)
