"""The command `bittrue`: one name for those that `python -m` runs, whatever lies in the current folder.

`python -m sim.eval` finds a file sim.py of the current folder first; an installed script does not look there.
"""

import runpy
import sys

from sim.interrupts import end_in_one_line
from sim.version import __version__

COMMANDS = {
    "train": ("training.run", "train a network by a scheme of distillation"),
    "eval": ("sim.eval", "run a trained network on integer hardware, to the last bit"),
    "trace": ("sim.trace", "write any tensor of a run, sums before requantization included"),
    "diff": ("sim.diff", "find where the integers of two machines first differ, and why"),
    "conformance": ("sim.conformance", "run other people's golden data, and compare every code"),
    "export": ("sim.export", "write a network as ONNX that other runtimes run with equal integers"),
    "sweep": ("training.sweep", "train and evaluate many networks"),
    "registers": ("sim.sweep", "run a network on accumulators of many widths, rules and tiles"),
    "widths": ("sim.widths", "show how wide its accumulators have to be, and choose them"),
    "tables": ("training.tables", "make tables and plots of finished runs"),
    "report": ("training.report", "make one page of them"),
    "mistakes": ("training.mistakes", "count mistakes that networks share with their teachers"),
    "profile": ("training.profile", "show weights and activations beside the range of their codes"),
}
"""name -> (the module that `python -m` runs, what it does)"""


def main() -> None:
    """Run the command that the first argument names with the other arguments; exit with its status, 2 if there is none."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("--help", "-h"):
        print(usage())
    elif name == "--version":
        print(f"bittrue {__version__}")
    elif name in COMMANDS:
        module, _ = COMMANDS[name]
        end_in_one_line()
        sys.argv[:2] = [f"bittrue {name}"]
        runpy.run_module(module, run_name="__main__", alter_sys=False)
    else:
        print(f"error: {name!r} is no command, choose one of {', '.join(COMMANDS)}, or --help", file=sys.stderr)
        sys.exit(2)


def usage() -> str:
    """What there is, and an example."""
    commands = "\n".join(f"  {name:13}{what} (python -m {module})" for name, (module, what) in COMMANDS.items())
    return f"""Usage: bittrue COMMAND [OPTIONS]

k-bit networks: training by distillation, and integer hardware to the last bit.

Commands:
{commands}

Options:
  --version   print the version
  --help      print this; after a command, its options

Example:
  bittrue train --scheme takd --out runs/first
  bittrue eval --model runs/first/ckpt.pt --bits 2 --verify"""


if __name__ == "__main__":
    main()
