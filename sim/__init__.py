"""Bit-true simulation of low-precision networks in integers (numpy and numba, no torch)."""
