"""Bit-true simulation of low-precision networks in integers (numpy and numba, no torch)."""

from sim.version import __version__

__all__ = ["__version__"]
