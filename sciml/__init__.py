"""Neural operators and neural differential equations in JAX.

The public path of every name is ``sciml.<area>.<Name>``. An area is imported when it is first used, so that
``import sciml`` is quick and the command line can set process options before JAX starts.
"""

import importlib
from types import ModuleType

__version__ = "0.1.0"

_AREAS = (
    "benchmark",
    "cli",
    "cut",
    "data",
    "experiment",
    "export",
    "files",
    "grid",
    "interop",
    "losses",
    "metrics",
    "nde",
    "nn",
    "operators",
    "parallel",
    "pdes",
    "plot",
    "preconditioners",
    "prose",
    "rollout",
    "structure",
    "symbolic",
    "systems",
    "tasks",
    "train",
    "uq",
    "zoo",
)


def __getattr__(name: str) -> ModuleType:
    if name in _AREAS:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"sciml has no area {name!r}; the areas are {', '.join(_AREAS)}")


def __dir__() -> list[str]:
    return sorted((*globals(), *_AREAS))
