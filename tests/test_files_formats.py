"""What is written carries a digest: damage anywhere is refused in one line or changes nothing that is read."""

import copy
import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sim.checkpoint import Checkpoint, CheckpointError, content_digest, load_checkpoint, save_checkpoint, save_payload
from sim.network import Input, Precision
from sim.records import SHAPES, RecordError, read_record, write_record
from tests.examples import examples
from training.checkpoint import BEFORE, FORMAT, ResumeState
from training.models import MODELS
from training.network import QuantNetwork

ROOT = Path(__file__).resolve().parent.parent
CHECKPOINT = ROOT / "tests" / "data" / "takd-digits-2bit.pt"
RECORDS = ROOT / "results" / "records"


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("formats")


def network() -> QuantNetwork:
    torch.manual_seed(0)
    return QuantNetwork(MODELS["resnet8"](Input("image", "", 8, 8, 1, (0.3,), (0.4,)), 10, 2), Precision(2))


def optimizer_of(model) -> torch.optim.Optimizer:
    return torch.optim.SGD([{"params": list(model.parameters()), "rate_scale": 1.0, "weight_decay": 0.1}], 0.1, 0.9)


def state() -> ResumeState:
    """That of a student with a partner after two epochs."""
    model = network()
    optimizer = optimizer_of(model)
    for _ in range(2):
        model.train()(torch.randint(0, 256, (8, 1, 8, 8)).float()).sum().backward()
        optimizer.step()
    history = [{"epoch": epoch, "loss": 0.5, "validation_accuracy": 10.0 * epoch} for epoch in (1, 2)]
    best = {"accuracy": 20.0, "loss": 0.5, "epoch": 2, "model": model.state_dict()}
    partner = {"model": network().state_dict(), "best": dict(best)}
    return ResumeState("2bit", 2, model.state_dict(), optimizer.state_dict(), best, history, partner)


@st.composite
def damages(draw, content: bytes) -> bytes:
    """A bit flipped, a byte replaced, or the end cut off; in small files everywhere, in large ones also near the ends."""
    kind = draw(st.sampled_from(["bit", "byte", "cut"]))
    last = len(content) - 1
    place = draw(st.one_of(st.integers(0, last), st.integers(0, min(4000, last)), st.integers(max(0, last - 4000), last)))
    if kind == "cut":
        return content[:place]
    old = content[place]
    new = old ^ (1 << draw(st.integers(0, 7))) if kind == "bit" else draw(st.integers(0, 255).filter(lambda x: x != old))
    return content[:place] + bytes([new]) + content[place + 1 :]


def assert_one_line_or_equal(file: Path, load, error: type[Exception], wanted) -> None:
    try:
        found = load(file)
    except error as refusal:
        assert len(str(refusal).splitlines()) == 1
        assert str(file) in str(refusal)
    else:
        assert found == wanted


# checkpoints

def checkpoint_content(file):
    checkpoint = load_checkpoint(file)
    spec = checkpoint.spec
    arrays = {name: (array.shape, array.tobytes()) for name, array in spec.arrays.items()}
    return (spec.graph, spec.precision, spec.quantizer, arrays, dict(checkpoint.dataset), dict(checkpoint.training),
            checkpoint.checked)


@pytest.fixture(scope="module")
def saved_checkpoint(scratch):
    save_checkpoint(scratch / "good.pt", load_checkpoint(CHECKPOINT))
    return (scratch / "good.pt").read_bytes(), checkpoint_content(scratch / "good.pt")


@given(data=st.data())
@examples(200)
def test_checkpoint__damaged_is_refused_or_equal(scratch, saved_checkpoint, data):
    content, wanted = saved_checkpoint
    (scratch / "bad.pt").write_bytes(data.draw(damages(content)))
    assert_one_line_or_equal(scratch / "bad.pt", checkpoint_content, CheckpointError, wanted)


