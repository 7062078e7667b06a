"""The checks that own parts are held to: what is built in passes them, and each finds the fault that it is for."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sim import reference
from sim.network import Conv, Graph
from sim.requantizers import REQUANTIZERS
from sim.requantizers.fp32 import Fp32
from sim.requantizers.tflite_single import TfliteSingle
from tests.conftest import INTERPRETED
from training.models import MODELS
from training.quantizers import QUANTIZERS
from training.schemes import SCHEMES
from training.testing import check_model, check_quantizer, check_requantizer, check_scheme

ROOT = Path(__file__).resolve().parent.parent
FEW = 5 if INTERPRETED else 20


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", sorted(QUANTIZERS))
def test_built_in_quantizers__pass(name):
    check_quantizer(name, examples=FEW)


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ["fp32", "tflite_single", "int16", "ruy_blocks"])  # test_requantizers.py has the others
def test_built_in_requantizers__pass(name):
    check_requantizer(name, examples=FEW)


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", sorted(SCHEMES))
def test_built_in_schemes__pass(name):
    check_scheme(name)


@pytest.mark.exhaustive
def test_built_in_model__passes():
    check_model("resnet8", examples=2)


def broken(name, **methods):
    """The example's quantizer with some methods of its twin replaced, under a new name."""
    good = QUANTIZERS.find(f"{ROOT}/examples/my_quantizer.py:ABSMAX")
    twin = type("Twin", (type(good.twin),), methods)()
    QUANTIZERS.add(name, type("Broken", (type(good),), {"twin": twin})())
    return name


@pytest.mark.parametrize(("name", "methods", "message"), [
    ("other codes", {"weight_codes": lambda self, weight, bits, learned: (
        np.floor(weight.astype(np.float64) / max(float(np.abs(weight.astype(np.float64)).max()), 2.0**-20)
                 * (2**(bits - 1) - 1)).astype(np.int32),
        max(float(np.abs(weight.astype(np.float64)).max()), 2.0**-20) / (2**(bits - 1) - 1))}, "weight codes"),
    ("other scales", {"activation_scale": lambda self, bits, limit, learned: limit / 2**bits}, "scales of activations"),
    ("other widths", {"check": lambda self, bits: None}, "widths are"),
    ("other names", {"activation_parameters": lambda self: {"alpha": (1,)}}, "what is learned"),
])
def test_check_quantizer__finds_what_differs_between_the_halves(name, methods, message):
    with pytest.raises(AssertionError, match=message):
        check_quantizer(broken(name, **methods), examples=FEW)


def test_check_requantizer__finds_a_kernel_that_is_not_its_oracle():
    class Off(TfliteSingle):
        name = "off_by_one"

        @staticmethod
        def oracle(total, channel, skip, constants, limits):
            low, high = limits or (-(2**27), 2**27 - 1)
            return min(max(reference.tflite_single(total, channel, skip, constants, limits) + 1, low), high)

    REQUANTIZERS.add("off", Off)
    with pytest.raises(AssertionError, match="oracle"):
        check_requantizer("off", examples=FEW)


def test_check_requantizer__finds_codes_that_are_far_from_fp32():
    class Twice(Fp32):
        name = "twice"
        oracle = staticmethod(reference.fp32)

        @classmethod
        def build(cls, affine, target):
            return super().build(dataclasses.replace(affine, gain=affine.gain * 2.0), target)

    REQUANTIZERS.add("twice", Twice)
    with pytest.raises(AssertionError, match="within one code of fp32"):
        check_requantizer("twice", examples=FEW)


def test_check_model__finds_a_network_that_only_knows_one_size():
    def small(image, classes, width):
        return Graph((image, Conv("classifier", "image", classes, 32, role="boundary", norm=False)))

    MODELS.add("small", small)
    with pytest.raises(ValueError, match="kernel 32 is larger"):
        check_model("small")


def test_check_scheme__finds_a_student_of_another_width():
    scheme = dataclasses.replace(SCHEMES["individual"], default_path=lambda bits: (4,))
    SCHEMES.add("always four", scheme)
    with pytest.raises(AssertionError, match="the last step has 4 bits"):
        check_scheme("always four")


@pytest.mark.skipif(INTERPRETED, reason="its programs are commands, which compile")
@pytest.mark.exhaustive
@pytest.mark.parametrize("script", ["check_mine.py", "python_face.py"])
def test_example__runs(script, tmp_path):
    result = subprocess.run([sys.executable, ROOT / "examples" / script, *([tmp_path / "run"] if "face" in script else [])],
                            capture_output=True, text=True, check=False, cwd=ROOT,
                            env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(Path.home())})
    assert result.returncode == 0, result.stderr
