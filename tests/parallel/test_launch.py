"""What the variables of launchers say, real ones and partial ones."""

import importlib.util

import pytest

from sciml import parallel
from sciml.parallel import Launch, launch

SLURM = {
    "SLURM_JOB_ID": "7",
    "SLURM_STEP_NODELIST": "node[01-02]",
    "SLURM_NTASKS": "8",
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
}
OPEN_MPI = {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "3", "OMPI_COMM_WORLD_LOCAL_RANK": "2"}
ADDRESS = {"JAX_COORDINATOR_ADDRESS": "node01:1234"}


@pytest.fixture
def packages(monkeypatch):
    """Says which packages are installed."""

    def only(*names):
        found = importlib.util.find_spec
        spec = lambda name, *rest: (name in names or None) if name in ("mpi4py", "kubernetes") else found(name, *rest)
        monkeypatch.setattr(importlib.util, "find_spec", spec)

    only()
    return only


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, None),
        (SLURM, Launch("Slurm", 8, 5, 1, None, "slurm")),
        (SLURM | ADDRESS, Launch("Slurm", 8, 5, 1, "node01:1234", "deactivate")),
        (SLURM | {"SLURM_NTASKS": "1", "SLURM_PROCID": "0"}, None),  # srun -n 1
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "8"}, None),  # an ssh session on a node of a job, or salloc
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "8", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}, None),  # a batch script
        (SLURM | {"SCIML_PROCESSES": "1"}, None),  # tasks that work each by itself
        (
            OPEN_MPI | {"OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.96.0.1:34911"},
            Launch("Open MPI", 4, 3, 2, None, "ompi"),
        ),
        (OPEN_MPI | ADDRESS, Launch("Open MPI", 4, 3, 2, "node01:1234", "deactivate")),
        (
            SLURM | ADDRESS | {"SCIML_PROCESSES": "2", "SCIML_RANK": "1"},
            Launch("SCIML_PROCESSES", 2, 1, None, "node01:1234", "deactivate"),
        ),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, None),  # any pod, such as one with a notebook
    ],
)
def test_launches(packages, given, expected):
    assert launch(given) == expected


def test_packages_find_the_processes_of_open_mpi_5_and_of_kubernetes(packages):
    packages("mpi4py", "kubernetes")
    assert launch(OPEN_MPI) == Launch("Open MPI", 4, 3, 2, None, "mpi4py")
    assert launch({"PMI_SIZE": "2", "PMI_RANK": "0"}) == Launch("MPI", 2, 0, None, None, "mpi4py")
    assert launch({"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "3"}) == Launch("Kubernetes")


def test_machines_with_a_tpu_ask_jax():
    assert launch({}, tpu=True) == Launch("TPU")


@pytest.mark.parametrize(
    ("given", "match"),
    [
        (
            {name: SLURM[name] for name in ("SLURM_NTASKS", "SLURM_PROCID")},
            "Slurm has started 8 processes, and process 5 cannot find the others. Start it with srun",
        ),
        (OPEN_MPI, "Open MPI has started 4 processes, and process 3 cannot find the others. Install mpi4py"),
        ({"PMI_SIZE": "2", "PMI_RANK": "1"}, "MPI has started 2 processes"),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "3"}, r"Install jax\[k8s\]"),
    ],
)
def test_several_tasks_that_cannot_join_are_refused(packages, given, match):
    with pytest.raises(RuntimeError, match=match):
        launch(given)


@pytest.mark.parametrize(
    ("given", "match"),
    [
        (ADDRESS, "got none of SCIML_PROCESSES, SCIML_RANK"),
        ({"SCIML_RANK": "1"}, "got none of JAX_COORDINATOR_ADDRESS, SCIML_PROCESSES"),
        (ADDRESS | {"SCIML_PROCESSES": "2", "SCIML_RANK": "2"}, "Expected SCIML_RANK from 0 to 1, for .*=2, got 2"),
        (ADDRESS | {"SCIML_PROCESSES": "two", "SCIML_RANK": "0"}, "number in the variable SCIML_PROCESSES, got 'two'"),
        (
            {"JAX_COORDINATOR_ADDRESS": "node01", "SCIML_PROCESSES": "2", "SCIML_RANK": "0"},
            "Expected JAX_COORDINATOR_ADDRESS=HOST:PORT, got 'node01'",
        ),
        (SLURM | {"SLURM_NTASKS": "8(x2)"}, "number in the variable SLURM_NTASKS"),
    ],
)
def test_wrong_variables_are_refused(packages, given, match):
    with pytest.raises(ValueError, match=match):
        launch(given)


def test_one_process_agrees_with_itself():
    assert parallel.join({}) == parallel.process_count() == 1
    assert parallel.is_first()
    assert not parallel.several()
    value = object()  # one process sends nothing, hence it is the same object
    assert parallel.broadcast(value) is value
    assert parallel.by_first(lambda: value) is value
    assert parallel.broadcast_arrays(value) is value
    assert not parallel.asked_to_end()
    parallel.barrier("alone")
    parallel.leave(1, "nobody hears it")  # does not end this process


def test_the_command_line_refuses_tasks_that_cannot_join(packages, monkeypatch, capsys, tmp_path):
    from sciml.cli import main

    for name, value in OPEN_MPI.items():
        monkeypatch.setenv(name, value)
    assert main(["train", "darcy", "--out", str(tmp_path / "run")]) == 1
    message = capsys.readouterr().err.splitlines()[0]
    assert message.startswith("sciml: Open MPI has started 4 processes, and process 3 cannot find the others.")
    assert not (tmp_path / "run").exists()


def test_commands_that_nobody_shares_are_done_by_process_0(monkeypatch, capsys):
    from sciml.cli import main

    for name, value in (ADDRESS | {"SCIML_PROCESSES": "2"}).items():
        monkeypatch.setenv(name, value)
    said = []
    for rank in ("0", "1"):
        monkeypatch.setenv("SCIML_RANK", rank)
        assert main(["list"]) == 0
        said.append(capsys.readouterr().out)
    assert "darcy" in said[0]
    assert said[1] == ""
