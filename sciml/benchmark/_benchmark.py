"""Trains the models of a plan one after another and reports on them."""

import contextlib
import pathlib
import traceback
from typing import Any

from rich.console import Console

from sciml import experiment, parallel
from sciml.benchmark._board import Board
from sciml.benchmark._calibration import fitted, measure
from sciml.benchmark._figures import draw
from sciml.benchmark._plan import Plan, run_name
from sciml.benchmark._report import report
from sciml.benchmark._table import explanation, table, write_csv, write_markdown
from sciml.experiment import check_folder
from sciml.files import locked, read_json, write_json

_ALL_FAIL = 60.0  # s within which an error of all processes has reached all of them


def benchmark(plan: Plan, out: str | pathlib.Path, *, console: Console | None = None) -> dict[str, Any]:
    """Trains all models of a plan with all seeds, or goes on with that, and compares their errors and their cost.

    Each run has its own folder `<model>-seed<k>`, is trained by `experiment.run` and never trained again once it is
    finished. Runs follow one another, so that each has the machine for itself. A run that fails does not end the
    benchmark; the next call tries it again.

    `out` then holds `benchmark.json` (settings, device, versions, results by model and by run), `benchmark.csv` (a line
    per run), `table.md`, `calibration.json` (memory and time of a step, the steps that fit in the budget), the figures
    `accuracy_cost.png` and `losses.png`, and `<run>.failure.txt` for each run that failed.

    Args:
        plan: Models, settings, budget.
        out: New or empty folder, or one of a benchmark with the same settings.
        console: Where progress and the table are written.

    Returns:
        The content of `benchmark.json`; each of its `runs` has a `failure`, None for those that are finished.

    Raises:
        ValueError: If the folder holds anything else, the budget is too short, or the target is no validation error.
        BlockingIOError: If another process works in the folder.
    """
    out = pathlib.Path(out)
    console = Console(quiet=not parallel.is_first()) if console is None or not parallel.is_first() else console
    failures: dict[str, str] = {}
    with contextlib.ExitStack() as held, Board(plan.models, plan.seeds, console) as board:
        parallel.by_first(lambda: _begin(plan, out, held))
        calibration = _calibrate(plan, out, failures, board)
        content = parallel.by_first(lambda: report(plan, out, calibration, failures))
        for seed, model in plan.runs:
            if model in calibration:
                _attempt(plan, out, (model, seed), calibration[model].get("epochs"), failures, board)
            content = parallel.by_first(lambda: _noted(report(plan, out, calibration, failures), out))
    parallel.by_first(lambda: _show(content, out))
    console.print(table(content), explanation(content), highlight=False)
    return content


def _begin(plan: Plan, out: pathlib.Path, held: contextlib.ExitStack) -> None:
    """Makes the folder of a benchmark, or checks that it goes on with the same, and holds it."""
    check_folder(out, plan.settings())
    out.mkdir(parents=True, exist_ok=True)
    held.enter_context(locked(out))
    write_json(out / "config.json", plan.settings())


def _noted(content: dict[str, Any], out: pathlib.Path) -> dict[str, Any]:
    write_json(out / "benchmark.json", content)
    write_csv(content, out / "benchmark.csv")
    return content


def _show(content: dict[str, Any], out: pathlib.Path) -> None:
    write_markdown(content, out / "table.md")
    draw(content, out)


def _calibrate(plan: Plan, out: pathlib.Path, failures: dict[str, str], board: Board) -> dict[str, Any]:
    """What the steps of the models cost, from `calibration.json` where it is known.

    For a budget all models are timed one after another, then all once more, and the shorter time of each counts, so
    that a moment in which the machine was slow costs no model its steps.
    """
    path = out / "calibration.json"
    known = parallel.by_first(lambda: _calibrated(path))
    last = 1 if plan.budget is None else 2
    for turn in range(1, last + 1):
        for model in plan.models:
            measured = known.get(model, {})
            if "steps" in measured or (measured and turn == 1) or run_name(model, plan.first_seed) in failures:
                continue
            board.say(model, "is compiled and measured" if turn == 1 else "is measured again")
            try:
                built = experiment.build_with(plan.module, plan.config_of(model, plan.first_seed))
                found = parallel.broadcast(measure(built, plan.budget, plan.layout))
            except Exception as error:
                _check_of_all(error)
                known.pop(model, None)
                for seed, _ in (one for one in plan.runs if one[1] == model):
                    failures[run_name(model, seed)] = _note(error, out / f"{run_name(model, seed)}.failure.txt")
                board.say(model, "failed", plan.seeds)
                continue
            quicker = min((known.get(model, found), found), key=lambda one: one.get("seconds_per_step", 0))
            known[model] = quicker
            if plan.budget is not None and turn == last:
                known[model] = fitted(model, quicker, plan.budget)
            if parallel.is_first():
                write_json(path, known)
            board.say(model, "waits")
    _say_steps(plan, known, board)
    return {model: known[model] for model in plan.models if model in known}


def _calibrated(path: pathlib.Path) -> dict[str, Any]:
    return read_json(path, dict[str, dict[str, float | None]]) if path.exists() else {}


def _check_of_all(error: Exception) -> None:
    """Goes on if all processes have failed, which they do when settings do not fit or a loss is not finite.

    Raises:
        Exception: The error, if it is one of this process alone: the others are in the middle of a run.
    """
    try:
        parallel.barrier("failure", seconds=_ALL_FAIL)
    except RuntimeError:
        raise error from None


def _say_steps(plan: Plan, known: dict[str, Any], board: Board) -> None:
    """Prints what a step of each model costs and how many fit in the budget."""
    for model in plan.models:
        if plan.budget is not None and model in known:
            cost = f"{1000 * known[model]['seconds_per_step']:.4g} ms a step"
            epochs, steps = known[model]["epochs"], known[model]["steps"]
            board.print(f"{model}: {cost}, {steps:.0f} steps ({epochs:.4g} epochs) in {plan.budget:g} s")


def _attempt(
    plan: Plan,
    out: pathlib.Path,
    which: tuple[str, int],
    epochs: float | None,
    failures: dict[str, str],
    board: Board,
) -> None:
    """Trains one run, or notes why it failed."""
    name, number = run_name(*which), which[1] - plan.first_seed
    reason = out / f"{name}.failure.txt"
    if parallel.is_first():
        reason.unlink(missing_ok=True)
    board.say(which[0], f"seed {number + 1}/{plan.seeds}  is compiled", number)
    try:
        experiment.run_file(
            plan.module,
            plan.config_of(*which, epochs),
            out / name,
            console=board.console,
            progress=board.progress_of(which[0], number),
            layout=plan.layout,
        )
        if plan.coverage is not None and f"{plan.coverage:g}" not in experiment.read_metrics(out / name).bands:
            experiment.evaluate(out / name, coverage=(plan.coverage,), file=plan.file)
    except Exception as error:
        _check_of_all(error)
        failures[name] = _note(error, reason)
        board.print(f"{out / name} failed: {failures[name]}")
    ended = "finished" if number + 1 == plan.seeds else "waits for the other models"
    board.say(which[0], f"seed {number + 1}/{plan.seeds}  {'failed' if name in failures else ended}", number + 1)


def _note(error: Exception, path: pathlib.Path) -> str:
    """Writes where an error came from into a file; returns its first line."""
    if parallel.is_first():
        path.write_text("".join(traceback.format_exception(error)))
    return f"{type(error).__name__}: {error}".splitlines()[0]
