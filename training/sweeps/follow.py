"""python -m training.sweeps.follow NICE MODULE OPTIONS...: run a command of this package that ends with who started it.

Its standard input is a pipe that only the starter holds.  When it closes, be it by `kill -9`, the command is killed: no
orphan goes on training in a folder that a second start wants to go on in.
"""

import contextlib
import os
import runpy
import signal
import sys
import threading
from pathlib import Path


def main() -> None:
    """Run it as `python -m MODULE` would."""
    nice, module, *options = sys.argv[1:]
    if int(nice):
        os.nice(int(nice))
        # a session of its own is a group of its own to Linux's scheduler, which weighs groups by their own number
        with contextlib.suppress(OSError):
            Path("/proc/self/autogroup").write_text(nice)
    threading.Thread(target=_end_with_starter, daemon=True).start()
    sys.argv = [module, *options]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _end_with_starter() -> None:
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
