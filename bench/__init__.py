"""asv benchmarks of the simulator's kernels."""
