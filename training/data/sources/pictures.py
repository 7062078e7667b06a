"""One image file to pixels, by stated rules, whatever format Pillow reads.

    1 bit, gray, gray with alpha    gray
    16 bits gray                    x / 257, to the nearest
    palette, CMYK, YCbCr, ...       RGB, as Pillow converts them, without color profiles
    anything transparent            laid over white
    EXIF orientation                turned upright
    several frames                  the first
    another size                    resized whole with Pillow's bilinear filter; the aspect ratio is not kept
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from warnings import catch_warnings, simplefilter

import numpy as np
from PIL import ExifTags, Image

from sim.text import printable
from training.data.arrays import from_16_bits
from training.data.dataset import DataError
from training.data.sources.source import Size

NOT_READ = frozenset(("EPS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG"))
"""Formats of which Pillow only knows the name, or for which it starts another program on the file."""
GRAY = frozenset(("1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "I;16N"))
WIDE = frozenset(("I", "I;16", "I;16L", "I;16B", "I;16N"))
ORDINARY = frozenset(("L", "RGB"))
WHITE = (255, 255, 255, 255)
TURNS: Mapping[int, Image.Transpose] = MappingProxyType({
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90})
"""What makes an image upright, by its EXIF orientation."""


def formats() -> list[str]:
    """The names of Pillow's formats that are read, in its own order, which tries the frequent ones first."""
    Image.init()
    return [name for name in Image.ID if name not in NOT_READ]


def suffixes() -> frozenset[str]:
    """Endings of file names, in lower case, that belong to those formats."""
    read = set(formats())
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in read)


@contextmanager
def strict() -> Iterator[None]:
    """Images of more pixels than Pillow thinks safe are an error; its other warnings about odd files are silent."""
    with catch_warnings():
        simplefilter("ignore")
        simplefilter("error", Image.DecompressionBombWarning)
        yield


def read_picture(path: Path, size: Size | None, readable: list[str]) -> tuple[np.ndarray, set[str]]:
    """uint8 [H, W] if it is gray, else [H, W, 3], and what was done to it.  Call inside `strict()`.

    Raises DataError with the path for what cannot be read.
    """
    with _opened(path, readable) as image:
        done = _facts(image)
        pixels = _upright(image, done)
        if size is not None and (pixels.height, pixels.width) != size:
            pixels = pixels.resize((size[1], size[0]), Image.Resampling.BILINEAR)
            done.add("resized to {}x{} (bilinear; the aspect ratio is not kept)".format(*size))
        return np.array(pixels), done


def size_of(path: Path, readable: list[str]) -> Size:
    """Height and width of an upright image, by its header alone.  Call inside `strict()`."""
    with _opened(path, readable) as image:
        width, height = image.size
        return (width, height) if _orientation(image) >= 5 else (height, width)


@contextmanager
def _opened(path: Path, readable: list[str]) -> Iterator[Image.Image]:
    where = printable(path)
    try:
        with Image.open(path, formats=readable) as image:
            yield image
    except DataError as error:
        raise DataError(f"{where}: {error}") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise DataError(f"{where}: more than the {Image.MAX_IMAGE_PIXELS:,} pixels that an image may have") from None
    except Image.UnidentifiedImageError:
        raise DataError(f"{where}: not an image that Pillow knows; take it away or rename it") from None
    except OSError as error:
        raise DataError(f"{where}: cannot be read ({printable(error.strerror or error)})") from None
    except Exception as error:  # decoders of damaged bytes fail in every way there is
        raise DataError(f"{where}: cannot be read ({type(error).__name__}: {printable(error)})") from None


def _facts(image: Image.Image) -> set[str]:
    if image.mode == "F":
        raise DataError("floats of a range that nothing tells; save it with 8 or 16 bits, or use --dataset npz")
    done = set()
    if getattr(image, "is_animated", False):
        done.add("of several frames, of which the first is taken")
    if image.mode in WIDE:
        done.add("of 16 bits: x / 257, rounded")
    elif image.mode not in GRAY | ORDINARY | {"P", "RGBA", "PA"}:
        done.add(f"converted from {image.mode} to RGB without a color profile")
    return done


def _upright(image: Image.Image, done: set[str]) -> Image.Image:
    """Mode L or RGB, turned as its EXIF data say."""
    upright = image
    if orientation := _orientation(image):
        upright = image.transpose(TURNS[orientation])
        done.add("turned as their EXIF orientation says")
    if upright.mode in WIDE:
        return _narrow(upright)
    mode = "L" if upright.mode in GRAY else "RGB"
    if not upright.has_transparency_data:
        return upright.convert(mode)
    layered = upright.convert("RGBA")
    if layered.getchannel("A").getextrema() != (255, 255):
        done.add("with transparency, laid over white")
    return Image.alpha_composite(Image.new("RGBA", layered.size, WHITE), layered).convert("RGB").convert(mode)


def _orientation(image: Image.Image) -> int:
    """A key of TURNS, or 0: upright, unknown, or EXIF data that cannot be read, which nobody needs."""
    try:
        orientation = int(image.getexif().get(ExifTags.Base.Orientation, 0))
    except Exception:
        return 0
    return orientation if orientation in TURNS else 0


def _narrow(image: Image.Image) -> Image.Image:
    values = np.array(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise DataError(f"whole numbers of {values.min()} to {values.max()}; taken are 16 bits, 0 to 65535")
    return Image.fromarray(from_16_bits(values.astype(np.uint16)))
