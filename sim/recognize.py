"""What a file is, told from its bytes, so that the wrong one is called by its name.  Nothing in it is executed."""

import io
import json
import pickletools
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

HEAD = 4096
MOST_PICKLE = 16 << 20
"""Bytes of a pickle that are looked at: what it is stands at its beginning."""
_TRAIN = "BitTrue runs networks that it trained: python -m training.run --help"


@dataclass(frozen=True)
class Kind:
    """What a file is, in words that follow "this is", and what to do about it."""

    what: str
    advice: str = "give a checkpoint of training.run (ckpt.pt), or a program that --save-program wrote (.npz)"


CHECKPOINT = Kind("a checkpoint of training.run")
PROGRAM = Kind("an integer program of --save-program")
RESUME_STATE = Kind("the state of an unfinished run",
                    "finish it with python -m training.run ... --resume, then give its ckpt.pt")
RUN_RECORD = Kind("the record of a training run", "its checkpoint is the file ckpt.pt beside it")
EVALUATION = Kind("the record of an evaluation", "it names the checkpoint under \"model\"")
PERFORMANCE = Kind("a record of bench.peers")
CONFORMANCE = Kind("a record of sim.conformance")
RUNTIMES = Kind("a record of sim.importers.table")
DATA_SET = Kind("a data set", "name it with --dataset npz --data, and the network with --model")
EMPTY = Kind("an empty file")
BROKEN_ZIP = Kind("the beginning of a zip file without its end, or a damaged one", "copy or download it again")
RUN_FOLDER = Kind("the folder of a run", "give the file ckpt.pt in it")
UNFINISHED_FOLDER = Kind("the folder of a run without ckpt.pt", "finish it with python -m training.run ... --resume")
STATE_DICT = Kind("a torch file of weights (a state_dict), which does not say what network they belong to", _TRAIN)
EXPORTED = Kind("a program of torch.export", _TRAIN)
TORCHSCRIPT = Kind("a TorchScript module", _TRAIN)
ONNX = Kind("an ONNX model")
TFLITE = Kind("a TensorFlow Lite model")
SOURCE = Kind("a Python file")
TEXT = Kind("a text file")
IMAGE = Kind("an image, not a network")
UNKNOWN = Kind("a file of an unknown kind")
_RECORDS = {"training": RUN_RECORD, "evaluation": EVALUATION, "performance": PERFORMANCE, "conformance": CONFORMANCE,
            "runtimes": RUNTIMES}
"""By what a record says of itself."""
VALUABLE = (CHECKPOINT, PROGRAM, RESUME_STATE, *_RECORDS.values(), DATA_SET, SOURCE, ONNX, TFLITE)
"""Hours of work: no output replaces one of these by another kind of file."""

_MAGIC: tuple[tuple[int, bytes, Kind], ...] = (
    (0, b"\x89HDF\r\n\x1a\n", Kind("an HDF5 file, such as Keras writes (.h5)", _TRAIN)),
    (4, b"TFL3", TFLITE),
    (4, b"ET12", Kind("an ExecuTorch program", _TRAIN)),
    (0, b"GGUF", Kind("a GGUF file of weights", _TRAIN)),
    (0, b"\x93NUMPY", Kind("a single array (.npy)")),
    (0, b"\x1f\x8b", Kind("a gzip file", "unpack it first")),
    (0, b"7z\xbc\xaf\x27\x1c", Kind("a 7z archive", "unpack it first")),
    (0, b"\xfd7zXZ\x00", Kind("an xz file", "unpack it first")),
    (0, b"BZh", Kind("a bzip2 file", "unpack it first")),
    (0, b"\x28\xb5\x2f\xfd", Kind("a zstd file", "unpack it first")),
    (0, b"\x89PNG\r\n\x1a\n", IMAGE), (0, b"\xff\xd8\xff", IMAGE), (0, b"GIF8", IMAGE), (0, b"II*\0", IMAGE),
    (0, b"MM\0*", IMAGE), (8, b"WEBP", IMAGE),
    (0, b"%PDF-", Kind("a PDF document")),
    (0, b"\x7fELF", Kind("a program or library of this machine (ELF)")),
    (0, b"SQLite format 3\0", Kind("an SQLite database")),
    (0, b"PAR1", Kind("a Parquet table")),
    (257, b"ustar", Kind("a tar archive", "unpack it first")),
)
_LEGACY_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_TENSOR_PARTS = ("torch", "torch._utils", "torch.storage", "torch.serialization", "collections", "torch._tensor",
                 "torch.nn.parameter", "numpy", "numpy.core.multiarray", "numpy._core.multiarray", "_codecs")
"""Modules whose classes are only containers, numbers and tensors."""
_SUFFIXES = {".onnx": ONNX, ".tflite": Kind("named like a TensorFlow Lite model", _TRAIN),
             ".safetensors": Kind("named like a safetensors file", _TRAIN)}


def recognize(path: Path) -> Kind:
    """The kind of a file or folder; never fails on its content.  OSError if it cannot be read or does not exist."""
    if path.is_dir():
        return _folder(path)
    with path.open("rb") as file:
        head = file.read(HEAD)
    if not head:
        return EMPTY
    for offset, magic, kind in _MAGIC:
        if head[offset : offset + len(magic)] == magic:
            return kind
    for begins, look in _FORMATS:
        if begins(head) and (found := look(path)) is not None:
            return found
    return _SUFFIXES.get(path.suffix.lower(), UNKNOWN)


