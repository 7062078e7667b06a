"""What people hand to a machine, and what it says when that is something else."""

from typing import TYPE_CHECKING, Any

import numpy as np

from sim.formats import IntFormat, Shape

if TYPE_CHECKING:
    from sim.ops.op import Op


class InputError(ValueError):
    """Pixels or codes of another type or shape: what was given, what is wanted, and where they are alike what to do."""


def check_pixels(pixels: Any, shape: Shape) -> None:
    """Raise InputError unless it is an array of uint8 [N, *shape] with N at least 1."""
    listed = ", ".join(map(str, shape))
    wanted = f"pixels: uint8 0 .. 255 [N, {listed}] are wanted"
    if not isinstance(pixels, np.ndarray):
        hint = ""
        if type(pixels).__module__.partition(".")[0] == "torch":
            hint = ": take .permute(0, 2, 3, 1).numpy() of uint8 [N, C, H, W]"
        elif isinstance(pixels, list | tuple):
            hint = ": take np.array(pixels, np.uint8)"
        raise InputError(f"{wanted}, not a {type(pixels).__module__.partition('.')[0]}.{type(pixels).__qualname__}{hint}"
                         .replace("builtins.", ""))
    if isinstance(pixels, np.ma.MaskedArray):
        raise InputError(f"{wanted}, not a masked array: nothing here knows masks, take pixels.filled(0)")
    if pixels.ndim == 4 and pixels.shape[1:] == shape and pixels.dtype == np.uint8 and len(pixels):
        return
    given = f"{pixels.dtype} [{', '.join(map(str, pixels.shape))}]"
    if pixels.size == 0:
        raise InputError(f"{wanted} with N at least 1, not {given}, which has no pixel")
    hints = [hint for hint in (_shape_hint(pixels.shape, shape), _type_hint(pixels)) if hint]
    values = f" of {pixels.min():g} .. {pixels.max():g}" if pixels.dtype.kind in "fiu" else ""
    raise InputError(f"{wanted}, not {given}{values}{': ' if hints else ''}{'; '.join(hints)}")


def accept_ids(ids: Any, tokens: int, vocabulary: int) -> np.ndarray:
    """int32 [N, tokens, 1, 1] of ids int32 or int64 [N, tokens] below `vocabulary`; raises InputError for anything else."""
    wanted = f"ids: int32 0 .. {vocabulary - 1} [N, {tokens}] are wanted"
    _check_array(wanted, ids)
    given = f"{ids.dtype} [{', '.join(map(str, ids.shape))}]"
    if ids.dtype not in (np.int32, np.int64) or ids.ndim != 2 or ids.shape[1] != tokens or not len(ids):
        raise InputError(f"{wanted}, not {given}{': one text, take ids[None]' if ids.shape == (tokens,) else ''}")
    if ids.min() < 0 or ids.max() >= vocabulary:
        raise InputError(f"{wanted}, not {given} of {ids.min()} .. {ids.max()}")
    return ids.astype(np.int32)[:, :, None, None]


def accept_codes(name: str, given: Any, shape: Shape, form: IntFormat) -> np.ndarray:
    """Codes [N, *shape] of the format's own type, of integers of any type; sides of 1 may be left out.

    Raises InputError for anything else.
    """
    wanted = f"{name}: codes {form.dtype} {form.min} .. {form.max} [N, {', '.join(map(str, shape))}] are wanted"
    _check_array(wanted, given)
    found = f"{given.dtype} [{', '.join(map(str, given.shape))}]"
    is_fitting = given.ndim > 0 and [side for side in given.shape[1:] if side != 1] == [side for side in shape if side != 1]
    if given.dtype.kind not in "iu" or not is_fitting or not len(given):
        hint = ": channels stand last, take .transpose(0, 2, 3, 1)" \
            if given.ndim == 4 and given.shape[1:] == (shape[2], *shape[:2]) else ""
        raise InputError(f"{wanted}, not {found}{hint}")
    if not form.contains(given):
        raise InputError(f"{wanted}, not {found} of {given.min()} .. {given.max()}")
    return given.reshape(len(given), *shape).astype(form.dtype, copy=False)


def _check_array(wanted: str, given: Any) -> None:
    if not isinstance(given, np.ndarray) or isinstance(given, np.ma.MaskedArray):
        hint = ": take .numpy()" if type(given).__module__.partition(".")[0] == "torch" else ""
        raise InputError(f"{wanted}, not a {type(given).__qualname__}{hint}")


def _shape_hint(given: tuple[int, ...], shape: Shape) -> str:
    """What makes the wanted shape of the given one."""
    height, width, channels = shape
    if given == shape:
        return "one image, take pixels[None]"
    if len(given) == 4 and given[1:] == (channels, height, width) != shape:
        return "channels stand first, take pixels.transpose(0, 2, 3, 1)"
    if len(given) == 3 and channels == 1 and given[1:] == (height, width):
        return "gray images, take pixels[..., None]"
    return ""


def _type_hint(pixels: np.ndarray) -> str:
    """What makes uint8 of the given type."""
    if pixels.dtype == np.uint8:
        return ""
    if pixels.dtype.kind == "f" and pixels.min() >= 0 and pixels.max() <= 1:
        return "multiply by 255, round, convert to uint8"
    if pixels.dtype.kind in "iu" and pixels.min() >= 0 and pixels.max() <= 255:
        return "take pixels.astype(np.uint8)"
    return ""


def check_codes(op: "Op", shape: Shape, form: IntFormat | None, codes: Any) -> None:
    """Raise InputError unless these are codes [N, *shape] of the format that `op` reads."""
    assert form is not None
    if not isinstance(codes, np.ndarray):
        raise InputError(f"{op.name}: an array of codes {form.dtype} [N, {', '.join(map(str, shape))}] is wanted, not "
                         f"a {type(codes).__name__}")
    if codes.dtype != form.dtype:
        raise InputError(f"{op.name}: its codes are {codes.dtype}, expected {form.dtype}")
    if codes.ndim != 4 or codes.shape[1:] != shape or not len(codes):
        raise InputError(f"{op.name}: its codes are {list(codes.shape)}, expected [N, {', '.join(map(str, shape))}] with N "
                         "at least 1")
    if not form.contains(codes):
        raise InputError(f"{op.name}: its codes are {codes.min()} .. {codes.max()}, {form} has {form.min} .. {form.max}")
