"""One case: a changed copy of an original is read, and judged by the result, the error and what happened meanwhile."""

import dataclasses
import os
import pathlib
import random
import shutil
import tempfile
import warnings

from fuzz import guard
from fuzz.corpora import SECRET
from fuzz.kinds import KINDS, Silent

LONGEST = 2000  # characters of a message
SAME, NOTICED, OTHER = "same result", "noticed", "other result of other content"
KNOWN = "known limit of HDF5"
FINE = (SAME, NOTICED, OTHER, KNOWN)
_ERRORS = (OSError, ValueError, FloatingPointError)


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What became of a case.

    Attributes:
        outcome: One of `FINE`, or the kind of failure: "silent difference", "traceback", "execution", "read outside",
            "write outside", "other process", "network", and of the runner "crash" and "hang".
        what: What was changed.
        detail: The error or the difference.
    """

    outcome: str
    what: str
    detail: str = ""


class Oracle:
    """Judges the cases of a world, with the results of its originals."""

    def __init__(self, world):
        self.world = world
        self._notices = guard.Notices([world.outside, world.outside / "folder"])
        self._expected = {}

    def expected(self, name):
        """The result of the original of a kind."""
        if name not in self._expected:
            kind = KINDS[name]
            with copied(kind, self.world) as folder:
                self._expected[name] = _as_bytes(kind.read(folder, self.world, None))
        return self._expected[name]

    def __call__(self, name, number, seed=0):
        """The verdict on one case, the same for the same seed."""
        rng = random.Random(f"{seed}/{name}/{number}")
        kind = KINDS[name]
        expected = self.expected(name) if kind.strict else {}
        with copied(kind, self.world) as folder:
            what = kind.change(rng, folder, self.world)
            return self.judged(kind, folder, what, expected)

    def judged(self, kind, folder, what, expected):
        """The verdict on a changed folder or another input."""
        executes = [self.world.experiment] if kind.executes or kind.writes else []
        reads = [self.world.experiment.parent, self.world.outside / "canary.py", *_named(self.world)]
        rules = guard.Rules(folder, writes=kind.writes, reads=reads, executes=executes, processes=kind.calls)
        before = None if kind.writes else guard.state_of(folder)
        self._notices()
        result, error = {}, None
        with warnings.catch_warnings(record=True) as warned, guard.watched(rules) as found:
            warnings.simplefilter("always")
            try:
                result = kind.read(folder, self.world, what)
            except (Exception, guard.Blocked) as raised:
                error = raised
        said = [str(one.message) for one in warned if one.category is UserWarning]
        outcome, detail = self._outcome(kind, folder, expected, result, error, said)
        happened = found or self._happened(
            kind, folder, before, [*said, str(error), *map(repr, result.values())], result
        )
        if happened:
            outcome, detail = happened[0]
        return Verdict(outcome, str(what)[:500], detail[:1000])

    def _outcome(self, kind, folder, expected, result, error, said):
        if isinstance(error, Silent):
            return "silent difference", str(error)
        if error is not None:
            wrong = _wrong(error, (folder.name, str(self.world.outside)) if kind.names else ())
            return ("traceback", f"{wrong}: {error!r}") if wrong else (NOTICED, str(error))
        if not kind.strict:
            return OTHER, ""
        found = _as_bytes(result)
        different = [name for name in found if found[name] != expected.get(name)] + [*set(expected) - set(found)]
        silent = [name for name in different if name not in kind.subset or not fewer(found, expected, name, said)]
        if silent:
            return "silent difference", f"of {', '.join(silent)}"
        return (NOTICED, said[0] if said else "the end of the log was cut off") if different else (SAME, "")

    def _happened(self, kind, folder, before, said, result):
        """What the hook cannot see: code in C, and what is left."""
        names = [name for name in self._notices() if name not in ("canary.py", "secret.txt")]
        if names:
            return [("read outside", f"the kernel notes {names[0]}")]
        marks = [*pathlib.Path(folder).rglob("*.executed"), *self.world.outside.glob("*.executed")]
        if marks:
            for mark in marks:
                mark.unlink()
            return [("execution", f"{marks[0].name} was made")]
        if before is not None and guard.state_of(folder) != before:
            return [("write outside", "the files that were read have changed")]
        content = b"".join(_flat(result)) + "".join(said).encode(errors="replace")
        return [("read outside", "the planted secret was returned")] if SECRET in content else []


def _named(world):
    """Files that a run may name as its experiment: they are compared with its digest before anything else."""
    return [world.outside / "secret.txt"]


def copied(kind, world):
    """A copy of the original of a kind."""
    return _Copy(world[kind.original] if kind.original else None, world)


class _Copy:
    """A copy of an original in a folder of its own, which is the working directory meanwhile."""

    def __init__(self, original, world):
        self._original, self._world = original, world

    def __enter__(self):
        (self._world.root / "cases").mkdir(exist_ok=True)
        self._folder = pathlib.Path(tempfile.mkdtemp(dir=self._world.root / "cases"))
        if self._original is not None:
            shutil.copytree(self._original, self._folder, dirs_exist_ok=True, copy_function=shutil.copyfile)
        self._before = os.getcwd()
        os.chdir(self._folder)
        return self._folder

    def __exit__(self, *_):
        os.chdir(self._before)
        shutil.rmtree(self._folder, ignore_errors=True)


def _wrong(error, names):
    """What is wrong with an error; the empty text for one line of a known type that names the file."""
    text = str(error)
    if not isinstance(error, _ERRORS):
        return f"a {type(error).__name__}"
    if "\n" in text or len(text) >= LONGEST:
        return f"{text.count(chr(10)) + 1} lines of {len(text)} characters"
    if names and not any(name in text for name in names):
        return "it does not name the file"
    return ""


def _as_bytes(result):
    """The parts of a result as bytes, those that are lists item by item."""
    return {
        name: [guard.as_bytes(one) for one in value] if isinstance(value, list) else guard.as_bytes(value)
        for name, value in result.items()
    }


def _flat(result):
    for value in _as_bytes(result).values():
        yield from value if isinstance(value, list) else (value,)


def fewer(found, expected, name, said):
    """Whether items are left out alone, with a warning or at the end, and none is new."""
    left, items = list(expected[name]), list(found[name])
    while items and left:
        if items[0] == left.pop(0):
            items.pop(0)
    at_end = found[name] == expected[name][: len(found[name])]
    return not items and (bool(said) or at_end)
