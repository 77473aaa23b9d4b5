"""Cases that kill their process or never end."""

import os
import pathlib
import signal
import time


def judge_of(folder):
    """Judges cases of which some kill their process or never end."""

    def judge(name, number):
        (pathlib.Path(folder) / f"{name}{number}").touch()
        if name == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if name == "hang":
            time.sleep(60)
        return f"judged {number}"

    return judge
