"""What a launcher says of the processes that it has started, read from the variables of the environment."""

import dataclasses
import importlib.util
from collections.abc import Callable, Mapping

_SLURM_COMPLETE = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID")
_REMEDY = (
    "Set JAX_COORDINATOR_ADDRESS=HOST:PORT (of process 0), or SCIML_PROCESSES=1 for processes that work each by itself."
)


@dataclasses.dataclass(frozen=True)
class Launch:
    """One of several processes that were started together.

    Attributes:
        by: Name of the launcher.
        processes: Number of processes; None where JAX asks the launcher.
        rank: Number of this one, from 0.
        local: Its number among those of its machine, which selects its device; None for all devices of the machine.
        address: `host:port` of process 0; None where JAX asks the launcher.
        method: How JAX asks the launcher: the argument `cluster_detection_method` of `jax.distributed.initialize`.
    """

    by: str
    processes: int | None = None
    rank: int | None = None
    local: int | None = None
    address: str | None = None
    method: str | None = None


@dataclasses.dataclass(frozen=True)
class _Launcher:
    """The variables of a launcher, and what it takes to find process 0 without an address."""

    name: str
    size: str
    rank: str
    local: str
    method: Callable[[Mapping[str, str]], str | None]
    remedy: str


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _by_mpi4py(_: Mapping[str, str]) -> str | None:
    return "mpi4py" if _installed("mpi4py") else None


_LAUNCHERS = (
    _Launcher(
        *("Open MPI", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK"),
        lambda given: "ompi" if "OMPI_MCA_orte_hnp_uri" in given else _by_mpi4py(given),  # set up to version 4 only
        f"Install mpi4py, by which JAX finds the processes of Open MPI 5. {_REMEDY}",
    ),
    _Launcher(
        *("MPI", "PMI_SIZE", "PMI_RANK", "MPI_LOCALRANKID"),
        _by_mpi4py,
        f"Install mpi4py, by which JAX finds the processes of this MPI. {_REMEDY}",
    ),
    _Launcher(
        *("Slurm", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID"),
        lambda given: "slurm" if all(name in given for name in _SLURM_COMPLETE) else None,
        f"Start it with srun, so that its variables {', '.join(_SLURM_COMPLETE)} are set. {_REMEDY}",
    ),
)


def launch(given: Mapping[str, str], *, tpu: bool = False) -> Launch | None:
    """Which of several processes this is, None if it works by itself.

    The variables `SCIML_PROCESSES` and `SCIML_RANK`, with JAX's own `JAX_COORDINATOR_ADDRESS`, come before those of
    launchers; `SCIML_PROCESSES=1` alone says that the process works by itself, whatever started it. Variables of a
    Slurm job without those of a step, as an ssh session or a batch script has them, are no launch.

    Args:
        given: The environment.
        tpu: Whether this is a machine with a TPU, where JAX knows the other ones.

    Raises:
        ValueError: If a variable is no number, or one of them is missing.
        RuntimeError: If several processes were started and nothing says how they find each other.
    """
    if given.get("SCIML_PROCESSES") == "1":
        return None
    address = given.get("JAX_COORDINATOR_ADDRESS")
    if given.get("SCIML_PROCESSES") or given.get("SCIML_RANK"):
        return _explicit(given, address)
    for one in _LAUNCHERS:
        if one.rank not in given or _number(given, one.size) < 2 or _is_batch_script(one, given):
            continue
        numbers = _number(given, one.size), _number(given, one.rank)
        local = _number(given, one.local) if one.local in given else None
        if address is not None:
            return Launch(one.name, *numbers, local, address, "deactivate")
        method = one.method(given)
        if method is None:
            raise RuntimeError(
                f"{one.name} has started {numbers[0]} processes, and process {numbers[1]} cannot find the others. "
                f"{one.remedy}"
            )
        return Launch(one.name, *numbers, local, None, method)
    if "KUBERNETES_SERVICE_HOST" in given and "JOB_COMPLETION_INDEX" in given:
        return _kubernetes()
    if address is not None and not tpu:
        return _explicit(given, address)
    return Launch("TPU") if tpu else None


def _is_batch_script(launcher: _Launcher, given: Mapping[str, str]) -> bool:
    """Whether this is the script of a Slurm job, which looks like its first task but for the step."""
    return launcher.name == "Slurm" and given[launcher.rank] == "0" and "SLURM_STEP_NODELIST" not in given


def _explicit(given: Mapping[str, str], address: str | None) -> Launch:
    names = ("JAX_COORDINATOR_ADDRESS", "SCIML_PROCESSES", "SCIML_RANK")
    missing = [name for name in names if not given.get(name)]
    if missing or address is None:
        raise ValueError(
            f"Expected the variables {', '.join(names)} together, got none of {', '.join(missing)}. Set them: "
            "HOST:PORT of process 0, the number of processes, and the number of this one, from 0."
        )
    size, rank = _number(given, "SCIML_PROCESSES"), _number(given, "SCIML_RANK")
    if not 0 <= rank < size:
        raise ValueError(f"Expected SCIML_RANK from 0 to {size - 1}, for SCIML_PROCESSES={size}, got {rank}.")
    if not address.rpartition(":")[2].isdecimal() or not address.rpartition(":")[0]:
        raise ValueError(f"Expected JAX_COORDINATOR_ADDRESS=HOST:PORT, got {address!r}.")
    return Launch("SCIML_PROCESSES", size, rank, None, address, "deactivate")


def _kubernetes() -> Launch:
    """A pod of an indexed Job: JAX asks the cluster for the number of pods."""
    if not _installed("kubernetes"):
        raise RuntimeError(
            "This is a pod of an indexed Job of Kubernetes, which cannot find the others. Install jax[k8s], or set "
            "JAX_COORDINATOR_ADDRESS, SCIML_PROCESSES and SCIML_RANK, or SCIML_PROCESSES=1 for pods that work each by "
            "itself."
        )
    return Launch("Kubernetes")


def _number(given: Mapping[str, str], name: str) -> int:
    text = given.get(name, "1")
    if not text.isdecimal():
        raise ValueError(f"Expected a number in the variable {name}, got {text!r}.")
    return int(text)
