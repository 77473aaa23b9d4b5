"""The command line: `sciml train | evaluate | compare | predict | benchmark | generate | info`."""

import argparse
import dataclasses
import os
import pathlib
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Annotated, Any

import tyro

from sciml.cli import _process
from sciml.cli._commands import Usage, compare, evaluate, info, parse, predict

_USAGE = """usage: sciml COMMAND ...

  train FILE [--preset NAME] [--FIELD VALUE ...] --out DIR   train, or go on with an interrupted run
  evaluate DIR [--resolution N ...]                          test a finished run, also at other resolutions
  compare DIR ... --out FOLDER                               finished runs beside each other, table and figures
  predict DIR TRAJECTORY [--equation TEXT] --out FOLDER      forecast and equations of a trajectory, by a PROSE run
  benchmark FILE --models NAME ... (--budget TIME | --epochs N) [--seeds N] --out FOLDER
                                                             models of an experiment under equal conditions
  generate PROBLEM [--n N] [--FIELD VALUE ...] --out FILE    make a data set
  info                                                       versions and devices

sciml COMMAND --help lists all options; sciml train FILE --help lists the fields of that experiment."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit code: 0, 1 after an error, 2 for wrong usage, 130 if interrupted."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    commands = {"train": _train, "evaluate": evaluate, "compare": compare, "predict": predict}
    commands |= {"benchmark": _benchmark, "generate": _generate, "info": info}
    if not given or given[0] in ("-h", "--help"):
        print(_USAGE)
        return 0 if given else 2
    if given[0] not in commands:
        return _fail(f"There is no command {given[0]!r}, only {', '.join(commands)}. Try sciml --help.", 2)
    try:
        if "jax" not in sys.modules:
            _process.prepare(restart=arguments is None)
        return commands[given[0]](given[1:])
    except Usage as error:
        return _fail(str(error), 2)
    except KeyboardInterrupt as error:
        return _fail(f"Interrupted. {error}".strip(), 130)
    except (ValueError, FloatingPointError, OSError, ImportError, RuntimeError) as error:
        if os.environ.get("SCIML_TRACEBACK"):
            raise
        text = error.strerror if isinstance(error, OSError) and error.filename is None else None
        return _fail(f"{text or error}\n(SCIML_TRACEBACK=1 shows where it came from)", 1)


def _fail(message: str, code: int) -> int:
    print(f"sciml: {message}", file=sys.stderr)
    return code


def _train(arguments: Sequence[str]) -> int:
    from sciml import experiment

    if not arguments or arguments[0].startswith("-"):
        print(_USAGE)
        return 0 if arguments and arguments[0] in ("-h", "--help") else 2
    module = _load(arguments[0])
    options = _experiment_options(module, arguments, "train", {"out": _OUT})
    config = options.config
    model = dict(experiment.settings(config)).get("model")
    if model is not None and model not in module.MODELS:
        raise Usage(f"There is no model {model!r} in {arguments[0]}, only {', '.join(module.MODELS)}.")
    experiment.run_file(module, config, options.out)
    return 0


def _load(file: str) -> ModuleType:
    from sciml import experiment

    try:
        return experiment.load_file(file)
    except (FileNotFoundError, ValueError) as error:
        raise Usage(str(error)) from None


_OUT = Annotated[pathlib.Path, tyro.conf.arg(help="Folder of the run; an interrupted run in it goes on.")]


def _experiment_options(
    module: ModuleType, arguments: Sequence[str], command: str, kinds: dict[str, Any], defaults: Any = None
) -> Any:
    """The Config of an experiment file, with the chosen preset's values as defaults, and the options of a command."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--preset", nargs="?", default=next(iter(module.PRESETS)))
    preset = first.parse_known_args(arguments[1:])[0].preset
    if preset not in module.PRESETS:
        raise Usage(f"There is no preset {preset!r} in {arguments[0]}, only {', '.join(module.PRESETS)}.")
    hidden = {*kinds, "preset"} & {field.name for field in dataclasses.fields(module.Config)}
    if hidden:
        raise Usage(
            f"The Config must not have the field {', '.join(hidden)}, an option of every experiment. Rename it."
        )
    presets = ", ".join(module.PRESETS)
    fields: list[Any] = [
        ("config", module.Config),
        *kinds.items(),
        ("preset", Annotated[str, tyro.conf.arg(help=f"Default of all other fields: {presets}.")], preset),
    ]
    options = dataclasses.make_dataclass("Options", fields)
    given = dict.fromkeys(kinds, tyro.MISSING) | (defaults or {})
    default = options(config=module.PRESETS[preset], preset=preset, **given)
    description = (module.__doc__ or "").strip()
    return parse(options, arguments[1:], f"sciml {command} {arguments[0]}", description, default)


