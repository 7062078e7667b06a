"""The bytes of an ONNX file as an onnx.ModelProto, for every dialect.  Nothing in it is executed."""

from pathlib import Path
from typing import Any

from sim.importers.imported import ImporterError

MOST_BYTES = 2 << 30
"""Of a file: protobuf itself ends there."""


def read_proto(path: Path, most: int = MOST_BYTES) -> Any:
    """The onnx.ModelProto of a file of at most so many bytes, without arrays that lie in other files.

    Raises ImporterError, whose text does not name the file, and OSError.
    """
    try:
        import onnx
    except ImportError:
        raise ImporterError("reading ONNX needs the package onnx: pip install 'bittrue[import]'") from None
    size = path.stat().st_size
    if size > most:
        raise ImporterError(f"a file of {size} bytes, at most {most} are read")
    content = path.read_bytes()
    try:
        return onnx.ModelProto.FromString(content)
    except Exception as error:  # parsers of damaged bytes fail in every way there is
        raise ImporterError(f"not an ONNX model ({type(error).__name__})") from None


def text(name: Any) -> str:
    """A name of a file: protobuf gives bytes that are no UTF-8 as they are."""
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
