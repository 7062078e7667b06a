""".tflite files: int8 and int16 networks of TensorFlow Lite, with weights of 8 or 4 bits, on the arithmetic of a runtime."""

from sim.importers.tflite.reader import read

__all__ = ["read"]
