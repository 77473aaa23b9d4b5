"""Commands that train: `sciml train` and `sciml benchmark`."""

import pathlib
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Annotated, Any, Literal

import tyro

from sciml.cli._errors import Usage, one_line
from sciml.cli._options import experiment_options, help_without_experiment, load_experiment, with_data

_TRACK = Annotated[
    Literal["tensorboard", "wandb", "mlflow"] | None,
    tyro.conf.arg(help="Tool for which logs and metrics are written too, into the folder of a run; nothing is sent."),
]

_MESH = Annotated[
    str | None,
    tyro.conf.arg(
        metavar="LAYOUT",
        help="How a run is laid out over devices: data=8 parts of a batch, space=4x2 parts of the axes of space, "
        "state=cut for parameters and optimiser in parts; with commas between. By default all share each batch.",
    ),
]


def _layout(words: str | None) -> Any:
    """The layout of `--mesh`."""
    from sciml import parallel

    try:
        return parallel.Layout() if words is None else parallel.Layout.parse(words)
    except ValueError as error:
        raise Usage(f"--mesh {words}: {error}") from None


def _tracked(module: ModuleType, tool: str | None, out: pathlib.Path) -> ModuleType:
    """An experiment file whose runs are tracked by a tool, if one is given.

    Raises:
        ImportError: If it is not installed.
    """
    if tool is None:
        return module
    from sciml import experiment, train

    tensorboard = lambda folder, **options: train.tensorboard(folder / "tensorboard", **options)
    hook = {"tensorboard": tensorboard, "wandb": train.wandb, "mlflow": train.mlflow}[tool]
    hook(out)  # writes nothing yet; a missing package is named before anything is made
    return experiment.with_hooks(module, lambda config, folder: [hook(folder, config=config)])


_TRAIN: dict[str, Any] = {
    "out": Annotated[pathlib.Path, tyro.conf.arg(help="Folder of the run; an interrupted run in it goes on.")],
    "from_step": Annotated[
        int | None,
        tyro.conf.arg(name="from", metavar="STEP", help="Go on from the checkpoint of this step, not from the last."),
    ],
    "track": _TRACK,
    "mesh": _MESH,
}
_TRAIN_DEFAULTS = {"from_step": None, "track": None, "mesh": None}


def train(arguments: Sequence[str]) -> int:
    """Trains one model of an experiment, or goes on with an interrupted run."""
    from sciml import experiment

    arguments = with_data(arguments)
    if not arguments or arguments[0].startswith("-"):
        help_without_experiment(arguments, "train", "Train, or go on with an interrupted run.", _TRAIN, _TRAIN_DEFAULTS)
    module = load_experiment(arguments[0])
    options = experiment_options(module, arguments, "train", _TRAIN, _TRAIN_DEFAULTS)
    config = options.config
    model = dict(experiment.settings(config)).get("model")
    if model is not None and model not in module.MODELS:
        raise Usage(f"There is no model {model!r} in {arguments[0]}, only {', '.join(module.MODELS)}.")
    if options.from_step is not None and options.from_step < 0:
        raise Usage(f"Expected --from STEP, the step of a checkpoint of the run, got {options.from_step}.")
    layout = _layout(options.mesh)
    experiment.check_settings(config)
    config = _resolved(module, config)
    start = {} if options.from_step is None else {"start": options.from_step}
    experiment.run_file(_tracked(module, options.track, options.out), config, options.out, layout=layout, **start)
    return 0


def _resolved(module: ModuleType, config: Any) -> Any:
    """The config with what the module's `resolve` chooses, which is printed; without such a function as it is."""
    from sciml import parallel

    resolve = vars(module).get("resolve")
    if resolve is None:
        return config
    config, said = resolve(config)
    if parallel.is_first():
        for line in said:
            print(line)
    return config


_BENCHMARK: dict[str, Any] = {
    "out": Annotated[pathlib.Path, tyro.conf.arg(help="Folder of the benchmark; an interrupted one in it goes on.")],
    "models": Annotated[tuple[str, ...], tyro.conf.arg(help="Which of MODELS.")],
    "budget": Annotated[
        str | None, tyro.conf.arg(help="Training time of each run (300s, 5m, 1.5h) instead of epochs.")
    ],
    "seeds": Annotated[int, tyro.conf.arg(help="Runs of each model, with consecutive seeds from --seed on.")],
    "target": Annotated[str | None, tyro.conf.arg(help="Validation error to reach, such as relative_l2=0.02.")],
    "coverage": Annotated[
        float | None,
        tyro.conf.arg(help="Level of conformal bands (0.9), whose coverage and width stand beside the errors."),
    ],
    "track": _TRACK,
    "mesh": _MESH,
}
_DEFAULTS = {"budget": None, "seeds": 3, "target": None, "coverage": None, "track": None, "mesh": None}


def benchmark(arguments: Sequence[str]) -> int:
    """Trains several models of an experiment under equal conditions."""
    from sciml import benchmark, parallel

    arguments = with_data(arguments)
    if not arguments or arguments[0].startswith("-"):
        text = "Train models of an experiment under equal conditions: equal training time (--budget) or equal --epochs."
        help_without_experiment(arguments, "benchmark", text, _BENCHMARK, _DEFAULTS)
    module = load_experiment(arguments[0])
    given = {argument.split("=")[0] for argument in arguments[1:]}
    try:
        benchmark.check_fields(module)
        if not given & {"-h", "--help"}:
            if "--model" in given:
                raise Usage("A benchmark has several models. Give --models NAME ... instead of --model.")
            if len(given & {"--budget", "--epochs"}) != 1:
                raise Usage("Expected either --budget TIME, equal training time, or --epochs N, equal epochs.")
        options = experiment_options(module, arguments, "benchmark", _BENCHMARK, _DEFAULTS)
        budget = None if options.budget is None else benchmark.duration(options.budget)
        target = None if options.target is None else benchmark.target(options.target)
        models = tuple(dict.fromkeys(options.models))
        config, tracked = _resolved(module, options.config), _tracked(module, options.track, options.out)
        layout = _layout(options.mesh)
        plan = benchmark.Plan(tracked, config, models, options.seeds, budget, target, layout, options.coverage)
    except ValueError as error:
        raise Usage(str(error)) from None
    failed = {one["run"]: one["failure"] for one in benchmark.benchmark(plan, options.out)["runs"] if one["failure"]}
    if failed:
        for name, reason in failed.items() if parallel.is_first() else ():
            print(f"{name}: {one_line(reason)}", file=sys.stderr)
        count = f"{len(failed)} of {len(plan.runs)} runs failed"
        raise RuntimeError(f"{count}, the same command tries them again: {', '.join(failed)}.")
    return 0
