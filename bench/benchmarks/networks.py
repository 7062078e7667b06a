"""Whole networks, start-up, memory and one training step."""

import hashlib
import subprocess
import sys
import timeit
from pathlib import Path

import numpy as np

from sim.accumulator import Accumulator
from sim.hardware import HardwareSpec
from sim.kernels.isa import available
from sim.lowering import lower
from sim.machine import Machine
from sim.network import Input, NetworkSpec, Precision, expected_arrays
from training.models import MODELS

SIDE, IMAGES = 32, 64
HARDWARE = {
    "fp32": HardwareSpec(),
    "tflite_single": HardwareSpec(requant="tflite_single"),
    "fp32, wrap 12": HardwareSpec(Accumulator(12, "wrap")),
    "fp32, saturate 12": HardwareSpec(Accumulator(12, "saturate")),
}


def resnet20(bits: int) -> NetworkSpec:
    """ResNet-20 for 32x32 images with random weights, no torch needed."""
    graph = MODELS["resnet20"](Input("image", "", SIDE, SIDE, 3, (0.49, 0.48, 0.45), (0.25, 0.24, 0.26)), 10, 16)
    rng = np.random.default_rng(0)
    arrays = {}
    for name, shape in expected_arrays(graph).items():
        if name.endswith("running_var"):
            values = rng.uniform(0.5, 2.0, shape)
        elif name.endswith("norm.weight"):
            values = rng.uniform(0.5, 1.5, shape)
        else:
            values = rng.normal(0.0, 0.1, shape)
        arrays[name] = values.astype(np.float32)
    return NetworkSpec(graph, arrays, Precision(bits), "dorefa")


def images(count: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, SIDE, SIDE, 3)).astype(np.uint8)


class Network:
    """ResNet-20 from pixels to logits."""

    params = ([1, 3, 8], list(HARDWARE), list(available()))
    param_names = ("bits", "hardware", "isa")
    sample_time = 0.05
    timeout = 300

    def setup(self, bits: int, hardware: str, isa: str) -> None:
        self.machine = Machine(lower(resnet20(bits), HARDWARE[hardware]), isa)
        self.pixels = images(IMAGES)
        self.machine.run(self.pixels)  # compile

    def time_run(self, *_: object) -> None:
        self.machine.run(self.pixels)

    def track_images_per_second(self, *_: object) -> float:
        return IMAGES / min(timeit.Timer(lambda: self.machine.run(self.pixels)).repeat(5, 1))

    track_images_per_second.unit = "images/s"

    def track_digest(self, *_: object) -> int:
        """The first 52 bits of the digest of the logits: a step in this curve is a change of arithmetic."""
        return int(hashlib.sha256(self.machine.run(self.pixels).tobytes()).hexdigest()[:13], 16)

    track_digest.unit = "digest"


class Memory:
    """Peak memory while many images are evaluated, the images themselves included."""

    params = (1_000, 10_000)
    param_names = ("images",)
    timeout = 300

    def setup(self, count: int) -> None:
        self.machine, self.pixels = Machine(lower(resnet20(3), HardwareSpec())), images(count)

    def peakmem_run(self, count: int) -> None:
        self.machine.run(self.pixels)


class StartUp:
    """A fresh process until its first logits, with kernels compiled before."""

    timeout = 300
    number, repeat = 1, 5

    def setup(self) -> None:
        code = (f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); from networks import Network; "
                f"Network().setup(3, 'fp32', {available()[-1]!r})")
        self.command = [sys.executable, "-c", code]
        subprocess.run(self.command, check=True)

    def time_first_logits(self) -> None:
        subprocess.run(self.command, check=True)


class TrainingStep:
    """Forward, backward and update of ResNet-20 with a batch of 128; skipped where torch is not installed."""

    params = ((32, 8, 2, 1), ("float32", "bfloat16"))
    param_names = ("bits", "gradients")
    timeout = 300

    def setup(self, bits: int, gradients: str) -> None:
        try:
            import torch

            from training.network import QuantNetwork
        except ImportError:
            raise NotImplementedError from None
        torch.manual_seed(0)
        model = QuantNetwork(resnet20(8).graph, Precision.of(bits)).channels_last().train()
        model.multiply_gradients_as(getattr(torch, gradients))
        optimizer = torch.optim.SGD(model.parameters(), 0.01, 0.9)
        pixels = torch.from_numpy(images(128)).permute(0, 3, 1, 2).float()
        labels = torch.arange(128) % 10

        def step() -> None:
            optimizer.zero_grad(set_to_none=True)
            torch.nn.functional.cross_entropy(model(pixels), labels).backward()
            optimizer.step()

        self.step = step
        step()

    def time_step(self, bits: int, gradients: str) -> None:
        self.step()
