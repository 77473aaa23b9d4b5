"""Settings of every test: shape checks on, rank promotion refused, a compilation cache that outlives the run."""

import gc
import os
import pathlib

import jax
import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent

# Nearly all of the suite's time is compilation, most of it for making code fast that runs once. Read when JAX starts.
FLAGS = (
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
    "--xla_cpu_use_fusion_emitters=false",  # by MLIR, whose passes take as long as all others together
    "--xla_cpu_parallel_codegen_split_count=1",
)
os.environ.setdefault("XLA_FLAGS", " ".join(FLAGS))

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_compilation_cache_dir", os.environ.get("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".jax_cache")))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def _shared(variable: str, default: str) -> pathlib.Path:
    folder = pathlib.Path(os.environ.get(variable, ROOT.parent / "shared" / default))
    if not folder.is_dir():
        pytest.skip(f"{variable} is not set and {folder} does not exist")
    return folder


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Tests that ask for the folder of the official implementations' fixtures carry the marker `reference`."""
    for item in items:
        if "reference" in item.fixturenames:
            item.add_marker(pytest.mark.reference)


def pytest_collection_finish():
    """Collects garbage less often: tracing makes millions of objects, and most of them live until a module ends."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)


@pytest.fixture(scope="session")
def reference() -> pathlib.Path:
    """Folder with the numerical fixtures of the official implementations."""
    return _shared("SCIML_REFERENCE", "reference")


@pytest.fixture(scope="session")
def published_data() -> pathlib.Path:
    """Folder with the published data sets."""
    return _shared("SCIML_DATA", "data")


@pytest.fixture(autouse=True, scope="module")
def _forget_what_was_compiled():
    """A process that keeps every program of the suite takes 5 GB, and ten of Linux's 65,530 memory maps for each.

    Without further maps JAX ends with a segmentation fault. Also, traces of one module that were made under
    `jax.enable_x64` have been found again in another module without it.
    """
    yield
    jax.clear_caches()


@pytest.fixture
def getkey():
    """A function that returns a fresh key at each call, the same sequence in every run."""
    key = jax.random.key(2024)

    def fresh() -> jax.Array:
        nonlocal key
        key, sub = jax.random.split(key)
        return sub

    return fresh