_BENCHMARK = {
    "out": Annotated[pathlib.Path, tyro.conf.arg(help="Folder of the benchmark; an interrupted one in it goes on.")],
    "models": Annotated[tuple[str, ...], tyro.conf.arg(help="Which of MODELS.")],
    "budget": Annotated[
        str | None, tyro.conf.arg(help="Training time of each run (300s, 5m, 1.5h) instead of epochs.")
    ],
    "seeds": Annotated[int, tyro.conf.arg(help="Runs of each model, with consecutive seeds from --seed on.")],
    "target": Annotated[str | None, tyro.conf.arg(help="Validation error to reach, such as relative_l2=0.02.")],
}


def _benchmark(arguments: Sequence[str]) -> int:
    from sciml import benchmark

    if not arguments or arguments[0].startswith("-"):
        print(_USAGE)
        return 0 if arguments and arguments[0] in ("-h", "--help") else 2
    module = _load(arguments[0])
    given = {argument.split("=")[0] for argument in arguments[1:]}
    try:
        benchmark.check_fields(module)
        if not given & {"-h", "--help"}:
            if "--model" in given:
                raise Usage("A benchmark has several models. Give --models NAME ... instead of --model.")
            if len(given & {"--budget", "--epochs"}) != 1:
                raise Usage("Expected either --budget TIME, equal training time, or --epochs N, equal epochs.")
        defaults = {"budget": None, "seeds": 3, "target": None}
        options = _experiment_options(module, arguments, "benchmark", _BENCHMARK, defaults)
        budget = None if options.budget is None else benchmark.duration(options.budget)
        target = None if options.target is None else benchmark.target(options.target)
        models = tuple(dict.fromkeys(options.models))
        plan = benchmark.Plan(module, options.config, models, options.seeds, budget, target)
    except ValueError as error:
        raise Usage(str(error)) from None
    failed = {one["run"]: one["failure"] for one in benchmark.benchmark(plan, options.out)["runs"] if one["failure"]}
    if failed:
        reasons = "\n".join(f"  {name}: {reason}" for name, reason in failed.items())
        count = f"{len(failed)} of {len(plan.runs)} runs failed"
        return _fail(f"{count}, the same command tries them again:\n{reasons}", 1)
    return 0


def _generate(arguments: Sequence[str]) -> int:
    from rich.progress import Progress

    from sciml.data import GENERATORS, generate

    if not arguments or arguments[0] not in GENERATORS:
        known = ", ".join(GENERATORS)
        if arguments and arguments[0] in ("-h", "--help"):
            print(f"usage: sciml generate PROBLEM ...\n\nPROBLEM is one of: {known}.")
            return 0
        raise Usage(f"Expected one of the problems {known}, got {arguments[0] if arguments else 'nothing'}.")
    problem = GENERATORS[arguments[0]]
    text = "Write samples of a problem to a file."
    options = parse(_generation_options(problem), arguments[1:], f"sciml generate {arguments[0]}", text)
    with Progress() as bar:
        task = bar.add_task(options.out.name)
        generate(
            options.problem,
            options.out,
            n=options.n,
            seed=options.seed,
            batch=options.batch,
            overwrite=options.overwrite,
            progress=lambda done, n: bar.update(task, completed=done, total=n),
        )
    return 0


def _generation_options(problem: type) -> type:
    help_of = lambda kind, text: Annotated[kind, tyro.conf.arg(help=text)]
    return dataclasses.make_dataclass(
        "Options",
        [
            ("out", help_of(pathlib.Path, "File to write (HDF5).")),
            ("problem", problem),
            ("n", help_of(int, "Number of samples."), 1000),
            ("seed", help_of(int, "Number that selects the samples."), 0),
            ("batch", help_of(int, "Number of samples computed at once."), 32),
            ("overwrite", help_of(bool, "Replace an existing file."), False),
        ],
    )
