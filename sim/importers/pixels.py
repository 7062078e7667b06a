"""How uint8 pixels become the input codes of a model that somebody else trained.

A model file says what one input code stands for, not what its author did with a pixel.  Three habits are told from that
scale alone; for others the user says what real number a pixel is.
"""

import dataclasses
from dataclasses import dataclass

import numpy as np

from sim.formats import IntFormat, Shape
from sim.importers.imported import ImporterError
from sim.ops.input import InputOp
from sim.ops.move import MoveOp
from sim.ops.op import Op, format_of
from sim.program import Program

HABITS = {"raw": (1.0, 0.0, "p"), "unit": (1 / 255, 0.0, "p / 255"), "symmetric": (1 / 127.5, -1.0, "(p - 127.5) / 127.5")}
"""What a step of a pixel is worth and what pixel 0 is: the real number, and as people write it."""
NEAR = 0.02
"""A scale this much beside a habit's, relatively, belongs to it: converters spread 8 bits over 255 or 256 steps."""
FINE = 1024
"""Parts of a code to which a quotient is rounded before it is rounded half up: a scale in float32 blurs ties."""
MOST_IMAGE_CHANNELS = 4


@dataclass(frozen=True)
class Pixels:
    """A pixel p stands for p `gain` + `offset` (one number for each channel, or one for all); `told` is that in words."""

    gain: tuple[float, ...]
    offset: tuple[float, ...]
    told: str

    def table(self, form: IntFormat, scale: float, zero: int, channels: int) -> np.ndarray:
        """Codes [channels, 256] of the 256 pixels: real / scale rounded half up, plus the zero point, clamped."""
        gain, offset = (
            np.broadcast_to(np.array(part, np.float64)[:, None], (channels, 1)) for part in (self.gain, self.offset)
        )
        steps = np.rint((np.arange(256) * gain + offset) / scale * FINE)
        codes = np.clip(np.floor((steps + FINE // 2) / FINE) + zero, form.min, form.max)
        return np.ascontiguousarray(codes.astype(form.dtype))


@dataclass(frozen=True)
class _Codes(Pixels):
    """The smallest code for pixel 0, the next for pixel 1."""

    def table(self, form: IntFormat, scale: float, zero: int, channels: int) -> np.ndarray:
        """As it says."""
        codes = np.minimum(np.arange(256) + form.min, form.max).astype(form.dtype)
        return np.ascontiguousarray(np.broadcast_to(codes, (channels, 256)))


def inferred(scale: float) -> Pixels | None:
    """The habit that an input's scale tells of; None where it tells of none.

    >>> inferred(1.0).told, inferred(1 / 256).told, inferred(0.0186)
    ('a pixel p stands for p', 'a pixel p stands for p / 255', None)
    """
    for gain, offset, text in HABITS.values():
        if abs(scale / gain - 1.0) <= NEAR:
            return Pixels((gain,), (offset,), f"a pixel p stands for {text}")
    return None


def asked_for(text: str) -> Pixels:
    """What --pixels-as says: a habit, "codes", or MEAN/STD of p / 255, a number or one for each channel with commas.

    >>> asked_for("0.5/0.25").told
    'a pixel p stands for (p / 255 - 0.5) / 0.25'

    Raises ImporterError.
    """
    if text in HABITS:
        gain, offset, words = HABITS[text]
        return Pixels((gain,), (offset,), f"a pixel p stands for {words}")
    if text == "codes":
        return _Codes((), (), "pixel 0 is the smallest code, each further one the next")
    try:
        mean, std = (tuple(float(number) for number in part.split(",")) for part in text.split("/"))
        if len({len(mean), len(std), 1}) > 2 or not np.isfinite([*mean, *std]).all() or min(std) <= 0.0:
            raise ValueError
    except ValueError:
        raise ImporterError(
            f"pixels-as: {text!r} is not allowed, choose {', '.join(HABITS)}, codes, or MEAN/STD of p / 255 such as "
            "0.485,0.456,0.406/0.229,0.224,0.225"
        ) from None
    size = max(len(mean), len(std))
    means, stds = mean * (size // len(mean)), std * (size // len(std))
    return Pixels(
        tuple(1 / (255 * s) for s in stds),
        tuple(-m / s for m, s in zip(means, stds, strict=True)),
        f"a pixel p stands for (p / 255 - {','.join(map(str, mean))}) / {','.join(map(str, std))}",
    )


def is_of_codes(program: Program) -> bool:
    """Whether a program reads codes where an evaluation has pixels."""
    return any(op.is_input and op.kind == "codes" for op in program.ops)


def image_program(program: Program, option: str | None) -> tuple[Program, Pixels]:
    """The program with uint8 pixels [N, height, width, channels] for an input, and how they become codes.

    `option` is what --pixels-as says, None for what the input's scale tells.  A model that reads channels first gets a
    transposition.  Raises ImporterError where the input is no image, or nothing tells what a pixel stands for.
    """
    inputs = [op for op in program.ops if op.is_input]
    if len(inputs) != 1 or inputs[0].kind != "codes":
        raise ImporterError(
            f"this model reads {', '.join(op.name for op in inputs)}, images are read by models of one input"
        )
    source = inputs[0]
    shape, is_first = _image_shape(source.shape)
    scale = program.scales.get(source.name, 1.0)
    pixels = asked_for(option) if option is not None else inferred(scale)
    if pixels is None:
        raise ImporterError(
            f"pixels-as: a step of the input stands for {scale:g}, which does not tell what a pixel stands for; say so with "
            f"--pixels-as {', '.join(HABITS)}, codes, or MEAN/STD of p / 255 such as 0.485,0.456,0.406/0.229,0.224,0.225"
        )
    if len(pixels.gain) not in (0, 1, shape[2]):
        raise ImporterError(f"pixels-as: {len(pixels.gain)} numbers for images of {shape[2]} channels")
    return _with_pixels(
        program, source, shape, is_first, pixels.table(format_of(source), scale, source.zero_point, shape[2])
    ), pixels


def _image_shape(shape: Shape) -> tuple[Shape, bool]:
    """(height, width, channels), and whether the model has its channels first."""
    if shape[2] > MOST_IMAGE_CHANNELS >= shape[0]:
        return (shape[1], shape[2], shape[0]), True
    return shape, False


def _with_pixels(program: Program, source: Op, shape: Shape, is_first: bool, table: np.ndarray) -> Program:
    name = f"{source.name} pixels" if is_first else source.name
    ops: list[Op] = [InputOp(name, "", shape, source.format, table, zero_point=source.zero_point)]
    if is_first:
        ops.append(MoveOp(source.name, name, source.shape, source.format, shape, (2, 0, 1), zero_point=source.zero_point))
    return dataclasses.replace(program, ops=(*ops, *(op for op in program.ops if op is not source)))
