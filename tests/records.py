"""Records as runs and evaluations write them, made from two committed ones."""

import copy
import json
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TEMPLATE = "results/records/digits/skip-level-32-2-seed0"


def training(accuracy=90.0, *, digest="d" * 64, extended=None, images=360, status="finished",
             date="2026-11-22T00:00:00+00:00", curve=None, **config):
    record = json.loads((ROOT / f"{TEMPLATE}.train.json").read_text())
    record["config"] |= {"teacher": "", **config}
    record |= {"status": status, "date": date}
    record["steps"] = {f"{record['config']['path'][-1]}bit": list(record["steps"].values())[-1]}
    record["test"] |= {"accuracy": accuracy, "images": images}
    record.pop("data_digest")
    if digest is not None:
        record["data_digest"] = digest
    if extended is not None:
        record["extended"] = extended
    if curve is not None:
        last = list(record["steps"].values())[-1]
        last["epochs"] = [{**last["epochs"][0], "epoch": number, "validation_accuracy": value}
                          for number, value in enumerate(curve, 1)]
    return record


def evaluation(of, accuracy=None, *,  # noqa: PLR0913 - one parameter per thing that tests change
               accumulator=None, overflow="wrap", tile=1, boundary=None, requant="fp32", bits=None,
               dataset="digits", images=None, compared=1000, differing=0, model="runs/a/ckpt.pt",
               date="2026-11-22T01:00:00+00:00", **config):
    record = json.loads((ROOT / f"{TEMPLATE}.eval.json").read_text())
    record["training"] = {**copy.deepcopy(of["config"]), **config, "step": f"{of['config']['path'][-1]}bit"}
    record |= {"dataset": dataset, "model": model, "date": date}
    record["hardware_spec"] = {"accumulator": {"bits": accumulator, "overflow": overflow, "tile": tile},
                               "boundary_accumulator": {"bits": boundary, "overflow": overflow, "tile": tile},
                               "requant": requant}
    if bits is not None:
        record["precision"] = {**record["precision"], "inner": bits}
    for layer in record["layers"]:
        width = boundary if layer["role"] == "boundary" else accumulator
        layer["accumulator"] = {"bits": width, "overflow": overflow, "tile": tile}
    result = record["result"]
    result |= {"accuracy": of["test"]["accuracy"] if accuracy is None else accuracy,
               "images": of["test"]["images"] if images is None else images, "compared": compared, "differing": differing}
    if compared is None:
        del result["compared"], result["differing"]
    return record


def write(folder, name, record):
    file = Path(folder) / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(record, indent=1) + "\n")
    return file


def write_run(folder, name, record, evaluated=True, **changes):
    """Under the names that sweeps give."""
    write(folder, f"{name}.train.json", record)
    if evaluated:
        write(folder, f"{name}.eval.json", evaluation(record, model=f"runs/{name}/ckpt.pt", **changes))
