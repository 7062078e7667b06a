"""python -m training.run: train one network by one scheme.

Reads like an article: parse, build, fit, save, say what to run next.
"""

import dataclasses
import json
import shlex
import time
from pathlib import Path
from typing import Annotated

import torch
import typer

from sim.checkpoint import CheckpointError
from sim.command import new_app, run_app
from sim.network import FLOAT_BITS, NetworkError, QuantizerError
from training.config import ConfigError, RunConfig, differences
from training.data import DATASETS, DataError, load_dataset
from training.display import RunDisplay, console, show_run
from training.loop import DivergedError
from training.models import MODELS
from training.presets import PRESETS
from training.quantizers import QUANTIZERS
from training.record import command_line, provenance
from training.runner import FINAL_FILE, RECORD_FILE, Runner
from training.schemes import SCHEMES, SchemeError, find_scheme

BY_PRESET = "  [default: the preset's]"
BY_SCHEME = "  [default: the scheme's]"
BY_BOTH = "  [default: the scheme's, or the preset's]"

app = new_app()


@app.command()
def main(  # noqa: PLR0913 - one parameter per option
    scheme: Annotated[str, typer.Option(help=", ".join(SCHEMES))],
    dataset: Annotated[str, typer.Option(help=", ".join(DATASETS))] = "digits",
    data: Annotated[Path | None, typer.Option(help="where the data are: a folder, or the .npz file")] = None,
    model: Annotated[str, typer.Option(help=", ".join(MODELS))] = "resnet20",
    width: Annotated[int, typer.Option(help="channels of the first stage")] = 16,
    bits: Annotated[int | None, typer.Option(help="bits of the student's weights and activations: 1 to 8, 16, 32 "
                                                  "(float)  [default: 2]")] = None,
    path: Annotated[str | None, typer.Option(help="precisions from teacher to student, for example 32,8,4,2")] = None,
    preset: Annotated[str, typer.Option(
        help="recipe: quick (ours), report (as published) or code (as its code ran)")] = "quick",
    epochs: Annotated[int | None, typer.Option(help="epochs of each step of a ladder" + BY_PRESET)] = None,
    batch: Annotated[int | None, typer.Option(help="images in a batch" + BY_PRESET)] = None,
    lr: Annotated[float | None, typer.Option(help="first learning rate" + BY_PRESET)] = None,
    schedule: Annotated[str | None, typer.Option(
        help="cosine, or multistep: a tenth from each milestone on" + BY_PRESET)] = None,
    milestones: Annotated[str | None, typer.Option(
        help="epochs of a multistep schedule, for example 45,90" + BY_PRESET)] = None,
    weight_decay: Annotated[float | None, typer.Option(help="L2 penalty" + BY_PRESET)] = None,
    momentum: Annotated[float | None, typer.Option(help="momentum of SGD" + BY_PRESET)] = None,
    kd_weight: Annotated[float | None, typer.Option(help="l, the weight of distillation" + BY_BOTH)] = None,
    temperature: Annotated[float | None, typer.Option(help="T of the distillation loss" + BY_BOTH)] = None,
    kl_reduction: Annotated[str | None, typer.Option(
        help="batch, or classes: the mean over classes too" + BY_PRESET)] = None,
    boundary_bits: Annotated[str | None, typer.Option(help="bits of the first and last layer, or float" + BY_PRESET)] = None,
    skip_bits: Annotated[int, typer.Option(help="bits of the residual path")] = 8,
    layer_bits: Annotated[str, typer.Option(
        help="exceptions of the student, for example stage1_block1_conv1=4,stage1_block1_in=4")] = "",
    quantizer: Annotated[str | None, typer.Option(help=", ".join(QUANTIZERS) + BY_SCHEME)] = None,
    calibration: Annotated[str | None, typer.Option(
        help="first values of learned intervals: minmax, or mse (least squared error)" + BY_SCHEME)] = None,
    seed: Annotated[int, typer.Option(help="seed of weights, order and augmentation")] = 0,
    train_limit: Annotated[int | None, typer.Option(help="train on the first N images only")] = None,
    gradients: Annotated[str, typer.Option(
        help="float32, or bfloat16: faster where the processor multiplies it, rounds gradients, not codes")] = "float32",
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    out: Annotated[Path | None, typer.Option(help="folder of the run  [default: runs/SCHEME-DATA-MODEL-BITS-SEED]")] = None,
    teacher: Annotated[Path | None, typer.Option(help="checkpoint to take a step of the ladder from")] = None,
    init_from: Annotated[Path | None, typer.Option(
        help="checkpoint whose weights the first networks begin with, for instance of another data set")] = None,
    teacher_model: Annotated[str | None, typer.Option(help="the teacher's architecture  [default: the student's]")] = None,
    teacher_width: Annotated[int | None, typer.Option(help="the teacher's width  [default: the student's]")] = None,
    phases: Annotated[str | None, typer.Option(help="qkd: which of ss,cs,tu run  [default: all]")] = None,
    fixed_teacher: Annotated[bool, typer.Option("--fixed-teacher", help="qkd: the teacher does not co-study")] = False,
    u: Annotated[float | None, typer.Option(help="speq: probability of high precision  [default: 0.5]")] = None,
    high_bits: Annotated[int | None, typer.Option(help="speq: high precision  [default: 8]")] = None,
    candidates: Annotated[str | None, typer.Option(help="speq: pair, or uniform from 2 to 8  [default: pair]")] = None,
    teacher_statistics: Annotated[str | None, typer.Option(
        help="speq: batch norm of the teacher pass: batch, running or shared  [default: batch]")] = None,
    self_distillation: Annotated[str | None, typer.Option(help="speq: cosine or kl  [default: cosine]")] = None,
    drop_kd_after: Annotated[float | None, typer.Option(
        help="part of a step after which it learns from labels alone  [default: 1.0]")] = None,
    hard_example_weight: Annotated[float | None, typer.Option(
        help="how much more an example counts that the teacher gets wrong  [default: 0]")] = None,
    individual: Annotated[Path | None, typer.Option(
        help="checkpoint whose mistakes count for --hard-example-weight, too")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="continue the run in the folder, if there is one")] = False,
) -> None:
    """Train a low-precision network by distillation and write its checkpoint."""
    command = command_line("training.run", {key: value for key, value in locals().items() if value != ""})
    if preset not in PRESETS:
        raise ConfigError(f"preset: {preset!r} is unknown, choose one of {', '.join(PRESETS)}")
    recipe = dataclasses.asdict(PRESETS[preset]) | {"quantizer": "dorefa"} | dict(find_scheme(scheme).defaults)
    given = {"epochs": epochs, "batch": batch, "lr": lr, "schedule": schedule, "weight_decay": weight_decay,
             "momentum": momentum, "kd_weight": kd_weight, "temperature": temperature, "kl_reduction": kl_reduction,
             "milestones": None if milestones is None else _integers("milestones", milestones),
             "boundary_bits": None if boundary_bits is None else _boundary(boundary_bits),
             "quantizer": quantizer, "calibration": calibration, "teacher_model": teacher_model,
             "teacher_width": teacher_width, "phases": None if phases is None else tuple(phases.split(",")),
             "fixed_teacher": fixed_teacher or None, "u": u, "high_bits": high_bits, "candidates": candidates,
             "teacher_statistics": teacher_statistics, "self_distillation": self_distillation,
             "drop_kd_after": drop_kd_after, "hard_example_weight": hard_example_weight,
             "individual": None if individual is None else str(individual)}
    recipe |= {key: value for key, value in given.items() if value is not None}
    config = RunConfig(
        scheme=scheme, dataset=dataset, data=str(data or ""), model=model, width=width, path=_path(scheme, bits, path),
        preset=preset, skip_bits=skip_bits, layer_bits=layer_bits, seed=seed, train_limit=train_limit,
        teacher=str(teacher or ""), init_from=str(init_from or ""), gradients=gradients,
        **recipe)
    torch_device = _device(device)
    images = load_dataset(dataset, data)
    folder = out or config.default_out
    record = _open_folder(folder, config, resume, device, images.digest(), command)
    started = time.perf_counter()
    with RunDisplay() as display:
        runner = Runner(config, images, folder, torch_device, display, record)
        if record.get("status") != "finished":
            runner.run()
    show_run(runner.record, images.label)
    console.print(f"{time.perf_counter() - started:.0f} s.  The checkpoint: {folder / FINAL_FILE}")
    console.print(f"Next, run it bit-true:\n    {next_command(config, folder)}", highlight=False)


