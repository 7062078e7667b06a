"""Benchmarks: benchmarks/ for asv, speed.py side by side in one run."""
