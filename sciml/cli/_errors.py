"""Errors, warnings and messages of other code in one line each. Only the command line asks for it, never an import."""

import _thread
import contextlib
import logging
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from typing import Any

TRACEBACK = "SCIML_TRACEBACK"
"""Environment variable; if it is set, errors are shown with their tracebacks."""
_HINT = f"({TRACEBACK}=1 shows where it came from)"
_BEGIN = "Traceback (most recent call last)"
_CALLBACKS = logging.getLogger("jax._src.callback")
_LONGEST = 4000  # characters
_EXPERIMENT = "experiment_file_"  # how the modules of experiment files are called
_OURS = (ValueError, RuntimeError, FloatingPointError, NotImplementedError)
_REMEDIES = {
    MemoryError: "There is not enough memory for these settings; use smaller sizes, fewer samples or smaller batches.",
    RecursionError: "Something is nested too deeply; use a smaller depth, or fewer levels.",
}
_SOLVER = "Training with a lower --lr, or solving with a larger --tolerance, may help."
_GONE = ("Gloo", "NCCL", "UNAVAILABLE: ")
_AGAIN = "Another process has ended, the same command goes on from the last checkpoint"
_OTHER = "This is a mistake in the experiment or in sciml."


class Usage(Exception):
    """A wrong command line."""


def one_line(text: str) -> str:
    """Text without line breaks and repeated blanks; of a traceback in it only the last line is left.

    Errors of compiled code by Equinox hold the stack in and outside of it, and advice on debugging; both are left out.
    """
    text = text.rpartition("EquinoxRuntimeError: ")[2].partition("----------")[0]
    before, begin, after = text.partition(_BEGIN)
    if begin:
        plain = [line for line in after.splitlines()[1:] if line.strip() and not line[0].isspace()]
        text = f"{before} {plain[0] if plain else ''}"
    return " ".join(text.split())[:_LONGEST]


def message(error: BaseException) -> str:
    """What an error says: what was expected and what came, or for errors that are not ours type, place and remedy."""
    text = one_line(str(error))
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return one_line(f"{error.filename}: {error.strerror}")
    if isinstance(error, OSError) and error.strerror:
        return one_line(error.strerror)
    if isinstance(error, RuntimeError | ValueError) and any(sign in text for sign in _GONE):
        return f"{_AGAIN} ({text})."
    if text and (type(error) in _OURS or isinstance(error, OSError | ImportError)):
        return text
    name = type(error).__name__
    what = f"{name}: {text}" if text and text != name else name
    return f"{what}{_where(error)}{'' if what.endswith(('.', '!', '?')) else '.'} {_remedy(error, text)}"


def _remedy(error: BaseException, text: str) -> str:
    if "RESOURCE_EXHAUSTED" in text:
        return _REMEDIES[MemoryError]
    if "EquinoxRuntimeError" in type(error).__name__:
        return _SOLVER
    return next((remedy for kind, remedy in _REMEDIES.items() if isinstance(error, kind)), _OTHER)


def _where(error: BaseException) -> str:
    """The line of the experiment file that an error came from, if it came from one."""
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        if str(frame.f_globals.get("__name__")).startswith(_EXPERIMENT):
            return f" ({frame.f_code.co_filename}, line {line})"
    return ""


def fail(error: BaseException, *, process: bool) -> int:
    """Says in one line what ended a command, and returns its exit code.

    Args:
        error: Anything that was raised.
        process: Whether the process ends with the command.
    """
    if isinstance(error, SystemExit) and not isinstance(error.code, str) and not _where(error):
        raise error  # of the parser, which has said why
    if isinstance(error, KeyboardInterrupt):
        if process:
            no_interrupts()
        _say(f"Interrupted. {one_line(str(error))}".strip())
        return 130
    if isinstance(error, BrokenPipeError) and error.filename is None:
        _forget_output()
        return 1
    if isinstance(error, Usage):
        _say(one_line(str(error)))
        return 2
    if os.environ.get(TRACEBACK):
        raise error
    if isinstance(error, SystemExit):
        _say(f"Expected an experiment that does not end the process, got sys.exit({error.code!r}){_where(error)}.")
    else:
        _say(message(error))
        print(_HINT, file=sys.stderr)
    return 1


def _say(text: str) -> None:
    with contextlib.suppress(OSError):
        print(f"sciml: {text}", file=sys.stderr)


def no_interrupts() -> None:
    """From now on Ctrl-C ends the process at once, without a word, since nothing is left to say."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextlib.contextmanager
def interrupts_end_the_process() -> Iterator[None]:
    """In the block, Ctrl-C ends the process at once, since an exception amid the import of compiled code crashes it."""

    def end(*_: Any) -> None:
        os.write(2, b"sciml: Interrupted.\n")
        os._exit(130)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _forget_output() -> None:
    """Nobody reads the output; what is left in its buffer goes nowhere, also when the interpreter ends."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def flush() -> None:
    """Writes what is buffered, so that an error of it is an error of the command.

    Raises:
        OSError: If it cannot be written; the buffer is given up.
    """
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        _forget_output()
        raise


@contextlib.contextmanager
def one_line_each(*, process: bool) -> Iterator[None]:
    """Warnings, logged errors, and errors in threads and finalisers get one line each and no traceback.

    Args:
        process: Whether the process ends with the command. Then this lasts until its end.
    """
    before = warnings.showwarning, threading.excepthook, sys.unraisablehook, logging.getLogRecordFactory()
    if os.environ.get(TRACEBACK):
        yield
        return
    _install(before[-1])
    try:
        yield
    finally:
        if not process:
            warnings.showwarning, threading.excepthook, sys.unraisablehook = before[:3]
            logging.setLogRecordFactory(before[-1])
            _CALLBACKS.disabled = False


def _install(make: Any) -> None:
    def record(*arguments: Any, **options: Any) -> logging.LogRecord:
        made = make(*arguments, **options)
        if made.exc_info or made.stack_info or _BEGIN in str(made.msg):
            error = made.exc_info[1] if isinstance(made.exc_info, tuple) else None
            made.msg = one_line(made.getMessage()) + ("" if error is None else f": {message(error)}")
            made.args, made.exc_info, made.stack_info = (), None, None
        return made

    def warn(text: Any, category: type[Warning], *place: Any, **options: Any) -> None:
        _say(f"{category.__name__}: {one_line(str(text))}")

    def in_thread(found: threading.ExceptHookArgs) -> None:
        if found.exc_value is not None and found.exc_type is not SystemExit:
            _say(f"in a thread: {message(found.exc_value)}")

    said: set[str] = set()  # one failure may leave many objects whose finalisers fail alike

    def ignored(found: Any) -> None:
        if isinstance(found.exc_value, KeyboardInterrupt):  # Ctrl-C in a finaliser, where nothing can be raised
            _thread.interrupt_main()
        elif not isinstance(found.exc_value, BrokenPipeError | None):
            text = f"ignored: {message(found.exc_value)}"
            if text not in said:
                said.add(text)
                _say(text)

    warnings.showwarning, threading.excepthook, sys.unraisablehook = warn, in_thread, ignored
    logging.setLogRecordFactory(record)
    _CALLBACKS.disabled = True  # what it logs is raised as well
