"""The built wheel, in an environment and a folder that know nothing of the clone, does what the README promises."""

import os
import pathlib
import subprocess
import sys
import sysconfig
import zipfile

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent


def checked(*command, **options):
    """What a command prints; its errors are shown if it fails."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built offline, by the hatchling of this environment."""
    folder = tmp_path_factory.mktemp("wheel")
    build = (
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        folder,
    )
    checked(*build, ROOT)
    return next(folder.glob("sciml_jax-*.whl"))


def test_the_wheel_holds_the_package_and_the_experiments_and_nothing_else(wheel):
    found = {pathlib.PurePath(name) for name in zipfile.ZipFile(wheel).namelist()}
    package = {path.relative_to(ROOT) for path in (ROOT / "sciml").rglob("*.py")}
    package |= {path.relative_to(ROOT) for path in (ROOT / "sciml" / "export" / "c_interface").iterdir()}
    experiments = {pathlib.PurePath("sciml/_experiments", path.name) for path in (ROOT / "experiments").glob("*.py")}
    assert {path for path in found if path.parts[0] == "sciml"} == package | experiments
    assert {path.parts[0].split("-")[0] for path in found} == {"sciml", "sciml_jax"}


@pytest.mark.slow  # starts JAX and trains in a process of its own
def test_an_empty_environment_lists_trains_and_evaluates(wheel, tmp_path):
    checked(sys.executable, "-m", "venv", tmp_path / "venv")
    python = tmp_path / "venv" / "bin" / "python"
    checked(python, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", wheel)
    # What the project depends on is taken from this environment, at the end of the path; the project is not: an
    # editable install of it is a .pth file, which is not read there.
    site = pathlib.Path(checked(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    folder = tmp_path / "empty"
    folder.mkdir()

    def sciml(*arguments):
        return checked(python.parent / "sciml", *arguments, cwd=folder, env=environment)

    without_flax = "import sys; sys.modules['flax'] = None; import sciml; print(sciml.__file__, dir(sciml.operators))"
    printed = checked(python, "-c", without_flax, cwd=folder, env=environment)
    assert str(site) in printed
    assert "FlaxOperator" in printed
    listed = sciml("list")
    assert "\ndarcy: Darcy flow" in listed
    assert "\nprose_ode: " in listed
    assert "cannot be imported" not in listed
    assert sciml("--version").startswith("sciml ")
    sciml("train", "darcy", "--preset", "smoke", "--out", "run")
    assert "relative_l2" in sciml("evaluate", "run")
    assert str(site / "sciml" / "_experiments" / "darcy.py") in (folder / "run" / "run.json").read_text()
