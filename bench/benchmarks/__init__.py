"""asv benchmarks: they need only numpy, numba and sim."""
