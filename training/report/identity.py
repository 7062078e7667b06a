"""What makes two runs the same experiment: everything but the seed.

A teacher, a start and an individual network compare by their path with the numbers of its seeds ignored, because runs of
several seeds have a teacher of each; whether that is the run's own seed or one for all is part of the identity.  One content
under two paths is one network (training.report.references).  Where nothing is trained epochs do not count.  Data
compare by the digest that the run recorded, else by their path.  Hardware and commit may differ: tables name them.
"""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from sim.command import printable
from training.config import RunConfig
from training.presets import PRESETS
from training.report.records import Run, date_of
from training.report.references import REFERENCES, canonical_paths, digest_of, seedless, seeds_named
from training.schemes import SCHEMES, SchemeOptions

OWN = "own"
SCHEME_OPTIONS = tuple(field.name for field in dataclasses.fields(SchemeOptions))
CHANGES = (*SCHEME_OPTIONS, "quantizer", "calibration", "layer_bits", "accumulator_training",
           "accumulator_bits", "overflow", "tile")
"""What an ablation changes."""
DISTILLATION = ("kd_weight", "temperature", "kl_reduction")
COLUMNS = ("dataset", "scheme", "path", "model", "width", "preset", "epochs", "quantizer", "augment")
"""Keys of a configuration that tables show in columns of their own."""
_LATER: Mapping[str, Any] = MappingProxyType({
    field.name: field.default for field in dataclasses.fields(RunConfig) if field.default is not dataclasses.MISSING})
"""What a configuration has that was recorded before there was such an option."""
_OF_TRAINING = ("epochs", "augment")
_OF_EVALUATION = ("evaluated images", "label")


@dataclass(frozen=True)
class Group:
    """Runs that are equal in everything but the seed, in the order of their seeds.

    `options` is what a reader has to know beside COLUMNS, `settings` beside data set, scheme and path alone: deviations from
    the defaults, and whatever else tells a group from another.
    """

    identity: Mapping[str, str]
    runs: tuple[Run, ...]
    options: str = ""
    settings: str = ""

    @property
    def config(self) -> dict[str, Any]:
        """The configuration of the first, complete."""
        return complete(self.runs[0].config)

    @property
    def label(self) -> str:
        """What the data are called."""
        return self.identity["label"]


