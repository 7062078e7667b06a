"""Spans as rows of choices: losses by hand, padding that nobody may choose, what makes no sense for texts."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from sim.tasks import TASKS as MEASURES
from training.losses import distillation_cosine, distillation_kl, hinton_loss
from training.tasks import CLASSIFICATION, TASKS

SPANS = TASKS["spans"]


def test_tasks__have_the_names_of_the_other_half():
    assert TASKS.keys() == MEASURES.keys()
    assert all(task.measures.name == name for name, task in TASKS.items())


def test_classification__is_rows_as_they_are():
    logits, labels = torch.randn(3, 4), torch.tensor([0, 3, 1])
    assert CLASSIFICATION.rows(logits, logits) is logits
    assert CLASSIFICATION.targets(labels) is labels
    assert CLASSIFICATION.real(logits) is None


def softmax(values):
    exponents = [math.exp(value) for value in values]
    return [value / sum(exponents) for value in exponents]


def batch(seed, count=3, tokens=6):
    """Logits, ids with padding behind, labels among the real tokens."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(2, tokens + 1, (count,), generator=generator)
    ids = torch.randint(1, 50, (count, tokens), generator=generator) * (torch.arange(tokens) < lengths[:, None])
    labels = (torch.rand(count, 2, generator=generator) * lengths[:, None]).long()
    return torch.randn(count, 2, tokens, 1, generator=generator, requires_grad=True), ids, labels, lengths.tolist()


@given(st.integers(0, 2**31))
def test_span_loss__is_the_mean_of_begin_and_end_over_real_tokens(seed):
    logits, ids, labels, lengths = batch(seed)
    loss = F.cross_entropy(SPANS.rows(logits, ids), SPANS.targets(labels))
    each = []
    for number, length in enumerate(lengths):
        for end in (0, 1):
            chances = softmax(logits[number, end, :length, 0].tolist())
            each.append(-math.log(chances[labels[number, end]]))
    assert loss.item() == pytest.approx(sum(each) / len(each), rel=1e-5)


@given(st.integers(0, 2**31), st.sampled_from([0.001, 1.0, 4.0, 1000.0]))
def test_distances__are_means_of_both_ends_and_padding_has_no_gradient(seed, temperature):
    student, ids, labels, lengths = batch(seed)
    teacher = batch(seed + 1)[0]
    rows, other = SPANS.rows(student, ids), SPANS.rows(teacher, ids)
    for distance in (distillation_kl, distillation_cosine):
        found, by_row = distance(rows, other, temperature), []
        for number, length in enumerate(lengths):
            for end in (0, 1):
                pair = (values[number : number + 1, end, :length, 0] for values in (student, teacher))
                by_row.append(distance(*pair, temperature).item())
        assert found.item() == pytest.approx(sum(by_row) / len(by_row), rel=1e-5, abs=1e-12)
    hinton_loss(rows, other, SPANS.targets(labels), weight=0.5, temperature=temperature).backward()
    assert torch.isfinite(student.grad).all()
    assert not student.grad[:, :, :, 0].masked_select((ids == 0)[:, None]).any()
    assert teacher.grad is None


@given(st.integers(0, 2**31), st.integers(1, 9))
def test_span_loss__is_the_same_with_a_longer_padding(seed, more):
    logits, ids, labels, _ = batch(seed)
    longer = torch.cat([logits, torch.full((3, 2, more, 1), 1e6)], 2)
    padded = F.pad(ids, (0, more))
    for loss in (lambda rows: F.cross_entropy(rows, SPANS.targets(labels)),
                 lambda rows: distillation_kl(rows, torch.zeros_like(rows) + (rows < -1e8) * -1e9, 2.0)):
        assert loss(SPANS.rows(longer, padded)).item() == pytest.approx(loss(SPANS.rows(logits, ids)).item(), rel=1e-5)
