"""The launch files of docs/scale.md: they parse, and start processes whose command line and variables are right."""

import importlib.util
import os
import pathlib
import re
import shlex
import subprocess
import sys
import types

import pytest
import yaml

from sciml import experiment
from sciml.cli import _options, _train
from sciml.parallel import Launch, launch

FOLDER = pathlib.Path(__file__).resolve().parent.parent.parent / "docs/launch"
SHELL = sorted(FOLDER.glob("*.sh"))


def check_command(words):
    """The command line is one that `sciml train` takes."""
    assert words[:2] == ["sciml", "train"]
    module = _options.load_experiment(words[2])
    given = _options.experiment_options(module, words[2:], "train", _train._TRAIN, _train._TRAIN_DEFAULTS)
    assert given.config.model in module.MODELS
    experiment.check_settings(given.config)


def commands(text):
    return [shlex.split(found) for found in re.findall(r"(sciml train [^\n\"]*(?:\"\$OUT\")?)", text)]


def run(script, folder, *arguments, **variables):
    """What a script does where launchers print their command line and their variables in place of starting anything."""
    tools = folder / "tools"
    tools.mkdir(exist_ok=True)
    for name in ("srun", "mpirun", "gcloud", "scontrol"):
        (tools / name).write_text(f'#!/bin/bash\necho {name} "$@"\necho "address=$JAX_COORDINATOR_ADDRESS"\n')
        (tools / name).chmod(0o755)
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "SLURM_"))}
    environment = clean | {"PATH": f"{tools}:{os.environ['PATH']}"} | variables
    done = subprocess.run(
        ["bash", str(script), *arguments], capture_output=True, text=True, env=environment, cwd=folder, timeout=20
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("script", SHELL, ids=lambda path: path.name)
def test_shell_scripts_parse_and_train(script):
    assert subprocess.run(["bash", "-n", str(script)], timeout=20).returncode == 0
    found = commands(script.read_text().replace("\\\n", " "))
    assert len(found) == 1
    check_command(found[0])


def test_slurm_starts_a_task_for_each_gpu_and_goes_on_until_there_are_results(tmp_path):
    text = (FOLDER / "slurm.sh").read_text()
    options = dict(re.findall(r"^#SBATCH --([a-z-]+)=(\S+)$", text, re.MULTILINE))
    assert options["ntasks-per-node"] == options["gpus-per-node"]
    assert options["signal"] == "TERM@120"
    assert "#SBATCH --requeue" in text
    assert "gpus-per-task=" not in text
    said = run(FOLDER / "slurm.sh", tmp_path, SLURM_JOB_ID="7")
    assert said[0].startswith("srun --kill-on-bad-exit=1 sciml train darcy")
    assert "scontrol requeue 7" in said
    (tmp_path / "runs/darcy-fno").mkdir(parents=True)
    (tmp_path / "runs/darcy-fno/metrics.json").touch()
    assert not [line for line in run(FOLDER / "slurm.sh", tmp_path, SLURM_JOB_ID="7") if "scontrol" in line]


def test_open_mpi_gets_an_address(tmp_path):
    said = run(FOLDER / "open_mpi.sh", tmp_path, "hosts.txt")
    assert "--hostfile hosts.txt --map-by ppr:4:node -x JAX_COORDINATOR_ADDRESS" in said[0]
    address = said[1].removeprefix("address=")
    given = {"OMPI_COMM_WORLD_SIZE": "8", "OMPI_COMM_WORLD_RANK": "5", "OMPI_COMM_WORLD_LOCAL_RANK": "1"}
    found = launch(given | {"JAX_COORDINATOR_ADDRESS": address})
    assert found == Launch("Open MPI", 8, 5, 1, address, "deactivate")


def test_tpu_hosts_all_get_the_command(tmp_path):
    said = run(FOLDER / "tpu_pod.sh", tmp_path, "pod", "zone")
    assert said[0].startswith("gcloud compute tpus tpu-vm ssh pod --zone=zone --worker=all --command=sciml train darcy")


def test_the_jobset_names_its_first_pod():
    found = yaml.safe_load((FOLDER / "jobset.yaml").read_text())
    (job,) = found["spec"]["replicatedJobs"]
    spec = job["template"]["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    check_command(container["command"])
    variables = {one["name"]: one for one in container["env"]}
    name = found["metadata"]["name"]
    port = container["ports"][0]["containerPort"]
    # JobSet names pods <set>-<job>-<job index>-<pod index>, in the subdomain of the set
    address = f"{name}-{job['name']}-0-0.{name}:{port}"
    assert variables["JAX_COORDINATOR_ADDRESS"]["value"] == address
    assert spec["completionMode"] == "Indexed"
    assert int(variables["SCIML_PROCESSES"]["value"]) == spec["parallelism"] == spec["completions"]
    assert "job-completion-index" in variables["SCIML_RANK"]["valueFrom"]["fieldRef"]["fieldPath"]
    given = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "1", "SCIML_RANK": "1"}
    given |= {name: one["value"] for name, one in variables.items() if "value" in one}
    assert launch(given) == Launch("SCIML_PROCESSES", 2, 1, None, address, "deactivate")


def test_ray_hosts_get_their_numbers(monkeypatch, tmp_path):
    """Ray itself is replaced by calls in this process."""
    asked = []

    def remote(kind):
        def method(one):
            return types.SimpleNamespace(remote=lambda *given: one(*given))

        def made():
            host = kind()
            return types.SimpleNamespace(address=method(host.address), run=method(host.run))

        options = lambda **given: asked.append(given) or types.SimpleNamespace(remote=made)
        return types.SimpleNamespace(options=options)

    ray = types.ModuleType("ray")
    vars(ray).update(
        remote=remote,
        get=lambda value: value,
        init=lambda **given: None,
        util=types.SimpleNamespace(get_node_ip_address=lambda: "10.0.0.7"),
    )
    monkeypatch.setitem(sys.modules, "ray", ray)
    spec = importlib.util.spec_from_file_location("ray_hosts", FOLDER / "ray_hosts.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    names = ("JAX_COORDINATOR_ADDRESS", "SCIML_PROCESSES", "SCIML_RANK")
    code = f"import os; print(*(os.environ[name] for name in {names}), file=open('said', 'a'))"
    monkeypatch.chdir(tmp_path)
    assert module.main(2, 4, [sys.executable, "-c", code]) == 0
    assert asked == [{"num_gpus": 4}] * 2
    said = [line.split() for line in (tmp_path / "said").read_text().splitlines()]
    found = [launch(dict(zip(names, line, strict=True))) for line in said]
    assert [(one.processes, one.rank) for one in found] == [(2, 0), (2, 1)]
    assert found[0].address == found[1].address
    assert found[0].address.startswith("10.0.0.7:")
    assert module.main(1, 4, [sys.executable, "-c", "raise SystemExit(3)"]) == 3
