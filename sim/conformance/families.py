"""The families of golden data, by name.  A new one is a file beside this, with `find`, and a row here."""

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

from sim.conformance import cmsis_nn, onnx_cases, pulp, qonnx, tflite, tosa
from sim.conformance.case import Case
from sim.conformance.folder import Folder

FAMILIES: Mapping[str, Callable[[Folder], Iterator[Case]]] = MappingProxyType({
    "cmsis-nn": cmsis_nn.find,
    "tosa": tosa.find,
    "tflite": tflite.find,
    "onnx": onnx_cases.find,
    "qonnx": qonnx.find,
    "deeploy": pulp.find_deeploy,
    "dory": pulp.find_dory,
})
"""name -> find(folder): its cases below a folder, in any order, none of which is read yet"""
