"""Benchmarks: benchmarks/ for asv, peers.py for other implementations beside ours in one run."""
