"""Which command is run, and what becomes of an error."""

import os
import sys
from collections.abc import Sequence

from sciml import __version__
from sciml.cli import _process
from sciml.cli._data import generate
from sciml.cli._info import info, listing
from sciml.cli._options import Usage
from sciml.cli._runs import compare, evaluate, predict
from sciml.cli._train import benchmark, train

_USAGE = """usage: sciml COMMAND ...

  list                                                       experiments, their presets and models, generators of data
  train EXPERIMENT [--preset NAME] [--FIELD VALUE ...] --out DIR
                                                             train, or go on with an interrupted run
  evaluate DIR [--resolution N ...] [--condition FIELD=VALUE ...]
                                                             test a finished run, also on other test data
  compare DIR ... --out FOLDER                               a table and figures of several finished runs
  predict DIR INPUT [--FIELD VALUE ...] --out FOLDER         apply the model of a run to a file
  benchmark EXPERIMENT --models NAME ... (--budget TIME | --epochs N) [--seeds N] --out FOLDER
                                                             models of an experiment under equal conditions
  generate PROBLEM [--n N] [--FIELD VALUE ...] --out FILE    make a data set
  info                                                       versions and devices

EXPERIMENT is a name from `sciml list`, or the path of an experiment file. sciml COMMAND --help lists all options of
a command, sciml train EXPERIMENT --help the fields of that experiment, sciml --version the version."""

_COMMANDS = {
    "list": listing,
    "train": train,
    "evaluate": evaluate,
    "compare": compare,
    "predict": predict,
    "benchmark": benchmark,
    "generate": generate,
    "info": info,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit code: 0, 1 after an error, 2 for wrong usage, 130 if interrupted."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help"):
        print(_USAGE)
        return 0 if given else 2
    if given[0] == "--version":
        print(f"sciml {__version__}")
        return 0
    if given[0] not in _COMMANDS:
        return _fail(f"There is no command {given[0]!r}, only {', '.join(_COMMANDS)}. Try sciml --help.", 2)
    try:
        if "jax" not in sys.modules:
            _process.prepare(restart=arguments is None)
        return _COMMANDS[given[0]](given[1:])
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
