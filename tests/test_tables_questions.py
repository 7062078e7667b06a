"""Tables and claims of networks that answer questions, made of records whose scores are known."""

import copy

import numpy as np
import pytest

from sim.tasks.task import interval
from tests import records
from training.report.catalog import Report
from training.report.claims import judge
from training.tables import make_tables

SCORES = {"retrained": [0.0, 1.0, 0.5, 0.5] * 50, "taught": [0.5, 1.0, 0.5, 1.0] * 50, "worse": [0.0, 0.5, 0.5, 0.0] * 50}
CONFIG = {"dataset": "squad", "data": "squad", "model": "minilm", "width": 384, "preset": "squad", "path": [3],
          "quantizer": "interval_channel", "calibration": "mse"}
SAYS = "On questions (SQuAD), SPEQ at 3 bits is better than retraining: F1 85.1 instead of 81.4 with BERT."


def run_of(folder, name, scores, *, seed=0, scheme="individual", path=(3,), **config):
    """A run with its evaluation, whose F1 is the mean of the scores."""
    own = {"init_from": "runs/float/ckpt.pt"} if scheme == "individual" else {"teacher": "runs/float/ckpt.pt"}
    f1 = 100.0 * float(np.mean(scores))
    run = records.training(f1, images=len(scores), **{**CONFIG, "scheme": scheme, "path": list(path), "seed": seed, **own,
                                                      **config})
    run["test"] |= {"f1": f1, "em": f1 / 2}
    run["data"] = {"label": "SQuAD 1.1"}
    records.write(folder, f"{name}-seed{seed}.train.json", run)
    result = evaluated(run, scores, f"runs/{name}-{seed}/ckpt.pt")
    records.write(folder, f"{name}-seed{seed}.eval.json", result)
    return run


def evaluated(run, scores, model, definitions=None, **changes):
    found = records.evaluation(run, dataset="SQuAD 1.1", model=model, **changes)
    f1 = 100.0 * float(np.mean(scores))
    found["precision"] = found["trained_precision"] = {"inner": 3, "boundary": 8, "skip": 8}
    found["result"] |= {"accuracy": f1, "f1": f1, "em": f1 / 2, "scores": {"f1": list(scores), "em": list(scores)}}
    found |= {"redefined": definitions or {}, "definitions": {"softmax": "exact", "gelu": "exact", "norm": "exact",
                                                              **(definitions or {})}}
    return found


def test_table__has_students_with_intervals_and_definitions_by_register(tmp_path):
    run = run_of(tmp_path, "individual", SCORES["retrained"])
    run_of(tmp_path, "speq", SCORES["taught"], scheme="speq", path=(32, 3))
    for name, accumulator in (("itamax", 16), ("itamax", 14), ("exact", 16)):
        other = evaluated(copy.deepcopy(run), SCORES["worse"], "runs/individual-0/ckpt.pt", {"softmax": name} if
                          name != "exact" else None, accumulator=accumulator)
        records.write(tmp_path, f"{name}-{accumulator}.eval.json", other)
    made = make_tables(tmp_path)
    assert {"squad.md", "squad.csv"} <= made.keys()
    assert not {"schemes.md", "accuracy.md", "accumulators.md", "evaluations.md"} & made.keys()
    lines = [" ".join(line.replace("|", " ").split()) for line in made["squad.md"].splitlines()]
    low, high = interval(np.array(SCORES["taught"]))
    speq = next(line for line in lines if line.startswith("speq 32-3"))
    assert speq.endswith(f"37.50 75.00 37.50 75.00 {low:.2f} to {high:.2f}")
    assert "codes that differ 0 of 1,000" in made["squad.md"]
    header = next(line for line in lines if line.startswith("bits network"))
    assert "softmax gelu norm unlimited 16 bit wrap 14 bit wrap" in header
    assert not any(line.startswith("minilm, speq") for line in lines)  # nothing else was run of it: it is a student alone
    row = next(line for line in lines if "itamax" in line)
    assert row.endswith("itamax exact exact - 25.00 25.00")


@pytest.mark.parametrize(("scores", "word"), [("taught", "confirmed"), ("worse", "refuted"), ("retrained", "open")])
def test_claim__of_questions_is_answered_by_their_bootstrap(tmp_path, scores, word):
    for seed in (0, 1):
        run_of(tmp_path, "individual", SCORES["retrained"], seed=seed)
    run_of(tmp_path, "speq", SCORES[scores], scheme="speq", path=(32, 3))
    run_of(tmp_path, "random", SCORES["worse"], init_from="")  # not from float weights: no retraining
    report = Report.of([tmp_path])
    judged = {each.claim.says: each for each in judge(report.groups, [], report.answering)}[SAYS]
    assert judged.word == word
    answer, = judged.answers
    assert answer.n == 1
    assert answer.difference == pytest.approx(100 * (np.mean(SCORES[scores]) - np.mean(SCORES["retrained"])))
    assert answer.low <= answer.difference <= answer.high


def test_claim__without_runs_is_not_run(tmp_path):
    run_of(tmp_path, "individual", SCORES["retrained"])
    report = Report.of([tmp_path])
    assert {each.claim.says: each.word for each in judge(report.groups, [], report.answering)}[SAYS] == "not run"
