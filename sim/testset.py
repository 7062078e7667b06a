"""The images that a network is evaluated on, and whether they belong to the data that it was trained on."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sim.inputs import InputError, check_pixels
from sim.outputs import EvalError
from sim.program import Program
from sim.records import digest_of, parse_json
from sim.subject import Subject
from sim.tasks import CLASSIFICATION, TASKS, Questions, Task

if TYPE_CHECKING:
    from training.data import Dataset  # noqa: TID251 - only its name

RUN_RECORD = "run.json"


@dataclass(frozen=True)
class Examples:
    """Test images and what is known of them.

    `pixels` uint8 [N, height, width, channels]; `labels` int64 [N]; `class_names` one text for each class.  `digest` is that
    of the whole data set (`Dataset.digest`), `trained_digest` the one that the training run recorded, each "" if unknown.
    Of texts `pixels` are ids int32 [N, tokens], `labels` [N, 2] and `questions` what is asked about them; `task` is what is
    measured.
    """

    pixels: np.ndarray
    labels: np.ndarray
    label: str
    class_names: tuple[str, ...]
    name: str = ""
    path: str = ""
    digest: str = ""
    trained_digest: str = ""
    notes: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    """Of each image, below `path`; empty where images have no files of their own."""
    task: Task = TASKS[CLASSIFICATION]
    questions: Questions | None = None

    @property
    def count(self) -> int:
        """Images, or questions."""
        return self.task.count(self)

    @property
    def is_as_trained(self) -> bool | None:
        """Whether they are of the data that the network was trained on; None if that cannot be told."""
        return self.digest == self.trained_digest if self.digest and self.trained_digest else None

    def first(self, count: int) -> "Examples":
        """Only so many of them: of texts the windows of so many questions."""
        inputs = count if self.questions is None else self.questions.windows(count)
        return dataclasses.replace(self, pixels=self.pixels[:inputs], labels=self.labels[:inputs], files=self.files[:inputs],
                                   questions=None if self.questions is None else self.questions.first(count))

    def to_json(self) -> dict[str, Any]:
        """What records hold: name, path, both digests (None if unknown), and whether they are equal."""
        return {"name": self.name, "path": self.path, "digest": self.digest or None,
                "trained_digest": self.trained_digest or None, "is_as_trained": self.is_as_trained}


def given_examples(subject: Subject, pixels: Any, labels: Any) -> Examples:
    """Arrays of the caller, checked; raises EvalError by the name of what is wrong."""
    if subject.program.ops[0].reads == "ids":
        raise EvalError("pixels: this network reads texts, which are evaluated as a data set: --dataset squad")
    try:
        check_pixels(pixels, subject.program.ops[0].shape)
    except InputError as error:
        raise EvalError(str(error)) from None
    if labels is None:
        raise EvalError("labels: are missing; predictions without them are those of sim.Machine(program).run(pixels)")
    numbers = np.asarray(labels)
    if numbers.dtype.kind not in "iu" or numbers.shape != (len(pixels),):
        raise EvalError(f"labels: must be {len(pixels)} whole numbers [{len(pixels)}], not {numbers.dtype} {numbers.shape}")
    classes = _classes(subject.program)
    if numbers.min() < 0 or numbers.max() >= classes:
        wrong = numbers.min() if numbers.min() < 0 else numbers.max()
        raise EvalError(f"labels: hold {wrong}, the network knows 0 to {classes - 1}")
    return Examples(pixels, numbers.astype(np.int64), "given arrays", _numbers(classes))


def require_classes(examples: Examples) -> None:
    """Raise EvalError unless what is right is the largest logit of an image: all that sweeps of registers count."""
    if not examples.task.has_classes:
        raise EvalError(f"dataset: {examples.label} is about {examples.task.unit}, which have no classes; sim.eval measures "
                        "them")


def stored_examples(subject: Subject, dataset: str | None, data: Path | None, part: str = "test") -> Examples:
    """The test images of a data set (or those of its "validation" part): of the one named, else the checkpoint's own.

    Data that the checkpoint names itself must be those it was trained on; if the caller named them, a note says that they
    are not.  Raises EvalError, and DataError of training.data.
    """
    from training.data import DATASETS, DataError, load_dataset  # noqa: TID251 - data sets are training's; only here and only now

    saved: Mapping[str, str] = subject.checkpoint.dataset if subject.checkpoint else {}
    name = dataset or saved.get("name") or _kind_of(data)
    noted = saved.get("path", "") if data is None and name == saved.get("name") else ""
    if name in DATASETS and DATASETS[name].is_text != (subject.program.ops[0].reads == "ids"):
        kind = "texts" if DATASETS[name].is_text else "images"
        raise EvalError(f"the network reads {described(subject.program)}, data set {name} is of {kind}")
    resizes = name in DATASETS and DATASETS[name].resizes
    size = "" if not resizes else saved.get("size", "") if noted else _side_lengths(subject)
    try:
        loaded = load_dataset(name, noted or data, size=size)
    except DataError as error:
        if noted:
            raise DataError(f"{error} (the checkpoint's own note of its data): say where they are now with --data") from None
        raise
    is_named = data is not None or (dataset is not None and not noted)
    return _checked(subject, loaded, is_named, part)


def _checked(subject: Subject, loaded: "Dataset", is_named: bool, part: str) -> Examples:
    split = getattr(loaded, part)
    read, found = described(subject.program), split.described
    if read != found:
        raise EvalError(f"the network reads {read}, {loaded.label} has {found.removeprefix('images of ')}")
    if loaded.vocabulary > (known := getattr(subject.program.ops[0], "vocabulary", 0)):
        raise EvalError(f"{loaded.label} has a vocabulary of {loaded.vocabulary}, the network one of {known}")
    task, largest = TASKS[loaded.task], int(split.labels.max())
    if largest >= (below := task.labels_below(subject.program.ops[-1].shape)):
        raise EvalError(f"{loaded.label} has label {largest}, the network knows 0 to {below - 1}")
    examples = Examples(
        split.plain(), split.labels.numpy(), loaded.label,
        _names(loaded.class_names, _classes(subject.program)), loaded.name, loaded.path, loaded.digest(),
        _trained_digest(subject), loaded.notes,
        loaded.test_files if part == "test" else (), task, split.questions)
    if subject.checkpoint is None:
        return examples
    return examples if examples.is_as_trained else _with_warning(examples, is_named)


def _with_warning(examples: Examples, is_named: bool) -> Examples:
    """Data that are not, or may not be, those of training: say so, or refuse what nobody asked for."""
    if examples.is_as_trained is None:
        note = "this checkpoint names no digest of its data, so they cannot be checked"
    else:
        where = f"{examples.label} ({os.path.abspath(examples.path)})" if examples.path else examples.label
        difference = (f"{where}: these are other data than the network was trained on "
                      f"(digest {examples.digest[:16]}, at training {examples.trained_digest[:16]})")
        if not is_named:
            raise EvalError(f"{difference}; the checkpoint only says where they were: name the right ones with --data, "
                            "or these with --dataset and --data to evaluate on them all the same")
        note = f"warning: {difference}"
    return dataclasses.replace(examples, notes=(*examples.notes, note))


def _trained_digest(subject: Subject) -> str:
    """Of the data of the run: as the checkpoint says it, else as the record beside it does if it is of the same run."""
    if subject.checkpoint is None:
        return ""
    if digest := subject.checkpoint.dataset.get("digest", ""):
        return digest
    if subject.path is None:
        return ""
    try:
        record = parse_json((subject.path.parent / RUN_RECORD).read_bytes())
        if record.get("digest", unsigned := digest_of(record)) != unsigned:
            return ""
        config, digest = record["config"], record["data_digest"]
        notes = {key: value for key, value in subject.checkpoint.training.items() if key in config}
        is_same_run = bool(notes) and all(config[key] == value for key, value in notes.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return ""
    return digest if is_same_run and isinstance(digest, str) else ""


def _kind_of(data: Path | None) -> str:
    """The data set that a path alone stands for, where no checkpoint names one."""
    if data is None:
        raise EvalError("dataset: a program names no data, add --dataset, and --data for a file or folder of yours")
    if data.is_dir():
        raise EvalError(f"dataset: {data} is a folder, add --dataset to say of what")
    return "npz"


def _side_lengths(subject: Subject) -> str:
    """What images of a folder are scaled to, and texts cut to: what the network reads."""
    height, width, _ = subject.program.ops[0].shape
    return str(height) if subject.program.ops[0].reads == "ids" else f"{height}x{width}"


def described(program: Program) -> str:
    """What a program reads, as a data set says what it has."""
    height, width, channels = program.ops[0].shape
    return f"windows of {height} tokens" if program.ops[0].reads == "ids" else f"images of {height}x{width}x{channels}"


def _classes(program: Program) -> int:
    return program.ops[-1].shape[2]


def _numbers(classes: int) -> tuple[str, ...]:
    return tuple(map(str, range(classes)))


def _names(known: Sequence[str], classes: int) -> tuple[str, ...]:
    """Of every class of the network; a number where the data set knows none."""
    return (*known[:classes], *_numbers(classes)[len(known):])
