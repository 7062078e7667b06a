"""Loops only: compiled by numba, called by machine.py and the requantizers, checked against reference.py."""
