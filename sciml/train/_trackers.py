"""Hooks that write logs and metrics for TensorBoard, Weights & Biases and MLflow, into the folder of the run.

None of them uses the network unless the user asks for it by the variables of the tool itself: `WANDB_MODE=online`,
`MLFLOW_TRACKING_URI`. Of several processes, process 0 writes. Nothing is written before the first call of
a hook. A run that ends early, by `early_stop`, stays open in the tool until the process ends.
"""

import hashlib
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from sciml import parallel
from sciml.train._loop import Event, Hook


def tensorboard(folder: str | pathlib.Path, *, config: Mapping[str, Any] | None = None) -> Hook:
    """Writes logs and metrics for TensorBoard: `tensorboard --logdir FOLDER`.

    Args:
        folder: Where its files are written.
        config: Settings of the run, written once.

    Raises:
        ImportError: If tensorboardX is not installed.
    """
    try:
        from tensorboardX import SummaryWriter  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ImportError("TensorBoard logs need tensorboardX: pip install 'sciml-jax[track]'.") from error
    writers: list[Any] = []

    def hook(event: Event) -> None:
        if not writers:
            writers.append(SummaryWriter(str(folder), purge_step=event.step))
            if config:
                lines = "\n".join(f"    {name}: {value}" for name, value in _flat(config).items())
                writers[0].add_text("config", lines, event.step)
        for name, value in _numbers(event).items():
            writers[0].add_scalar(name, value, event.step)
        writers[0].flush()

    return _by_first(hook)


def wandb(folder: str | pathlib.Path, *, config: Mapping[str, Any] | None = None) -> Hook:
    """Writes logs and metrics for Weights & Biases, into `wandb/` of the folder; `wandb sync` sends them later.

    Runs are offline unless the variable `WANDB_MODE` says otherwise. A run that goes on has the same identifier.

    Args:
        folder: Folder of the run, whose name it gets; the project is that of `WANDB_PROJECT`, `sciml` by default.
        config: Settings of the run, written once.

    Raises:
        ImportError: If wandb is not installed.
    """
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # read at the import; reports go over the network
    try:
        import wandb as tool  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ImportError("Logs for Weights & Biases need wandb: pip install 'sciml-jax[wandb]'.") from error
    folder = pathlib.Path(folder)
    runs: list[Any] = []

    def hook(event: Event) -> None:
        if not runs:
            folder.mkdir(parents=True, exist_ok=True)
            settings = tool.Settings(symlink=False, console="off", silent=True, reinit="create_new")
            runs.append(
                tool.init(
                    project=os.environ.get("WANDB_PROJECT", "sciml"),
                    name=folder.name,
                    id=hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16],
                    dir=str(folder),
                    config=dict(config or {}),
                    mode=os.environ.get("WANDB_MODE", "offline"),
                    settings=settings,
                )
            )
        runs[0].log(_numbers(event), step=event.step)
        if event.step == event.steps:
            runs.pop().finish()
        for path in (folder / "wandb").rglob("*"):  # a run folder that holds a link is refused, and wandb makes one
            if path.is_symlink():
                path.unlink()

    return _by_first(hook)


def mlflow(folder: str | pathlib.Path, *, config: Mapping[str, Any] | None = None) -> Hook:
    """Writes logs and metrics for MLflow: `mlflow ui --backend-store-uri sqlite:///FOLDER/mlflow.db`.

    The database is in the folder of the run, and a run that goes on is the same there; the variable
    `MLFLOW_TRACKING_URI` names another place, such as a server. The tool's reports on its use are off, unless the
    variable `MLFLOW_DISABLE_TELEMETRY` says otherwise.

    Args:
        folder: Folder of the run, whose name it gets.
        config: Settings of the run, written once as parameters.

    Raises:
        ImportError: If mlflow is not installed.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    try:
        import sqlalchemy  # noqa: F401  # pyright: ignore[reportMissingImports]
        from mlflow.tracking import MlflowClient  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ImportError("Logs for MLflow need mlflow: pip install 'sciml-jax[mlflow]'.") from error
    folder = pathlib.Path(folder)
    runs: list[tuple[Any, str]] = []

    def hook(event: Event) -> None:
        if not runs:
            runs.append(_mlflow_run(MlflowClient, folder))
            for name, value in _flat(config or {}).items():
                runs[0][0].log_param(runs[0][1], name, str(value)[:500])
        client, run = runs[0]
        for name, value in _numbers(event).items():
            client.log_metric(run, name, value, step=event.step)
        if event.step == event.steps:
            client.set_terminated(run)

    return _by_first(hook)


def _by_first(hook: Hook) -> Hook:
    """A hook that process 0 of several calls, and nobody else."""
    return lambda event: hook(event) if parallel.is_first() else None


def _mlflow_run(client_of: Any, folder: pathlib.Path) -> tuple[Any, str]:
    """A client, and the identifier of a run: a new one, or the one of a run that goes on."""
    folder.mkdir(parents=True, exist_ok=True)
    server = os.environ.get("MLFLOW_TRACKING_URI")
    client = client_of(tracking_uri=server or f"sqlite:///{(folder / 'mlflow.db').resolve()}")
    known = client.get_experiment_by_name("sciml")
    if known is None:
        place = None if server else (folder / "mlartifacts").resolve().as_uri()
        experiment = client.create_experiment("sciml", artifact_location=place)
    else:
        experiment = known.experiment_id
    earlier = [] if server else client.search_runs([experiment])  # a database in the folder is that of its run alone
    return client, (earlier[0] if earlier else client.create_run(experiment, run_name=folder.name)).info.run_id


def _numbers(event: Event) -> dict[str, float]:
    """Means of the training logs, and the metrics, by names with their kind in front."""
    found = {f"training/{name}": float(values.mean()) for name, values in event.logs.items()}
    return found | {f"validation/{name}": float(value) for name, value in event.metrics.items()}


def _flat(config: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Settings by names with those of their groups in front: `run.lr`."""
    found: dict[str, Any] = {}
    for name, value in config.items():
        found |= _flat(value, f"{before}{name}.") if isinstance(value, Mapping) else {f"{before}{name}": value}
    return found