def complete(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with the keys that came after it was recorded, as what such runs did."""
    augment = "crop" if config["dataset"] == "digits" else "crop-flip"  # what runs did before there was a choice
    return {**_LATER, "augment": augment, **config}


def text_of(value: Any) -> str:
    """One text for equal values, as a command line has them."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, list | tuple):
        return ",".join(map(text_of, value))
    if isinstance(value, dict):
        return json.dumps(value, sort_keys=True)
    return "" if value is None else str(value)


def identity_of(run: Run) -> dict[str, str]:
    """Everything that decides the result of a run but its seed and the checkpoints it was given, as text by name."""
    config, training = complete(run.config), run.training
    left = ("seed", "out", "data", "own_code", *REFERENCES)
    found = {key: text_of(value) for key, value in config.items() if key not in left}
    digest = training.data_digest
    found |= {"data": "" if digest else text_of(config["data"]), "data digest": digest, "label": run.label,
              **{f"own code of {key}": text_of(code) for key, code in (training.get("own_code") or {}).items()},
              "extended": _without_occasion(training.get("extended")), "test images": text_of(training["test"]["images"])}
    if run.evaluation is not None:
        found["evaluated images"] = text_of(run.evaluation["result"]["images"])
    return found


def _references_of(run: Run, paths: Mapping[str, str]) -> dict[str, str]:
    """The checkpoints it was given: path, and content where it is one for all seeds."""
    found = {}
    for key in REFERENCES:
        found[key] = seedless(paths[key])
        found[f"{key} digest"] = digest_of(run, key) if "*" not in found[key] else ""
    return found


def changes_of(config: Mapping[str, Any]) -> str:
    """What a run's configuration says otherwise than its scheme's defaults; empty if nothing."""
    told, defaults = complete(config), default_config(config)
    found = []
    for key in CHANGES:
        value, default = told.get(key), defaults.get(key)
        if text_of(value) != text_of(default):
            found.append(f"{key.replace('_', '-')} {'a checkpoint' if key == 'individual' else text_of(value)}")
    return ", ".join(found)


def default_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """What its preset and its scheme say where a command says nothing."""
    preset = dataclasses.asdict(PRESETS[config["preset"]]) if config["preset"] in PRESETS else {}
    scheme = SCHEMES[config["scheme"]].defaults if config["scheme"] in SCHEMES else {}
    scheme = scheme or _own_defaults(config)
    return {**_LATER, "model": "resnet20", "preset": "quick", "skip_bits": 8, "width": 16, "quantizer": "dorefa", "scheme":
            config["scheme"], "path": config["path"], **preset, **scheme}


def _own_defaults(config: Mapping[str, Any]) -> dict[str, Any]:
    """What the record of a run says of the defaults of a scheme that is not built in; of old ones nothing is known."""
    found: Any = config
    for key in ("own_code", "scheme", "defaults"):
        found = found.get(key) if isinstance(found, Mapping) else None
    return {str(key).replace("-", "_"): value for key, value in found.items()} if isinstance(found, Mapping) else {}


def group_runs(runs: Iterable[Run]) -> tuple[list[Group], list[str]]:
    """Runs by identity, and notes: of two of one seed only the newest counts."""
    everyone = [(identity_of(run), run) for run in runs]
    paths = canonical_paths((run for _, run in everyone),
                            {id(run): _key(identity, run, *_OF_EVALUATION) for identity, run in everyone})
    kept: dict[str, list[tuple[dict[str, str], Run]]] = {}
    for plain, run in everyone:
        identity = plain | _references_of(run, paths[id(run)])
        kept.setdefault(_key(identity, run), []).append((identity, run))
    notes: list[str] = []
    groups = [Group({**equal[0][0], "seed of teacher": whose}, tuple(sorted(newest, key=lambda run: run.seed)))
              for equal in _joined(kept.values())
              for whose, part in _by_teacher((run for _, run in equal), paths).items()
              if (newest := _newest_of_each_seed(part, notes))]
    return _with_options(sorted(groups, key=_order)), notes


def _key(identity: Mapping[str, str], run: Run, *left: str) -> str:
    skipped = (*left, *(() if run.trains else _OF_TRAINING))
    return json.dumps({key: value for key, value in identity.items() if key not in skipped}, sort_keys=True)


def _joined(equal: Iterable[list[tuple[dict[str, str], Run]]]) -> list[list[tuple[dict[str, str], Run]]]:
    """Runs without an evaluation join those of the same identity that have one."""
    bare: dict[str, list[list[tuple[dict[str, str], Run]]]] = {}
    for members in equal:
        bare.setdefault(_key(*members[0], *_OF_EVALUATION), []).append(members)
    joined = []
    for alike in bare.values():
        without = [members for members in alike if members[0][1].evaluation is None]
        having = [members for members in alike if members[0][1].evaluation is not None]
        if len(having) == 1 and without:
            having = [having[0] + [member for members in without for member in members]]
            without = []
        joined += having + without
    return joined


def _by_teacher(runs: Iterable[Run], paths: Mapping[int, Mapping[str, str]]) -> dict[str, list[Run]]:
    """Runs by the seeds of the networks given to them: each its own, or one for all (which one of them has by chance)."""
    parts: dict[str, list[Run]] = {}
    for run in runs:
        seeds = {seed for key in REFERENCES for seed in seeds_named(paths[id(run)][key])}
        parts.setdefault(OWN if seeds <= {run.seed} else ",".join(map(str, sorted(seeds))), []).append(run)
    own = parts.get(OWN, [])
    shared = [seed for seed in parts if seed == str(own[0].seed)] if len({run.seed for run in own}) == 1 else []
    if shared:
        parts[shared[0]] += parts.pop(OWN)
    return parts


def _newest_of_each_seed(runs: Iterable[Run], notes: list[str]) -> list[Run]:
    newest: dict[int, Run] = {}
    for run in sorted(runs, key=lambda run: date_of(run.training)):
        if (older := newest.get(run.seed)) is not None:
            notes.append(f"left out: {older.training.file}: seed {run.seed} of the same configuration again, only the "
                         f"newest counts, {run.training.file}")
        newest[run.seed] = run
    return list(newest.values())


def _order(group: Group) -> tuple[Any, ...]:
    config = group.config
    identity = json.dumps(group.identity, sort_keys=True)
    return group.label, config["scheme"], text_of(config["path"]), config["preset"], identity


def _with_options(groups: list[Group]) -> list[Group]:
    options = _texts(groups, COLUMNS)
    settings = _texts(groups, ("dataset", "scheme", "path", "augment"))
    return [dataclasses.replace(group, options=option, settings=setting)
            for group, option, setting in zip(groups, options, settings, strict=True)]


def _texts(groups: list[Group], columns: tuple[str, ...]) -> list[str]:
    """What a reader has to know of every group beside the columns."""
    texts = [_deviations(group, columns) | _unlike_others(group) for group in groups]
    shown = [[group.label, *(text_of(group.config[key]) for key in columns if key not in ("dataset", "augment"))]
             for group in groups]
    name_differences(shown, [group.identity for group in groups], texts)
    return [printable(", ".join(found.values())) for found in texts]


def _unlike_others(group: Group) -> dict[str, str]:
    """What no configuration says, by key: an evaluation on some of the test images, more epochs later."""
    evaluated, images = group.identity.get("evaluated images", ""), group.identity["test images"]
    found = {"evaluated images": f"bit-true on {evaluated} of {images} test images"} if evaluated not in ("", images) else {}
    if extended := group.runs[0].training.get("extended"):
        found["was extended"] = _extension(extended)  # "extended" tells those apart that read alike
    return found


def _extension(extended: Any) -> str:
    """From how many epochs to how many a run was extended, and how often its test set was used if more than once."""
    entries = [entry for entry in extended if isinstance(entry, dict)] if isinstance(extended, list) else []
    told = [entry for entry in entries if "from" in entry and "to" in entry]
    text = f"extended from {told[0]['from']} to {told[-1]['to']} epochs" if told else "extended"
    uses = 1 + sum("test" in entry for entry in entries)
    return text if uses == 1 else f"{text}; test set used {'twice' if uses == 2 else f'{uses} times'}"


def name_differences(shown: list[list[str]], identities: list[Mapping[str, str]], options: list[dict[str, str]]
                     ) -> None:
    """Add to the options of rows that look alike and are not whatever tells them apart."""
    alike: dict[str, list[int]] = {}
    for index, cells in enumerate(shown):
        alike.setdefault(json.dumps([cells, *options[index].values()]), []).append(index)
    for indices in alike.values():
        for key in sorted({key for index in indices for key in identities[index]}):
            values = [identities[index].get(key, "") for index in indices]
            if len(set(values)) > 1:
                name = key.replace("_", "-")
                for index, value in zip(indices, values, strict=True):
                    told = f"{name} {value[:19] if 'digest' in key else value}" if value else f"no {name}"
                    options[index].setdefault(key, told)


def _deviations(group: Group, columns: tuple[str, ...]) -> dict[str, str]:
    """By key; a teacher that is given is no deviation, it takes the place of a step."""
    config = group.config
    defaults = default_config(config)
    skipped = {*columns, "augment", "dataset", "seed", "out", "data", "own_code", "teacher"}
    skipped |= set() if group.runs[0].trains else {*_OF_TRAINING}
    return {key: f"{key.replace('_', '-')} {group.identity.get(key) or seedless(text_of(value)) or 'none'}"
            for key, value in config.items() if key not in skipped and text_of(value) != text_of(defaults.get(key))}


def _without_occasion(value: Any) -> str:
    """How a run was extended, without when, where, by which command and with what success."""
    occasion = ("date", "commit", "command", "hardware", "versions", "python", "sources", "session", "test")

    def bare(part: Any) -> Any:
        if isinstance(part, dict):
            return {key: bare(entry) for key, entry in part.items() if key not in occasion}
        return [bare(entry) for entry in part] if isinstance(part, list) else part

    return text_of(bare(value)) if value else ""