def test_checkpoint__every_bit_of_a_weight_counts(scratch, saved_checkpoint):
    content, _ = saved_checkpoint
    weight = load_checkpoint(CHECKPOINT).spec.arrays["stem.weight"].tobytes()
    place = content.index(weight)
    for bit in range(32):
        changed = bytearray(content)
        changed[place + bit // 8] ^= 1 << bit % 8
        (scratch / "bad.pt").write_bytes(changed)
        with pytest.raises(CheckpointError, match=r"bad.pt: the digest does not match, the file was changed"):
            load_checkpoint(scratch / "bad.pt")


def test_checkpoint__of_before_loads_and_says_so(scratch, saved_checkpoint):
    old = load_checkpoint(CHECKPOINT)
    assert not old.checked
    assert old.dataset == {"name": "digits", "path": "", "label": "digits", "digest": "", "size": ""}
    new = load_checkpoint(scratch / "good.pt")
    assert new.checked
    assert torch.load(scratch / "good.pt", weights_only=True)["version"] == 2
    assert checkpoint_content(scratch / "good.pt")[:-1] == checkpoint_content(CHECKPOINT)[:-1]


@pytest.mark.parametrize("change", [
    {"version": 1}, {"digest": "sha256:0"}, {"digest": None}, {"dataset": {"name": "digits", "path": "", "label": "digits"}},
    {"training": {"scheme": "kd"}}, {"training": {1: 2}}, {"precision": {"inner": 3, "boundary": 8, "skip": 8}},
    {"quantizer": "lsq"}, {"version": True}, {"version": 2.0}])
def test_checkpoint__that_contradicts_its_digest_is_refused(scratch, saved_checkpoint, change):
    payload = torch.load(scratch / "good.pt", weights_only=True)
    torch.save({**payload, **change}, scratch / "bad.pt")
    with pytest.raises(CheckpointError, match=r"digest|version"):
        load_checkpoint(scratch / "bad.pt")


def test_checkpoint__without_its_digest_is_refused(scratch, saved_checkpoint):
    payload = torch.load(scratch / "good.pt", weights_only=True)
    del payload["digest"]
    torch.save(payload, scratch / "bad.pt")
    with pytest.raises(CheckpointError, match="digest"):
        load_checkpoint(scratch / "bad.pt")


@pytest.mark.parametrize("name", ["\udcff.npz", "ü\n\x1b.npz", "[red]:smile:{0}%s"])
def test_checkpoint__keeps_odd_names(scratch, name):
    """Bytes of a path that are no UTF-8 do not make a checkpoint that cannot be read."""
    old = load_checkpoint(CHECKPOINT)
    dataset = {"name": "npz", "path": name, "label": name, "digest": "d", "size": "32x48"}
    save_checkpoint(scratch / "odd.pt", Checkpoint(old.spec, dataset, {"data": name}))
    assert load_checkpoint(scratch / "odd.pt").dataset == dataset
    assert load_checkpoint(scratch / "odd.pt").training == {"data": name}


def test_checkpoint__with_a_wrong_data_set_is_not_written(scratch):
    with pytest.raises(CheckpointError, match="name, path, label, digest and size"):
        save_checkpoint(scratch / "never.pt", Checkpoint(load_checkpoint(CHECKPOINT).spec, {"name": "digits"}))
    assert not (scratch / "never.pt").exists()


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 2**70) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2) | st.integers(0, 3), inner, max_size=3),
    max_leaves=8)


