"""python -m training.run: train one network by one scheme.

The options are those of training/options.py, the work is `training.api.execute`; here they become a command line, and what
came of them is printed, with the command to run next.
"""

import inspect
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from sim.checkpoint import CheckpointError
from sim.command import new_app, printable, run_app
from sim.network import FLOAT_BITS, NetworkError, QuantizerError
from sim.records import RecordError
from sim.registry import RegistryError
from sim.trained import shown_by
from training.api import MODULE, TrainResult, execute
from training.config import ConfigError
from training.data import DataError
from training.display import RunDisplay, show_run
from training.loop import DivergedError
from training.options import GROUPS, OPTIONS, Option
from training.quantizers import QUANTIZERS
from training.record import command_line
from training.schemes import SchemeError
from training.watch import Silent

EXAMPLE = "Example: python -m training.run --scheme takd --path 32,8,4,2 --epochs 30 --out runs/mine"
QUIET = "quiet"
DEPLOYED_BITS = 8
"""What a float network is first tried at."""
ERRORS = (ConfigError, QuantizerError, SchemeError, RegistryError, RecordError, DataError, NetworkError, CheckpointError,
          DivergedError)


class GroupedCommand(TyperCommand):
    """Help in the groups of the table, each option with its default."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """One section for each group; what belongs to none stands in the last."""
        groups = {option.name: option.group for option in OPTIONS.values()}
        records: dict[str, list[tuple[str, str]]] = {group: [] for group in GROUPS}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                records[groups.get(parameter.name or "", GROUPS[-1])].append(record)
        for group, lines in records.items():
            with formatter.section(group):
                formatter.write_dl(lines)


app = new_app()


def main(**given: Any) -> TrainResult:
    """Train a low-precision network by distillation and write its checkpoint."""
    quiet = bool(given.pop(QUIET, False))
    started = time.perf_counter()
    if quiet:
        return execute(given, Silent())
    with RunDisplay() as display:
        result = execute(given, display, say=_say)
    show_run(result.record, result.record.get("data", {}).get("label", result.record["config"]["dataset"]))
    _say(f"{time.perf_counter() - started:.0f} s.  The checkpoint: {printable(result.checkpoint)}")
    title, command = next_command(result)
    _say(f"{title}\n    {command}")
    return result


def next_command(result: TrainResult) -> tuple[str, str]:
    """What to do with a run's checkpoint, and the exact command: its evaluation, or what a float network needs before it."""
    config = result.record["config"]
    bits, is_float = config["path"][-1], config["path"][-1] == FLOAT_BITS
    quantizer = QUANTIZERS[config["quantizer"]]
    if is_float and (quantizer.activation_parameters() or quantizer.weight_parameters(1)):
        same = {key: config[key] for key in ("dataset", "data", "size", "model", "width", "seed") if config[key] != ""}
        return f"Next, quantize it (as a float network it taught quantizer {config['quantizer']} nothing):", command_line(
            MODULE, {"scheme": "ptq", "bits": DEPLOYED_BITS, **same, "teacher": result.checkpoint,
                     "out": Path(f"{result.folder}-ptq")})
    options: dict[str, Any] = {"model": result.checkpoint, "bits": DEPLOYED_BITS if is_float else bits}
    if is_float or config["boundary_bits"] == FLOAT_BITS:
        options["boundary_bits"] = DEPLOYED_BITS
    options |= shown_by(config)
    own = {} if config["quantizer"] in list(QUANTIZERS) else {"quantizer": config["quantizer"]}
    return "Next, run it bit-true:", command_line("sim.eval", {**options, **own, "verify": True})


def _say(line: str) -> None:
    """One line, however long: what is to be copied is not wrapped."""
    for part in line.split("\n"):
        print(printable(part), flush=True)


def _parameter(option: Option) -> inspect.Parameter:
    """The option as typer reads it: everything may be left out, so that what was given can be told from what was not."""
    default = f"  [default: {option.default}]" if option.default else ""
    if option.kind is bool:
        kind: Any = bool
        described = typer.Option(f"--{option.text}", help=option.help + default)
    else:
        kind = (str if option.kind is Path else option.kind) | None  # Path("") would be the current folder
        described = typer.Option(help=option.help + default)
    return inspect.Parameter(option.name, inspect.Parameter.KEYWORD_ONLY, annotation=Annotated[kind, described],
                             default=False if option.kind is bool else None)


def _command(**given: Any) -> None:
    main(**given)


def _signature() -> inspect.Signature:
    quiet = inspect.Parameter(QUIET, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Annotated[
        bool, typer.Option("--quiet", help="print nothing but errors")])
    return inspect.Signature([*map(_parameter, OPTIONS.values()), quiet])


_command.__doc__ = main.__doc__
_command.__signature__ = _signature()  # type: ignore[attr-defined]
_command.__annotations__ = {name: parameter.annotation for name, parameter in _signature().parameters.items()}
app.command(cls=GroupedCommand, epilog=EXAMPLE)(_command)


if __name__ == "__main__":
    run_app(app, *ERRORS, go_on="a training run goes on with --resume")