def _folder(path: Path) -> Kind:
    if (path / "ckpt.pt").exists():
        return RUN_FOLDER
    if (path / "run.json").exists():
        return UNFINISHED_FOLDER
    if (path / "saved_model.pb").exists():
        return Kind("the folder of a TensorFlow SavedModel", _TRAIN)
    return Kind("a folder")


def _zip(path: Path) -> Kind:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            pickled = next((name for name in names if name.endswith("/data.pkl")), None)
            if pickled is None:
                return _archive(names)
            if any("/code/" in name and name.endswith(".py") for name in names):
                return TORCHSCRIPT
            with archive.open(pickled) as file:
                return _pickle(file.read(MOST_PICKLE))
    except Exception:  # parsers of damaged bytes fail in every way there is
        return BROKEN_ZIP


def _archive(names: list[str]) -> Kind:
    """A zip file without pickles, by the names in it."""
    if any(name.endswith(("serialized_exported_program.json", "models/model.json")) for name in names):
        kind = EXPORTED
    elif "metadata.json" in names and "model.weights.h5" in names:
        kind = Kind("a Keras model", _TRAIN)
    elif "header.npy" in names:
        kind = PROGRAM
    elif "x_train.npy" in names or "x_test.npy" in names:
        kind = DATA_SET
    elif names and all(name.endswith(".npy") for name in names):
        kind = Kind(f"an .npz of {len(names)} arrays, not a program")
    else:
        kind = Kind("a zip archive", "unpack it first")
    return kind


def _legacy(path: Path) -> Kind:
    """What torch.save wrote before zip files: three short pickles, then the object's."""
    with path.open("rb") as file:
        content = io.BytesIO(file.read(MOST_PICKLE))
    try:
        for _ in range(3):
            for _ in pickletools.genops(content):
                pass
    except Exception:  # as above
        return Kind("a damaged torch file", "copy or download it again")
    return _pickle(content.read())


def _pickled(path: Path) -> Kind:
    with path.open("rb") as file:
        found = _pickle(file.read(MOST_PICKLE))
    return found if found is not STATE_DICT else Kind("a Python pickle, which is never opened")


def _pickle(content: bytes) -> Kind:
    """From the names and texts in a pickle, read as a list of instructions that nobody follows."""
    modules, texts = _outline(content)
    if "bittrue-checkpoint" in texts:
        return CHECKPOINT
    if any(text.startswith("bittrue-resume") for text in texts):
        return RESUME_STATE
    foreign = [name for name in modules if name.rpartition(".")[0] not in _TENSOR_PARTS]
    if foreign:
        return Kind(f"a pickled Python object ({foreign[0]}), which is never opened because that would run its code", _TRAIN)
    return STATE_DICT


def _outline(content: bytes) -> tuple[list[str], set[str]]:
    """Dotted names of what a pickle would import, in its order, and its texts."""
    names: list[str] = []
    texts: list[str] = []
    try:
        for code, argument, _ in pickletools.genops(content):
            if code.name in ("GLOBAL", "INST"):
                names.append(str(argument).replace(" ", "."))
            elif code.name == "STACK_GLOBAL" and len(texts) >= 2:
                names.append(".".join(texts[-2:]))
            elif isinstance(argument, str):
                texts.append(argument)
    except Exception:  # a damaged pickle: what came before tells enough
        pass
    return names, set(texts)


def _json(path: Path) -> Kind | None:
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return Kind("a JSON file")
    kind = value.get("kind")
    if kind is None and {"rows", "ratios"} <= value.keys():
        return PERFORMANCE
    return _RECORDS.get(kind if isinstance(kind, str) else "", Kind("a JSON file"))


def _safetensors(path: Path) -> Kind | None:
    """Eight bytes of length, then so much JSON."""
    with path.open("rb") as file:
        head = file.read(9)
    length = int.from_bytes(head[:8], "little")
    return Kind("a safetensors file of weights", _TRAIN) if head[8:] == b"{" and length < path.stat().st_size else None


def _text(path: Path) -> Kind | None:
    with path.open("rb") as file:
        head = file.read(HEAD)
    try:
        head.decode()
    except UnicodeDecodeError as error:
        if error.start < len(head) - 4:  # else a character cut by the end of what was read
            return None
    is_plain = not any(byte < 32 and byte not in b"\t\n\r\f\x1b" for byte in head)
    if not is_plain:
        return None
    if head.lstrip()[:5] in (b"<?xml", b"<svg "):
        return Kind("an XML file, such as a drawing (.svg)")
    return SOURCE if path.suffix == ".py" else TEXT


def _is_onnx(head: bytes) -> bool:
    """Its first field is ir_version, a small number; then comes a text or the graph itself."""
    return len(head) > 4 and head[0] == 0x08 and 1 <= head[1] <= 32 and head[2] in (0x12, 0x1A, 0x22, 0x3A, 0x42)


_FORMATS: tuple[tuple[Callable[[bytes], bool], Callable[[Path], Kind | None]], ...] = (
    (lambda head: head.startswith(b"PK"), _zip),
    (lambda head: head.startswith(_LEGACY_TORCH), _legacy),
    (lambda head: head[0] == 0x80 and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"), _pickled),
    (lambda head: head.lstrip()[:1] in (b"{", b"["), _json),
    (lambda head: head[8:9] == b"{", _safetensors),
    (_is_onnx, lambda path: ONNX),
    (lambda head: True, _text),
)
