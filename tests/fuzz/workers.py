"""Cases in other processes, so that a crash or a hang ends one case and not all."""

import multiprocessing
import multiprocessing.connection
import time
import traceback

_START = 600  # seconds until a worker is ready


class Workers:
    """Processes that judge cases, one at a time each.

    Args:
        make: `make(*arguments)` is called in each process, and gives `judge(name, number) -> verdict`.
        arguments: Its arguments.
        count: Number of processes.
        seconds: Time limit of a case.
    """

    def __init__(self, make, arguments=(), *, count=2, seconds=60.0):
        self._make, self._arguments, self._count, self._seconds = make, arguments, count, seconds

    def __call__(self, cases):
        """Yields `(name, number, verdict)` of all cases as they end; the verdict of a dead process is a text."""
        waiting = list(reversed(cases))
        running = {}
        for _ in range(min(self._count, len(cases))):
            worker = _Worker(self._make, self._arguments)
            running[worker.pipe] = worker
        try:
            while running:
                ready = multiprocessing.connection.wait(list(running), timeout=0.2)
                for pipe in [pipe for pipe in running if pipe in ready or running[pipe].late()]:
                    worker = running.pop(pipe)
                    case, verdict, alive = worker.answer(pipe in ready)
                    if case is not None:
                        yield *case, verdict
                    if not waiting:
                        worker.end()
                        continue
                    if not alive:
                        worker = _Worker(self._make, self._arguments)
                    else:
                        worker.give(waiting.pop(), self._seconds)
                    running[worker.pipe] = worker
        finally:
            for worker in running.values():
                worker.end()


class _Worker:
    def __init__(self, make, arguments):
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        self._process = context.Process(target=_work, args=(other, make, arguments), daemon=True)
        self._process.start()
        other.close()
        self._case, self._until = None, time.monotonic() + _START

    def give(self, case, seconds):
        """Notes a case, then starts it."""
        self._case, self._until = case, time.monotonic() + seconds
        self.pipe.send(case)

    def late(self):
        return time.monotonic() > self._until or not self._process.is_alive()

    def answer(self, ready):
        """The case, its verdict, and whether the process can judge more."""
        case, self._case = self._case, None
        try:
            if ready or self.pipe.poll():
                return case, self.pipe.recv(), True
        except (EOFError, OSError):
            pass
        hangs = self._process.is_alive() and not ready
        self._process.join(0 if hangs else 5)  # so that its own exit code is known
        code = self._process.exitcode
        self.end()
        if case is None:
            raise RuntimeError("A worker did not start; its error is above.")
        return case, "hang" if hangs else f"crash with exit code {code}", False

    def end(self):
        self._process.kill()
        self._process.join()
        self.pipe.close()


def _work(pipe, make, arguments):
    try:
        judge = make(*arguments)
        pipe.send(None)
        while True:
            pipe.send(judge(*pipe.recv()))
    except (EOFError, OSError, KeyboardInterrupt):
        pass
    except BaseException:
        traceback.print_exc()
        raise
