"""What the tables take from a record of each kind: one that lacks it is damaged."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from training.report.record import (
    CONFORMANCE,
    EVALUATION,
    GRID,
    MISTAKES,
    PERFORMANCE,
    PROFILE,
    REGISTERS,
    RUNTIMES,
    TRAINING,
    WIDTHS,
    Record,
)


def _check_common(record: Record) -> None:
    for key in ("command", "commit", "date"):
        if not isinstance(record[key], str):
            raise TypeError(f"{key} is no text")
    hardware = record["hardware"]
    hardware.get("gpu") or (hardware["cpu"], hardware["threads"], hardware["cores"])


def _check_config(config: Mapping[str, Any]) -> None:
    [int(bits) for bits in config["path"]][-1]
    int(config["seed"])
    for key in ("scheme", "dataset", "data", "model", "preset", "quantizer"):
        if not isinstance(config[key], str):
            raise TypeError(f"config's {key} is no text")
    int(config["width"]), int(config["epochs"])


def _check_training(record: Record) -> None:
    _check_common(record)
    _check_config(record["config"])
    if record["status"] != "finished":
        return
    _percent(record["test"]["accuracy"]), int(record["test"]["images"])
    if record.is_of_texts:
        _percent(record["test"]["f1"]), _percent(record["test"]["em"])
    for step in record["steps"].values():
        if "from" in step and step["bits"] not in record["config"]["path"]:
            raise ValueError(f"a step of {step['bits']} bits is not on the path")
        for entry in step["epochs"]:
            float(entry["seconds"]), float(entry["epoch"]), _percent(entry["validation_accuracy"])
    last = list(record["steps"].values())[-1]
    _percent(last["best"]["accuracy"]), int(last["best"]["epoch"]), last["epochs"][-1]


def _check_evaluation(record: Record) -> None:
    _check_common(record)
    if not isinstance(record["dataset"], str) or not isinstance(record["model"], str):
        raise TypeError("dataset or model is no text")
    result = record["result"]
    _percent(result["accuracy"]), int(result["images"])
    if record.is_of_texts:
        _percent(result["f1"]), _percent(result["em"])
        {key: [float(value) for value in values] for key, values in (result.get("scores") or {}).items()}
    if "compared" in result:
        int(result["compared"]), int(result["differing"])
    for layer in record["layers"]:
        layer["name"], [layer["accumulator"][key] for key in ("bits", "overflow", "tile")]
        int(layer["overflows"]), 1 / int(layer["outputs"])
        if not isinstance(layer.get("role", ""), str):  # programs know of none; products of two activations had none
            raise TypeError(f"layer {layer['name']}: its role is no text")
    register = record.hardware_spec["accumulator"]
    register["bits"], register["overflow"], register["tile"], record.hardware_spec["requant"], record.unlimited
    if record.get("precision") is not None and not isinstance(record["precision"]["inner"], int):
        raise TypeError("precision's inner width is no whole number")
    if record.training:
        _check_config(record.training)


def _check_grid(record: Record) -> None:
    _check_common(record)
    for job in record["jobs"]:
        if not all(isinstance(job[key], str) for key in ("name", "job", "scheme", "status", "error")):
            raise TypeError("a job's words are no texts")
        int(job["seed"]), int(job["epochs"]), [int(bits) for bits in job["path"]]
        int(job.get("accumulator_bits", 0))
    if not isinstance(record["grid"], str):
        raise TypeError("grid is no text")


def _check_mistakes(record: Record) -> None:
    _check_common(record)
    if not isinstance(record["dataset"], str):
        raise TypeError("dataset is no text")
    names = [str(network["name"]) for network in record["networks"]]
    for network in record["networks"]:
        int(network["right"]), int(network["bits"]), dict(network["training"])
    for pair in record["pairs"]:
        names[pair["teacher"]], names[pair["student"]]
        [float(pair[key]) for key in ("images", "teacher_wrong", "student_wrong", "both_wrong", "same_answer",
                                      "both_expected", "same_expected")]


def _check_profile(record: Record) -> None:
    _check_common(record)
    if not isinstance(record["dataset"], str):
        raise TypeError("dataset is no text")
    str(record["network"]["name"]), int(record["network"]["bits"]), int(record["images"])
    for layer in record["weights"]:
        str(layer["name"]), float(layer["largest"]), [int(count) for count in layer["counts"]]
        [(int(code["code"]), float(code["least"]), float(code["most"])) for code in layer["codes"]]
    for layer in record["activations"]:
        str(layer["name"]), [int(count) for count in layer["counts"]], 1 / int(layer["total"])
        [float(layer[key]) for key in ("least", "most", "low", "high", "below", "above")]


def _check_runtimes(record: Record) -> None:
    _check_common(record)
    for row in record["rows"]:
        if not all(isinstance(text, str) for text in (record["model"], record["inputs"], row["profile"], row["overflow"])):
            raise TypeError("a row's words are no texts")
        for bits, cell in row["widths"].items():
            int(bits), int(cell["right"]) / int(cell["of"]), float(cell["overflowed"])


def _check_registers(record: Record) -> None:
    _check_common(record)
    if not isinstance(record["dataset"], str) or not isinstance(record["model"], str):
        raise TypeError("dataset or model is no text")
    dict(record["programs"]), int(record["images"])
    for row in record["configurations"]:
        _percent(row["accuracy"]), _percent(row["overflowed_percent"]), int(row["changed"]), int(row["images"])
        if not all(isinstance(row[key], str) for key in ("requant", "stages", "overflow", "tile")):
            raise TypeError("a register's words are no texts")
        row["bits"] is None or int(row["bits"]), row["boundary"]
        for layer in row["layers"]:
            str(layer["layer"]), str(layer["register"]), int(layer["safe_bits"]), int(layer["channels"])
            int(layer["overflows"]), 1 / int(layer["outputs"])


def _percent(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 <= value <= 100.0:
        raise ValueError(f"{value!r} is no accuracy in percent")
    return float(value)


CHECKS: Mapping[str, Callable[[Record], None]] = MappingProxyType({
    TRAINING: _check_training, EVALUATION: _check_evaluation, PERFORMANCE: _check_common, CONFORMANCE: _check_common,
    GRID: _check_grid, MISTAKES: _check_mistakes, PROFILE: _check_profile, RUNTIMES: _check_runtimes,
    REGISTERS: _check_registers, WIDTHS: _check_common})
"""What the tables take from a record; a digest guards those that have one, these the ones from before, too."""
