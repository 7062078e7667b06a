"""What training and one image cost: multiply-accumulates, bit operations, bits of weights."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from training.cost import BACKWARD
from training.report.ancestry import Ancestry
from training.report.records import Record, Run, only_calibrates

TRAINING_IMAGES: Mapping[str, int] = MappingProxyType({"digits": 1294, "CIFAR-10 (JPEG-75)": 45000})
"""Of records from before they said it themselves."""


class Compute:
    """Costs of runs, as far as their records or the evaluations of such networks tell."""

    def __init__(self, runs: Iterable[Run]) -> None:
        everyone = list(runs)
        self.ancestry = Ancestry(everyone)
        self._labels = {id(run.training): run.label for run in everyone}
        self._forward: dict[tuple[str, str, int], int] = {}
        for run in everyone:
            if run.evaluation is not None:
                config = run.config
                self._forward[run.label, config["model"], config["width"]] = sum(
                    layer["macs"] for layer in run.evaluation["layers"])

    def training(self, run: Run) -> int | None:
        """Multiply-accumulates of all steps on the way to a student; None where something is not known."""
        return self.ancestry.cost(run, self._of_step)

    def _of_step(self, record: Record, name: str) -> int | None:
        step, images = record["steps"][name], self._images(record)
        if only_calibrates(step):
            return 0
        passes = [(name, BACKWARD)]
        passes += [("teacher", BACKWARD)] if "teacher_best" in step else []
        passes += [(step["teacher"], 1)] if step.get("teacher") else []
        teaches_itself = record["config"]["scheme"] == "speq" and step["bits"] == record["config"]["path"][-1]
        passes += [(name, 1)] if teaches_itself else []
        costs = [self._pass(record, network, count) for network, count in passes]
        if images is None or any(cost is None for cost in costs):
            return None
        return images * len(step["epochs"]) * sum(cost for cost in costs if cost is not None)

    def _pass(self, record: Record, step: str, count: int) -> int | None:
        """So many forward passes of the network of a step."""
        which = "teacher" if step == "teacher" or step.endswith("-teacher") else "student"
        known = (record.get("macs") or {}).get(which)
        if known is None:
            config = record["config"]
            model, width = config["model"], config["width"]
            if which == "teacher":
                model, width = config.get("teacher_model") or model, config.get("teacher_width") or width
            known = self._forward.get((self._labels[id(record)], model, width))
        return None if known is None else count * int(known)

    def _images(self, record: Record) -> int | None:
        data, limit = record.get("data"), record["config"].get("train_limit")
        known = data["images"][0] if isinstance(data, dict) and data.get("images") else TRAINING_IMAGES.get(
            self._labels[id(record)])
        return known if known is None or limit is None else min(int(known), int(limit))


def bit_operations(evaluation: Record | None) -> int | None:
    """Of one image: multiply-accumulates by the bits of both factors, codes and weights or codes and codes."""
    if evaluation is None:
        return None
    return sum(layer["macs"] * _bits(layer["operand"]) * (layer.get("weight_bits") or _bits(layer["other_operand"]))
               for layer in evaluation["layers"] if "weight_bits" in layer or "other_operand" in layer)


def _bits(form: str) -> int:
    """Of a format as records have it: "u4", "s3 narrow"."""
    return int(form.split(" ", maxsplit=1)[0][1:])


def weight_bits(evaluation: Record | None) -> int | None:
    """Of all weights: each is multiplied once for every pixel of its layer's output."""
    if evaluation is None:
        return None
    return sum(layer["macs"] // (layer["shape"][0] * layer["shape"][1]) * layer["weight_bits"]
               for layer in evaluation["layers"] if "weight_bits" in layer)