def next_command(config: RunConfig, folder: Path) -> str:
    """The exact evaluation of this run's checkpoint."""
    bits = config.bits if config.bits != FLOAT_BITS else 8
    boundary = " --boundary-bits 8" if config.boundary_bits == FLOAT_BITS else ""
    return f"python -m sim.eval --model {shlex.quote(str(folder / FINAL_FILE))} --bits {bits}{boundary} --verify"


def _path(scheme: str, bits: int | None, path: str | None) -> tuple[int, ...]:
    if path is None:
        student = 2 if bits is None else bits
        RunConfig.check_bits(student)
        return find_scheme(scheme).default_path(student)
    steps = _integers("path", path)
    if bits is not None and steps[-1] != bits:
        raise ConfigError(f"path {path} ends at {steps[-1]} bits, --bits says {bits}")
    return steps


def _integers(option: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"{option}: {text!r} is not a list of whole numbers such as 32,8,4,2") from None


def _boundary(text: str) -> int:
    if text == "float":
        return FLOAT_BITS
    if not text.isdecimal():
        raise ConfigError(f"boundary-bits: {text!r} is not allowed, choose 2 to 8, 16 or float")
    return int(text)


def _device(name: str) -> torch.device:
    if name == "cpu" or (name.startswith("cuda") and torch.cuda.is_available()):
        return torch.device(name)
    choices = "cpu or cuda" if torch.cuda.is_available() else "cpu"
    raise ConfigError(f"device: {name!r} is not available here, choose {choices}")


def _open_folder(folder: Path, config: RunConfig, resume: bool, device: str, digest: str,
                 command: str) -> dict[str, object]:
    """The record of the run in `folder`: a new one, or the one to continue."""
    fresh = {"kind": "training", "config": config.to_json(), "data_digest": digest,
             **provenance(command, device), "steps": {}}
    file = folder / RECORD_FILE
    if not file.exists():
        if folder.exists() and any(folder.glob("*.pt")):
            raise ConfigError(f"{folder} holds checkpoints but no {RECORD_FILE}: choose another --out")
        return fresh
    if not resume:
        raise ConfigError(f"{folder} already holds a run: continue it with --resume or choose another --out")
    try:
        record = json.loads(file.read_text())
        other = {"gradients": "float32"} | record["config"]  # runs from before there was a choice
    except (ValueError, KeyError, TypeError):
        raise ConfigError(f"{file} is damaged: choose another --out") from None
    if changed := differences(config.to_json(), other):
        raise ConfigError(f"{folder} holds another run ({'; '.join(changed)}): choose another --out")
    if record.get("data_digest") != digest:
        raise ConfigError(f"{folder} holds a run on other data than there are now: choose another --out")
    return dict(record)


if __name__ == "__main__":
    run_app(app, ConfigError, QuantizerError, SchemeError, DataError, NetworkError, CheckpointError, DivergedError)
