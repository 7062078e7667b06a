"""Golden data that others published, case by case against this simulator: python -m sim.conformance FOLDER."""
