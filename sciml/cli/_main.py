"""Which command is run, and what becomes of an error."""

import contextlib
import importlib
import os
import signal
import sys
import threading
from collections.abc import Sequence

from sciml import __version__
from sciml.cli import _process
from sciml.cli._errors import Usage, fail, flush, interrupts_end_the_process, message, no_interrupts, one_line_each

_USAGE = """usage: sciml COMMAND ...

  list                                                       experiments, their presets and models, generators of data
  data info PATH                                             what a file or folder of data holds
  data convert PATH --out FILE                               the same data as one HDF5 file
  train EXPERIMENT [--preset NAME] [--FIELD VALUE ...] --out DIR [--from STEP] [--track TOOL]
                                                             train, or go on with an interrupted run
  evaluate DIR [--resolution N ...] [--condition FIELD=VALUE ...] [--coverage LEVEL ...] [--file EXPERIMENT]
                                                             test a finished run, also on other test data
  compare DIR ... --out FOLDER [--file EXPERIMENT]           a table and figures of several finished runs
  predict DIR INPUT [--FIELD VALUE ...] --out FOLDER [--file EXPERIMENT]
                                                             apply the model of a run to a file
  export DIR --to stablehlo|onnx|c [--out FOLDER] [--shape N ...]
                                                             write the model of a run for other programs
  benchmark EXPERIMENT --models NAME ... (--budget TIME | --epochs N) [--seeds N] [--coverage LEVEL] --out FOLDER
                                                             models of an experiment under equal conditions
  report DIR --out FILE [--overwrite]                        one page about a run or a benchmark
  generate PROBLEM [--n N] [--FIELD VALUE ...] --out FILE    make a data set
  info                                                       versions and devices

EXPERIMENT is a name from `sciml list`, the path of an experiment file, or the path of data, for a surrogate of them.
sciml COMMAND --help lists all options of a command, sciml train EXPERIMENT --help the fields of that experiment,
sciml --version the version."""

_COMMANDS = {
    "list": ("_info", "listing"),
    "train": ("_train", "train"),
    "evaluate": ("_runs", "evaluate"),
    "compare": ("_runs", "compare"),
    "predict": ("_runs", "predict"),
    "export": ("_export", "export"),
    "benchmark": ("_train", "benchmark"),
    "report": ("_report", "report"),
    "data": ("_data", "data"),
    "generate": ("_data", "generate"),
    "info": ("_info", "info"),
}
"""Command -> module and function. They are imported by `main`, since it takes seconds in which Ctrl-C is answered."""

_SHARED = ("train", "benchmark", "evaluate", "predict", "generate")
"""Commands whose work several processes share. Of the others process 0 does all, and the rest have nothing to do."""

_LONGEST = 4096  # characters of an option, which messages repeat


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit code: 0, 1 after an error, 2 for wrong usage, 130 if interrupted.

    No error has a traceback, unless the environment variable SCIML_TRACEBACK is set.

    Raises:
        SystemExit: After the help of a command, or if its options do not suit it.
    """
    process = arguments is None
    try:
        with one_line_each(process=process):
            code = _run(sys.argv[1:] if arguments is None else arguments, process)
            flush()
    except BaseException as error:
        parallel = sys.modules.get("sciml.parallel")  # without it there are no other processes
        if parallel is not None:
            parallel.last_word()
        code = fail(error, process=process)
        if parallel is not None:
            parallel.leave(code, message(error))
    if process:
        no_interrupts()
    return code


def _joined(*, shared: bool) -> bool:
    """Joins the processes of a launcher, if they share the work; returns whether this one has something to do."""
    from sciml import parallel

    if shared:
        parallel.join()
        return True
    found = parallel.launch(os.environ)
    return found is None or not found.rank


def _run(given: Sequence[str], process: bool) -> int:
    """Runs a command; returns the exit code."""
    if process and threading.current_thread() is threading.main_thread():
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # blocked by `_process.prepare` while it restarts
    longest = max(map(len, given), default=0)
    if longest > _LONGEST:
        raise Usage(f"Expected options of up to {_LONGEST} characters, got one of {longest}.")
    if not given or given[0] in ("-h", "--help"):
        print(_USAGE)
        return 0 if given else 2
    if given[0] == "--version":
        print(f"sciml {__version__}")
        return 0
    if given[0] not in _COMMANDS:
        raise Usage(f"There is no command {given[0]!r}, only {', '.join(_COMMANDS)}. Try sciml --help.")
    if "jax" not in sys.modules:
        _process.prepare(restart=process)
    if not {"-h", "--help"} & set(given):
        with interrupts_end_the_process() if process else contextlib.nullcontext():
            if not _joined(shared=given[0] in _SHARED):
                return 0
            if process:
                importlib.import_module("sciml.data" if given[0] in ("generate", "data") else "sciml.experiment")
    module, function = _COMMANDS[given[0]]
    return getattr(importlib.import_module(f"sciml.cli.{module}"), function)(list(given[1:]))