def same(a, b) -> bool:
    """Equality that tells 1, 1.0 and True apart, and -0.0 from 0.0."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float):
        return (math.isnan(a) and math.isnan(b)) or (a == b and math.copysign(1, a) == math.copysign(1, b))
    return a == b


@given(VALUES, VALUES)
def test_content_digest__is_equal_for_equal_values_only(a, b):
    assert (content_digest(a) == content_digest(b)) == same(a, b)
    assert content_digest(copy.deepcopy(a)) == content_digest(a)


@given(st.permutations(list("abcd")))
def test_content_digest__does_not_depend_on_the_order_of_keys(keys):
    assert content_digest({key: ord(key) for key in keys}) == content_digest({key: ord(key) for key in "abcd"})


@pytest.mark.parametrize(("a", "b"), [
    (torch.zeros(2), torch.zeros(2, 1)), (torch.zeros(2), torch.zeros(2, dtype=torch.int32)),
    (torch.zeros(2), -torch.zeros(2)), (torch.zeros(()), torch.zeros(1)), (torch.zeros(2), "zeros"),
    (torch.zeros(0), torch.zeros(0, 2))])
def test_content_digest__of_tensors_tells_types_shapes_and_bits_apart(a, b):
    assert content_digest(a) != content_digest(b)


@pytest.mark.parametrize("value", [(1, 2), {1.5: 2}, b"bytes", torch.zeros(4)[::2], torch.nn.Parameter(torch.zeros(2)),
                                   np.float64(1), {"a": {(1,): 2}}])
def test_content_digest__refuses_what_is_no_plain_data(value):
    with pytest.raises(CheckpointError, match=r"holds|key"):
        content_digest(value)


def test_save_payload__makes_plain_data_of_what_training_has(scratch):
    strange = {"a": (1, np.float32(0.5)), "b": torch.arange(6.0).view(2, 3).T, "c": network().state_dict()}
    save_payload(scratch / "plain.pt", strange)
    payload = torch.load(scratch / "plain.pt", weights_only=True)
    digest = payload.pop("digest")
    assert digest == content_digest(payload)
    assert payload["a"] == [1, 0.5]
    assert torch.equal(payload["b"], strange["b"])
    assert type(payload["c"]) is dict


# states of unfinished runs

def state_content(file):
    loaded = ResumeState.load(file)
    return content_digest({field.name: getattr(loaded, field.name) for field in dataclasses.fields(loaded)})


@pytest.fixture(scope="module")
def saved_state(scratch):
    state().save(scratch / "good-resume.pt")
    return (scratch / "good-resume.pt").read_bytes(), state_content(scratch / "good-resume.pt")


@given(data=st.data())
@examples(200)
def test_resume_state__damaged_is_refused_or_equal(scratch, saved_state, data):
    content, wanted = saved_state
    (scratch / "resume.pt").write_bytes(data.draw(damages(content)))
    assert_one_line_or_equal(scratch / "resume.pt", state_content, CheckpointError, wanted)


def test_resume_state__restores_networks_and_optimizer(scratch, saved_state):
    loaded = ResumeState.load(scratch / "good-resume.pt")
    assert loaded.checked
    model, partner = network(), network()
    optimizer = optimizer_of(model)
    loaded.restore(model, partner, optimizer)
    wanted = state()
    assert all(torch.equal(value, wanted.model[key]) for key, value in model.state_dict().items())
    momentum = [wanted.optimizer["state"][key]["momentum_buffer"] for key in sorted(wanted.optimizer["state"])]
    for mine, theirs in zip(optimizer.state_dict()["state"].values(), momentum, strict=True):
        assert torch.equal(mine["momentum_buffer"], theirs)


def old_state(scratch, **changes) -> Path:
    """A state as the version before wrote it."""
    content = {key: value for key, value in state().__dict__.items() if key != "checked"}
    torch.save({"format": BEFORE, **content, **changes}, scratch / "old.pt")
    return scratch / "old.pt"


def test_resume_state__of_before_loads_and_says_so(scratch):
    loaded = ResumeState.load(old_state(scratch))
    assert not loaded.checked
    loaded.restore(model := network(), network(), optimizer_of(model))


@pytest.mark.parametrize("change", [
    {"step": 2}, {"epoch": "2"}, {"epoch": True}, {"epoch": 3}, {"epoch": -1}, {"model": None}, {"model": {"a": [1]}},
    {"optimizer": {}}, {"optimizer": {"state": [], "param_groups": []}}, {"best": {}}, {"history": {}}, {"history": [1, 2]},
    {"history": [{"epoch": 2, "validation_accuracy": 1.0}]}, {"partner": {"model": {}}}, {"partner": 7}, {"surplus": 1},
    {"best": {"accuracy": 20.0, "loss": 0.5, "epoch": 9, "model": {}}}, {"format": "bittrue-resume-9"}, {"format": None}])
def test_resume_state__with_a_wrong_entry_is_one_line(scratch, change):
    with pytest.raises(CheckpointError) as caught:
        ResumeState.load(old_state(scratch, **change))
    assert len(str(caught.value).splitlines()) == 1
    assert "delete it to begin the step again" in str(caught.value)


def momentum(**changes):
    content = state().optimizer
    content["state"][0].update(changes)
    return content


@pytest.mark.parametrize("change", [
    {"model": {}}, {"model": {key: value.double() for key, value in state().model.items()}},
    {"best": {"accuracy": 20.0, "loss": 0.5, "epoch": 2, "model": {}}}, {"partner": {}},
    {"optimizer": momentum(momentum_buffer=torch.zeros(7))}, {"optimizer": momentum(momentum_buffer="much")},
    {"optimizer": {"state": {99: {}}, "param_groups": state().optimizer["param_groups"]}},
    {"optimizer": {"state": {}, "param_groups": []}},
    {"optimizer": {"state": {}, "param_groups": [{**state().optimizer["param_groups"][0], "lr": "fast"}]}}])
def test_resume_state__of_another_network_or_optimizer_is_one_line(scratch, change):
    loaded = ResumeState.load(old_state(scratch, **change))
    model = network()
    before = content_digest(dict(model.state_dict()))
    with pytest.raises(CheckpointError) as caught:
        loaded.restore(model, network(), optimizer_of(model))
    assert len(str(caught.value).splitlines()) == 1
    assert content_digest(dict(model.state_dict())) == before


def test_resume_state__says_its_format(scratch, saved_state):
    assert torch.load(scratch / "good-resume.pt", weights_only=True)["format"] == FORMAT


# records

ANY = {"kind": "note", "numbers": [1, 2.5, -0.0, 1e308, 2**70], "text": "ü\n\x1b\udcff", "none": None, "deep": {"a": [{}]}}


@given(data=st.data())
@examples(300)
def test_record__damaged_is_refused_or_equal(scratch, data):
    write_record(scratch / "good.json", ANY)
    wanted = read_record(scratch / "good.json")
    (scratch / "bad.json").write_bytes(data.draw(damages((scratch / "good.json").read_bytes())))
    assert_one_line_or_equal(scratch / "bad.json", read_record, RecordError, wanted)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=20)


@given(st.dictionaries(st.text(), PLAIN, max_size=5).map(lambda record: {**record, "kind": "note"}))
def test_record__survives_writing(scratch, record):
    write_record(scratch / "any.json", record)
    found = read_record(scratch / "any.json", "note")
    assert found.pop("schema") == 2
    assert found.pop("digest").startswith("sha256:")
    assert same(found, {key: value for key, value in record.items() if key not in ("schema", "digest")})


def test_record__that_is_written_again_has_a_new_digest(scratch):
    write_record(scratch / "twice.json", {"kind": "note", "a": 1})
    record = read_record(scratch / "twice.json")
    write_record(scratch / "twice.json", {**record, "a": 2})
    assert read_record(scratch / "twice.json")["a"] == 2


@pytest.mark.parametrize("content", [
    b"", b"{", b"[]", b"7", b'"x"', b"null", b'{"kind": "note", "a": NaN}', b'{"a": -Infinity}', b'{"a": 1, "a": 2}',
    b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", b"\xff\xfe{}", b'{"a": "\xff"}', b'{"a": ' + b"9" * 5000 + b"}",
    b'{"schema": 2}', b'{"digest": "sha256:0"}', b'{"schema": 3, "digest": "x"}', b'{"schema": true, "digest": "x"}',
    b'{"schema": 2, "digest": 5}', b'{"schema": 2, "digest": "x", "a": 1e999}', b"\x00" * 100, b'{"a": 1}{}',
    b'{"schema": ' + b"[" * 900 + b"]" * 900 + b'}'])
def test_record__that_is_none_is_one_line(scratch, content):
    (scratch / "bad.json").write_bytes(content)
    with pytest.raises(RecordError) as caught:
        read_record(scratch / "bad.json")
    assert len(str(caught.value).splitlines()) == 1
    assert str(caught.value).startswith(f"{scratch}/bad.json: ")


@pytest.mark.parametrize("record", [{"a": math.nan}, {"a": math.inf}, {"a": {1, 2}}, {"a": np.float32(1)}])
def test_record__of_what_json_cannot_hold_is_not_written(scratch, record):
    with pytest.raises((TypeError, ValueError)):
        write_record(scratch / "never.json", record)
    assert not (scratch / "never.json").exists()


def test_record__of_another_kind_is_refused(scratch):
    write_record(scratch / "note.json", {"kind": "note\n"})
    with pytest.raises(RecordError, match=r"it is a record of kind note\\n, and one of kind training is wanted"):
        read_record(scratch / "note.json", "training")


def test_records__that_are_committed_are_read():
    files = sorted(RECORDS.rglob("*.json"))
    assert len(files) > 300
    for file in files:
        word = Path(file.stem).suffix[1:] or file.stem
        assert read_record(file, {"train": "training", "eval": "evaluation"}.get(word, word))["commit"]


OLD = {kind: json.loads((RECORDS / name).read_text()) for kind, name in (
    ("training", "digits/takd-32-8-4-2-seed0.train.json"), ("evaluation", "digits/takd-32-8-4-2-seed0.eval.json"),
    ("performance", "performance.json"), ("conformance", "conformance.json"),
    ("runtimes", "mlperf_kws_int8.runtimes.json"), ("registers", "resnet20-sqakd-2bit.registers.json"))}


def needed(shape, where=()):
    """The way to every entry that a shape asks for; of a list the first."""
    for key, inner in shape.items():
        if key != "*" and not key.endswith("?"):
            yield (*where, key)
        if isinstance(inner, dict) and key != "*":
            yield from needed(inner, (*where, key.removesuffix("?")))


WAYS = [(kind, way) for kind, shape in SHAPES.items() for way in needed(shape)]


@pytest.mark.parametrize(("kind", "way"), WAYS, ids=[".".join([kind, *way]) for kind, way in WAYS])
@pytest.mark.parametrize("value", [None, True, [], {"x": {}}, "missing"])
def test_record__of_before_with_a_wrong_entry_is_refused(scratch, kind, way, value):
    record = copy.deepcopy(OLD[kind])
    inner = record
    for key in way[:-1]:
        inner = inner[key]
    if value == "missing":
        del inner[way[-1]]
    elif type(value) is type(inner[way[-1]]):
        return
    else:
        inner[way[-1]] = value
    (scratch / "old.json").write_text(json.dumps(record))
    with pytest.raises(RecordError, match=r"old\.json: "):
        read_record(scratch / "old.json", kind)
