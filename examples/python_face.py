"""From Python: train a network, look at it, and ask what is left of it on an accelerator with narrow registers.

    python examples/python_face.py [FOLDER]

Everything that the commands do is here as values: a small network on scikit-learn's digits, so that it takes a minute.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

import bittrue


def main(folder: Path) -> None:
    """Train into `folder` and evaluate on three pieces of hardware."""
    digits = bittrue.load_dataset("digits")
    result = bittrue.train("skip-level", dataset=digits, bits=3, model="resnet8", width=8, epochs=2, out=folder)
    print(result)

    exact = bittrue.evaluate(result.checkpoint, verify=True)
    print("as the torch model computes:", exact)
    for bits in (12, 8):
        print(f"{bits}-bit registers that saturate:", bittrue.evaluate(
            result.checkpoint, accumulator=bits, overflow="saturate", requant="tflite_single", limit=100))

    # The same by hand: lower the network for a piece of hardware, run images
    spec = bittrue.load_checkpoint(result.checkpoint).spec
    hardware = bittrue.HardwareSpec(accumulator=bittrue.Accumulator(12, "wrap"))
    machine = bittrue.Machine(bittrue.lower(spec, hardware))
    pixels = np.ascontiguousarray(digits.test.pixels[:5].permute(0, 2, 3, 1).numpy())   # uint8 [N, height, width, channels]
    print("logits:", machine.run(pixels).shape, "digits:", machine.run(pixels).argmax(1))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary) / "run")
